"""Exported networks say what the network says: every kind of it, in another process, without what made them."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
from conftest import ROOT, tone, without_progress

from audiojax import cli, models, schema
from audiojax.data import loading
from audiojax.errors import InputError
from audiojax.exporting import onnx_graphs, stablehlo, verify
from audiojax.inference import Trained
from audiojax.io import files as disk
from audiojax.streaming.recognizer import Recognizer, Recognizers

pytestmark = pytest.mark.slow
LISTENER = dict(
    task="streams", readout="last", stack_frames=2, channels=(3, 5), dense=8, normalise="running", num_layers=2
)
RECURRENT = {
    "plain": dict(),
    "deep": dict(normalise="running", stack_frames=3, dense=12, num_layers=2, readout="last_and_mean"),
    "filterbank": dict(frontend="filterbank"),
    "learned": dict(frontend="learned", cell="min_gru", readout="running"),
    "convolutions": dict(channels=(4, 3), num_bands=27),
    "raw": dict(frontend="raw", hop_samples=10, normalise="none", mask_padding=False, readout="last"),
    "one sample a step": dict(frontend="raw", hop_samples=1, normalise="running", normalise_decay=0.9, readout="last"),
    "listener": LISTENER,
    "counting listener": LISTENER | {"counts": True},
    "no context": dict(cell="min_gru", num_layers=2, window_samples=80, normalise="none"),
    "other windows": dict(window_samples=256, hop_samples=100, low_hz=100.0, high_hz=3500.0),
}
CONVOLUTIONAL = {
    "batch_norm": (dict(), 256),
    "becker": (dict(variant="becker", scale="percentile", batch_norm=False), 256),
    "becker, odd": (dict(variant="becker", scale="none"), 301),
    "no batch_norm": (dict(batch_norm=False, relu_on_logits=True), 301),
}
RESIDUAL = {
    "melcnn": dict(name="melcnn", channels=(3, 4, 5), silence_samples=160),
    "melcnn, learned": dict(name="melcnn", channels=(3, 4), frontend="learned", normalise="fixed"),
    "melcnn, filterbank": dict(name="melcnn", channels=(3, 4), frontend="filterbank", normalise="none", num_bands=27),
    "resnet1d": dict(name="resnet1d", channels=(3, 4, 5)),
    "resnet1d, odd": dict(name="resnet1d", channels=(3, 4), window_samples=33, scale="percentile"),
}
# What a process may not import, and then what it does.
ALONE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def randomly(model, num_samples, seed=0):
    """Variables that no training has made, of which none is a zero or a one."""
    rng = np.random.default_rng(seed)
    inputs = np.zeros((1, num_samples), np.int16), np.full(1, num_samples, np.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))

    def fill(path, leaf):
        if path[-1].key == "var":
            return rng.uniform(0.5, 2, leaf.shape).astype(np.float32)
        spread = 1.5 / np.sqrt(np.prod(leaf.shape[:-1])) if path[-1].key == "kernel" else 0.2
        return (rng.normal(0, spread, leaf.shape) + (path[-1].key == "scale")).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def gru(**fields):
    model = models.build(name="gru", num_labels=10, rate_hz=8000, **{"features": 16, **fields})
    return model, randomly(model, 800)


def audionet(fields, num_samples):
    model = models.build(name="audionet", num_labels=10, rate_hz=8000, **fields)
    return model, randomly(model, num_samples)


def sounds(num_samples, seed=0):
    """Three clips of one batch, two of which end before it does."""
    audio = np.random.default_rng(seed).integers(-9000, 9000, (3, num_samples)).astype(np.int16)
    length = np.asarray([num_samples, num_samples // 2, 1], np.int32)
    audio[np.arange(num_samples) >= length[:, None]] = 0
    return audio, length


def opened(content):
    """A session of one thread: several would wait for each other, busily, where the cores have other work."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options)


def answers(content, **inputs):
    """The outputs of an ONNX graph by name."""
    session = opened(content)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def close(one, other, atol=1e-5):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("fields", RECURRENT.values(), ids=RECURRENT)
def test_recurrent_graphs_are_the_network_whole_and_in_steps(fields):
    model, variables = gru(**fields)
    audio, length = sounds(1501)
    own = jax.jit(model.apply)(variables, audio, length)
    content = onnx_graphs.classifier(model, variables, 8000)
    close(answers(content, audio=audio, length=length)["outputs"], own)
    if model.mask_padding:
        close(answers(content, audio=audio[1:2, :901], length=length[1:2])["outputs"], own[1:2])

    content, size = onnx_graphs.step(model, variables), model.step_samples
    for rows in (slice(3), slice(1)):
        whole = np.pad(audio[rows], ((0, 0), (0, -1501 % size)))
        said = in_steps(
            content, verify.initial_carry(model, len(whole)), np.split(whole, whole.shape[1] // size, axis=1)
        )
        close(said[-1][:1], own[:1])
        if model.mask_padding:
            close([said[-(-n // size) - 1][row] for row, n in enumerate(length[rows])], own[rows])
        else:
            close(said[-1], own[rows])


def in_steps(content, carry, hops):
    """The outputs after each of the hops."""
    session = opened(content)
    said = []
    for hop in hops:
        outputs, *after = session.run(None, {"audio": hop, **carry})
        carry = dict(zip(carry, after, strict=True))
        said.append(outputs)
    return said


@pytest.mark.parametrize("fields, num_samples", CONVOLUTIONAL.values(), ids=CONVOLUTIONAL)
def test_convolutional_graphs_are_the_network(fields, num_samples):
    model, variables = audionet(fields, num_samples)
    audio, length = sounds(num_samples)
    own = jax.jit(model.apply)(variables, audio, length)
    content = onnx_graphs.classifier(model, variables, num_samples)
    size = np.maximum(1, abs(own).max(axis=1, keepdims=True))  # a click's percentile is 0, and its logits are vast
    close(answers(content, audio=audio, length=length)["outputs"] / size, own / size)
    close(answers(content, audio=audio[1:2], length=length[1:2])["outputs"] / size[1:2], own[1:2] / size[1:2])


@pytest.mark.parametrize("fields", RESIDUAL.values(), ids=RESIDUAL)
def test_residual_graphs_are_the_network_for_sound_of_any_length(fields):
    model = models.build(num_labels=10, rate_hz=8000, **fields)
    variables, call = randomly(model, 800), jax.jit(model.apply)
    session = opened(onnx_graphs.classifier(model, variables, 800))
    for num_samples in (801, 1501):
        audio, length = sounds(num_samples)
        own, (ours,) = call(variables, audio, length), session.run(None, {"audio": audio, "length": length})
        size = np.maximum(1, abs(own).max(axis=1, keepdims=True))  # a click's percentile is 0, and its logits are vast
        close(ours / size, own / size, atol=2e-5)
    close(session.run(None, {"audio": audio[1:2], "length": length[1:2]})[0] / size[1:2], ours[1:2] / size[1:2])


@pytest.mark.parametrize("kind", ["plain", "learned", "raw", "listener", "batch_norm"])
def test_programs_are_the_network_for_any_batch_and_have_its_gradient(kind):
    num_samples = 256 if kind in CONVOLUTIONAL else 1501
    model, variables = audionet(dict(), 256) if kind in CONVOLUTIONAL else gru(**RECURRENT[kind])
    classify = stablehlo.load(stablehlo.classifier(model, variables, num_samples))
    audio, length = sounds(num_samples)
    audio = audio.astype(np.float32)
    own = jax.jit(model.apply)(variables, audio, length)
    close(classify(audio, length), own)
    shorter = audio[1:2, :901] if getattr(model, "mask_padding", False) else audio[1:2]
    close(classify(shorter, length[1:2]), own[1:2])
    if kind in ("plain", "batch_norm"):
        theirs = jax.jit(jax.grad(lambda audio: classify(audio, length)[:, 3].sum()))(audio)
        ours = jax.jit(jax.grad(lambda audio: model.apply(variables, audio, length)[:, 3].sum()))(audio)
        assert abs(ours).max() > 0
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-4 * float(abs(ours).max()))


@pytest.fixture(scope="module")
def listener(tones, tmp_path_factory) -> Trained:
    """A network that listens, of random parameters; it is so sure of itself that it says something."""
    cache = tmp_path_factory.mktemp("cache")
    args = [f"--config={ROOT}/configs/listen.py:audiomnist,split=random", f"--config.data.root={tones}"]
    args += [
        f"--config.data.cache={cache}",
        "--config.model.features=16",
        "--config.model.dense=8",
        "--config.model.counts=True",
        "--config.decoder.ema_decay=0.4",
        "--config.decoder.threshold=0.5",
    ]
    args += ["--config.train.length_samples=1120", "--config.train.batch_size=20"]
    config = cli.parse_with_config(cli.parser("test", ""), args)[1]
    clips = loading.load_clips(config)
    model = models.build(**config.model, task=config.task, num_labels=10, rate_hz=8000)
    variables = randomly(model, 1120, seed=1)
    variables["params"]["logits"]["kernel"] *= 10
    variables["params"]["logits"]["bias"][-1] = 5
    variables["params"]["more"]["kernel"] *= 10  # so that some words stand for several
    data = {"source": clips.source, "key": clips.key, "label_names": list(clips.label_names)}
    return Trained(config, data, model, variables, 7)


@pytest.fixture(scope="module")
def exported(listener, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "listener"
    return out, *verify.write(listener, out)


@pytest.fixture
def traced(exported, monkeypatch):
    """Its programs are not made again, which takes a second each."""
    for name in ("classifier", "step"):
        content = (exported[0] / f"{name}.stablehlo").read_bytes()
        monkeypatch.setattr(stablehlo, name, lambda *_, content=content: content)


def alone(refused, script, *args):
    code = ALONE.format(refused=refused)
    done = subprocess.run([sys.executable, "-I", "-c", code, script, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_hears_the_same_events_without_jax(listener, exported, tmp_path):
    rng = np.random.default_rng(1)
    sound = np.concatenate([np.concatenate([tone(label, 1, 0), rng.normal(0, 0.02, 1500)]) for label in range(10)])
    recognizer = Recognizer(Recognizers.from_run(listener))
    for cut in range(len(sound), 0, -373):  # until the end is an event too
        soundfile.write(tmp_path / "sound.wav", sound[:cut], 8000)
        recognizer.reset()
        heard = recognizer.feed(soundfile.read(tmp_path / "sound.wav", dtype="int16")[0])
        if last := recognizer.flush():
            break
    heard += last
    out = alone(
        {"jax", "flax", "audiojax", "onnx"},
        f"{ROOT}/experiments/streaming/recognize_onnx.py",
        exported[0],
        tmp_path / "sound.wav",
    )
    lines = [line.split() for line in out.splitlines()]
    assert last and len(heard) > 2 and [line[3] for line in lines] == [event.label for event in heard]
    for line, event in zip(lines, heard, strict=True):
        close([float(x) for x in (*line[:3], line[4])], [*event[1:4], event.probability], atol=1e-3)


def test_the_example_says_what_it_cannot_hear(exported, tmp_path):
    soundfile.write(tmp_path / "fast.wav", np.zeros(1600), 16_000)
    script = [sys.executable, f"{ROOT}/experiments/streaming/recognize_onnx.py", exported[0], tmp_path / "fast.wav"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert f"{tmp_path}/fast.wav " in done.stderr and "8000 Hz" in done.stderr


def test_the_example_says_how_to_use_it():
    script = f"{ROOT}/experiments/streaming/recognize_onnx.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: recognize_onnx.py [-h] FOLDER FILE.wav" in done.stdout
    done = subprocess.run([sys.executable, script, "one"], capture_output=True, text=True)
    assert done.returncode == 2 and "required: FILE.wav" in done.stderr


def test_a_fresh_process_runs_the_programs_with_jax_alone(listener, exported, tmp_path):
    audio, length = sounds(1501)
    np.savez(tmp_path / "sound.npz", audio=audio, length=length)
    (tmp_path / "use.py").write_text(
        "import json, sys\nimport jax, jax.export, numpy as np\n"
        "folder, path = sys.argv[1:]\n"
        "def load(name): return jax.export.deserialize(bytearray(open(f'{folder}/{name}.stablehlo', 'rb').read()))\n"
        "sound, about = np.load(path), json.load(open(f'{folder}/manifest.json'))\n"
        "whole = load('classifier').call(sound['audio'].astype(np.float32), sound['length'])\n"
        "carry = {part['name']: np.zeros((3, *part['shape'][1:]), np.float32) for part in about['carry']}\n"
        "step, size = load('step'), about['step_samples']\n"
        "for i in range(3):\n"
        "    carry, said = step.call(carry, sound['audio'][:, i * size:(i + 1) * size])\n"
        "np.savez(path, whole=whole, said=said)\n"
    )
    alone({"flax", "audiojax"}, str(tmp_path / "use.py"), exported[0], tmp_path / "sound.npz")
    theirs = np.load(tmp_path / "sound.npz")
    model, variables = listener.model, listener.variables
    close(theirs["whole"], jax.jit(model.apply)(variables, audio, length), atol=1e-4)
    carry = model.apply(variables, 3, method="initial_carry")  # zeros
    _, said = model.apply(variables, carry, audio[:, : 3 * model.step_samples], method="listen")
    close(theirs["said"], said[:, -1], atol=1e-4)


def test_the_manifest_says_all_that_a_user_needs(listener, exported):
    out, files, checked_on = exported
    about = json.loads((out / "manifest.json").read_text())
    assert {path.name for path in out.iterdir()} == {file.name for file in files} | {"manifest.json", disk.MARKER}
    assert {file.name for file in files} == about["inputs"].keys() == about["parity"]["errors"].keys()
    assert all(file.error < 1e-4 and file.num_bytes == (out / file.name).stat().st_size for file in files)
    assert checked_on.endswith("test clips of audiomnist") and about["parity"]["checked_on"] == checked_on
    assert (about["rate_hz"], about["step_samples"], about["length_samples"]) == (8000, 160, None)
    assert about["label_names"] == list(listener.label_names) and about["checkpoint_step"] == 7
    assert about["outputs"][:10] == about["label_names"] and about["outputs"][10] == "no word"
    assert len(about["outputs"]) == 15
    expected = {"threshold": 0.5, "ema_decay": 0.4, "lead_seconds": 0.5, "lead_amplitude": 4.0}
    assert about["listening"].items() >= expected.items()
    assert about["config"]["model"]["features"] == 16 and "root" not in about["config"]["data"]
    assert "snr_db" in about["config"]["streams"] and not {"real", "strings"} & about["config"]["streams"].keys()
    assert about["source"] == "audiomnist" and about["versions"]["onnx"] == onnx.__version__
    session = onnxruntime.InferenceSession(out / "step.onnx")
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert {part["name"]: part["shape"] for part in about["carry"]} == {k: v for k, v in shapes.items() if k != "audio"}
    after = {value.name: value.shape for value in session.get_outputs()}
    assert after == {"outputs": ["batch", 15], **{part["next"]: part["shape"] for part in about["carry"]}}


def test_the_command_exports_a_run(run_cli, trained_run, tmp_path):
    code, out, err = run_cli("export", "--workdir", trained_run, "--out", tmp_path / "one")
    assert code == 0 and not err
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["classifier.stablehlo", "classifier.onnx"]
    assert "40 test clips of audiomnist" in out and str(tmp_path / "one") in out
    about = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert about["carry"] == [] and about["length_samples"] == 1024 and "listening" not in about
    assert about["outputs"] == about["label_names"]
    onnx.checker.check_model(tmp_path / "one" / "classifier.onnx", full_check=True)


def test_an_export_replaces_an_export_and_nothing_else(run_cli, trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("{}")
    for out in (tmp_path / "mine", workdir, tmp_path):
        before = sorted(tmp_path.rglob("*"))
        code, said, err = run_cli("export", "--workdir", workdir, "--out", out)
        assert code == 1 and "is not replaced" in err and len(err.splitlines()) == 1 and not said
        assert sorted(tmp_path.rglob("*")) == before
    for _ in range(2):
        assert run_cli("export", "--workdir", workdir)[0] == 0
    assert (workdir / "export" / "manifest.json").exists()


def test_export_is_told_what_to_export(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for flags, words in (
        ([], "--workdir --packaged"),
        (["--out", tmp_path / "out"], "--workdir --packaged"),
        (["--packaged"], "--packaged needs --out"),
        (["--packaged", "--workdir", tmp_path], "not allowed with"),
    ):
        code, _, err = run_cli("export", *flags)
        assert code == 2 and words in err and not list(tmp_path.iterdir())


def test_an_export_is_the_same_whenever_it_is_made(listener, exported, tmp_path):
    verify.write(listener, tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (exported[0] / path.name).read_bytes(), path.name
        assert not any(
            place in path.read_bytes() for place in (str(ROOT).encode(), b"site-packages", str(tmp_path).encode())
        )


@pytest.mark.parametrize("graph", ["classifier", "step"])
def test_an_export_that_differs_is_refused_and_leaves_nothing(listener, traced, tmp_path, monkeypatch, graph):
    right = getattr(onnx_graphs, graph)

    def tampered(model, variables, *more):
        variables = jax.tree.map(np.copy, variables)
        variables["params"]["logits"]["bias"][3] += 1e-3
        return right(model, variables, *more)

    monkeypatch.setattr(onnx_graphs, graph, tampered)
    with pytest.raises(InputError, match=rf"{graph}\.onnx.* 1\.0e-03.* 0\.0001"):
        verify.write(listener, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_differs_is_refused_too(listener, exported, tmp_path, monkeypatch):
    others = dataclasses.replace(listener, variables=randomly(listener.model, 1120, seed=2))
    content = (exported[0] / "step.stablehlo").read_bytes()
    monkeypatch.setattr(stablehlo, "step", lambda *_: content)
    with pytest.raises(InputError, match=r"step\.stablehlo"):
        verify.write(others, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_without_its_data_a_run_is_checked_on_clips_made_at_once(listener, traced, tmp_path):
    config = listener.config.copy_and_resolve_references()
    config.data.root, config.data.cache = str(tmp_path / "gone"), str(tmp_path / "cache")
    _, checked_on = verify.write(dataclasses.replace(listener, config=config), tmp_path / "out")
    assert checked_on.startswith("64 synthetic clips, made now (") and str(tmp_path / "gone") in checked_on
    others = dataclasses.replace(listener, data=listener.data | {"key": "other"})
    _, checked_on = verify.write(others, tmp_path / "out")
    assert checked_on.startswith("64 synthetic") and "are not what it was trained on" in checked_on


def test_what_cannot_be_exported_is_one_sentence(listener, tmp_path, monkeypatch):
    model, variables = audionet(dict(), 256)
    model = model.clone(dtype="bfloat16")
    with pytest.raises(InputError, match=r"^config\.model\.dtype.*'bfloat16'.*float32\.$"):
        onnx_graphs.classifier(model, variables, 256)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    with pytest.raises(InputError, match=r"onnx.*pip install -e '\.\[onnx\]'\.$"):
        verify.write(listener, tmp_path / "out")


def test_every_network_is_tried_here():
    """A front end, cell, readout or normalisation that is new needs a graph, and a line in RECURRENT; the networks that
    have no graph yet are refused."""
    from audiojax.models import gru as module
    from audiojax.models.layers import averages, frontend

    tried = [
        {"frontend": "logmel", "cell": "gru", "readout": "mean", "normalise": "fixed", **fields}
        for fields in RECURRENT.values()
    ]
    for name, choices in (("frontend", frontend.FRONT_ENDS), ("cell", module.CELLS), ("readout", averages.READOUTS)):
        assert {fields[name] for fields in tried} == set(choices)
    assert {fields["normalise"] for fields in tried} == set(module.NORMALISATIONS)
    built = {name for name, row in schema.NETWORKS.items() if row.onnx}
    assert built == {"gru", "audionet"} | {fields["name"] for fields in RESIDUAL.values()}  # which are tested above
    for name in schema.NETWORKS.keys() - built:
        with pytest.raises(InputError, match=rf"config\.model\.name.*'{name}'.*ONNX"):
            onnx_graphs.classifier(models.build(name=name, num_labels=10, rate_hz=8000), {}, 8000)


def test_a_network_without_an_onnx_graph_is_exported_as_a_program(tmp_path, run_cli, tones, monkeypatch):
    row = schema.NETWORKS["resnet1d"]._replace(onnx="")
    monkeypatch.setitem(schema.NETWORKS, "resnet1d", row)
    args = [f"--config={ROOT}/configs/cnn.py:audiomnist,split=random,recipe=residual", f"--config.data.root={tones}"]
    args += [f"--config.data.cache={tmp_path / 'cache'}", "--config.model.channels=(4, 6)"]
    args += ["--config.train.length_samples=1120", "--config.train.bucket_samples=(1040,)"]
    config = cli.parse_with_config(cli.parser("test", ""), args)[1]
    clips = loading.load_clips(config)
    model = models.build(**config.model, num_labels=10, rate_hz=8000)
    data = {"source": clips.source, "key": clips.key, "label_names": list(clips.label_names)}
    run = Trained(config, data, model, randomly(model, 1120), 7)
    monkeypatch.setattr(Trained, "load", lambda _: run)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name))
    code, out, err = run_cli("export", "--workdir", tmp_path, "--out", tmp_path / "out")
    assert code == 0 and not without_progress(err) and "'resnet1d', which has no ONNX graph" in out
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert about["inputs"].keys() == about["parity"]["errors"].keys() == {"classifier.stablehlo"}
    assert about["length_samples"] == 1120 and "onnx" not in about["versions"]
    classify = stablehlo.load((tmp_path / "out" / "classifier.stablehlo").read_bytes())
    audio, length = sounds(1120)
    close(classify(audio.astype(np.float32), length), jax.jit(model.apply)(run.variables, audio, length))


@pytest.mark.parametrize(
    "fields, num_samples",
    [
        (dict(name="melcnn", channels=(3, 4)), 1120),
        (dict(name="melcnn", frontend="learned", channels=(3, 4)), 1120),
        (dict(name="alexnet"), 3300),
    ],
)
def test_programs_of_networks_on_frames(fields, num_samples):
    model = models.build(num_labels=10, rate_hz=8000, **fields)
    variables, (audio, length) = randomly(model, num_samples), sounds(num_samples)
    classify = stablehlo.load(stablehlo.classifier(model, variables, num_samples))
    close(classify(audio.astype(np.float32), length), jax.jit(model.apply)(variables, audio, length), atol=1e-4)
