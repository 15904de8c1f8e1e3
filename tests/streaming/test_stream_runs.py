"""A whole run of a listener: the same loop, commands and promises, on streams without end."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
import soxr
from conftest import ROOT
from runs import same_run, stop_at

from audiojax import cli, tasks
from audiojax.inference import PACKAGED, Trained
from audiojax.models.gru import start_of_stream
from audiojax.streaming import scoring, stream_task
from audiojax.streaming.decoder import Event
from audiojax.streaming.recognizer import Recognizer
from audiojax.streaming.scenes import Word
from audiojax.synthesis.formant import synthesise
from audiojax.synthesis.voices import NEUTRAL
from audiojax.training import runlog
from audiojax.training.build import assemble
from audiojax.training.checkpoint import Checkpoints
from audiojax.training.preemption import Stopped
from experiments.streaming.evaluate import opened

pytestmark = pytest.mark.slow

NAMES = ("x", "y", "z")


@pytest.fixture(scope="module")
def listen(tones, tmp_path_factory):
    """A small listener's config, for streams of the tones; `listen(**{"train.num_epochs": 2})` changes some keys."""
    keys = {
        "data.root": tones, "data.cache": tmp_path_factory.mktemp("cache"), "train.batch_size": 4,
        "train.length_samples": 8_000, "train.num_epochs": 2, "train.ema_decay": 0.9, "model.features": 32,
        "model.dense": 32, "model.num_layers": 1, "model.dropout": 0.0, "optimizer.learning_rate": 1e-3,
        "optimizer.warmup_steps": 5, "streams.steps_per_epoch": 3, "streams.num_strings": 8,
        "streams.false_alarm_hours": 0.001, "model.counts": True, "model.mask_bands": 4,
        "streams.synthetic_sources": "()", "streams.negative_sources": "()",
    }  # fmt: skip

    def make(**changes):
        args = [f"--config={ROOT}/configs/listen.py:audiomnist,split=random"]
        args += [f"--config.{key}={value}" for key, value in (keys | changes).items()]
        return cli.parse_with_config(cli.parser("test", ""), args)[1]

    return make


@pytest.fixture(scope="module")
def run(listen, tmp_path_factory) -> Path:
    """A finished run, which has learnt next to nothing."""
    workdir = tmp_path_factory.mktemp("runs") / "listener"
    tasks.train(listen(), workdir)
    return workdir


def test_a_run_ends_with_what_people_want_to_know(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test/digit_error_rate/10 dB"] >= 0 and summary["epochs"] == 2
    pictures = {path.stem for path in (run / "plots").iterdir()}
    assert pictures == {"curves", "confusion_test", "listening_test"}
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "<dt>device</dt>" in page
    assert all(f"<td>{noise}</td>" in page for noise in ("clean", "10 dB", "silence", "speech"))


def test_the_accuracy_of_frames_and_that_of_words_have_different_names(run):
    rows = runlog.read_rows(run)
    epochs = [row for row in rows if "epoch" in row]
    accuracies = {"train/frame_accuracy", "validation/accuracy", "test/accuracy"}
    assert all({name for name in row if "accuracy" in name} == accuracies for row in epochs)
    steps = [row for row in rows if "epoch" not in row]
    assert all({name for name in row if "accuracy" in name} == {"step/frame_accuracy"} for row in steps)


def test_it_learns_a_batch_by_heart(listen):
    config = listen(**{"optimizer.learning_rate": 0.02, "train.ema_decay": 0.0, "model.mask_bands": 0})
    epochs = _epochs(config)
    batch, key = next(epochs(0, 1)), jax.random.key(0)
    assembled = assemble(config, num_labels=10, rate_hz=8000, num_steps=120, task=tasks.of(config))
    state, losses = assembled.state, []
    for _ in range(120):
        start = jax.tree.map(np.zeros_like, jax.device_get(state.carry))
        state, report = assembled.train_step(state.replace(carry=start), batch, key)
        losses.append(report.metrics.summary()["loss"])
    assert losses[-1] < 0.1 < 1.0 < losses[0]


def test_a_run_that_was_stopped_ends_like_an_unbroken_one_bit_for_bit(listen, run, tmp_path, monkeypatch):
    """Its streams go on where they were, and so does what is remembered of them."""
    config = listen()
    with monkeypatch.context() as patched:
        stop_at(4, patched)
        with pytest.raises(Stopped):
            tasks.train(config, tmp_path / "run")
    tasks.train(config, tmp_path / "run")
    assert same_run(tmp_path / "run", run)


def test_what_a_stream_remembers_is_kept_and_matters(listen, run):
    config = listen()
    assembled = assemble(config, num_labels=10, rate_hz=8000, num_steps=6, task=tasks.of(config))
    with Checkpoints(run) as checkpoints:
        state = checkpoints.restore("last", assembled.state)
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(state.carry.hidden))
    epochs = _epochs(config)
    batch, key = next(epochs(6, 7)), jax.random.key(0)
    fresh = state.replace(carry=jax.tree.map(np.zeros_like, jax.device_get(state.carry)))
    losses = [
        float(assembled.train_step(jax.tree.map(np.array, jax.device_get(s)), batch, key)[1].metrics.loss_sum)
        for s in (state, fresh)
    ]
    assert losses[0] != losses[1]


def test_a_row_that_is_reset_starts_from_the_initial_state(listen, run):
    config = listen()
    assembled = assemble(config, num_labels=10, rate_hz=8000, num_steps=6, task=tasks.of(config))
    with Checkpoints(run) as checkpoints:
        state = jax.device_get(checkpoints.restore("last", assembled.state))
    batch, key = next(_epochs(config)(6, 7)), jax.random.key(0)
    initial = start_of_stream(assembled.model, {"params": state.params, "batch_stats": state.batch_stats}, 4)

    def loss(carry, reset):
        given = jax.tree.map(np.array, state.replace(carry=jax.device_get(carry)))
        return float(
            assembled.train_step(given, batch | {"reset": np.full(4, reset, np.float32)}, key)[1].metrics.loss_sum
        )

    assert loss(state.carry, 1.0) == pytest.approx(loss(initial, 0.0), rel=1e-6)
    assert loss(state.carry, 1.0) != pytest.approx(loss(state.carry, 0.0), rel=1e-4)


def test_the_loss_of_copies_counts_the_steps_around_a_word():
    """The cross-entropy of two logits a step: that it is more than one word, and more than two."""
    more = np.random.default_rng(0).normal(0, 1, (3, 4, 2)).astype(np.float32)
    copies = np.array([[0, 1, 2, 3], [0, 0, 0, 0], [3, 0, 1, 2]], np.int32)
    mask = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    expected = 0.0
    for logits, count in zip(more.reshape(-1, 2), copies.ravel(), strict=True):
        if count:
            likely = 1 / (1 + np.exp(-logits))
            expected -= np.log(np.where([count > 1, count > 2], likely, 1 - likely)).sum()
    loss = stream_task.copies_loss(jnp.asarray(more), {"copies": copies, "mask": mask})
    assert float(loss) == pytest.approx(2 * expected / mask.sum(), rel=1e-5)


def _epochs(config):
    return tasks.of(config).batches(slice(None))


def test_one_device_and_two_agree(listen, tmp_path):
    """By SGD: Adam divides gradients by their size, and with them the last bits of those that are nearly zero."""
    config = listen(**{"optimizer.algorithm": "sgd", "train.num_epochs": 1, "streams.num_strings": 2})
    for num_devices in (1, 2):
        tasks.train(config, tmp_path / str(num_devices), num_devices=num_devices)
    one, two = (Trained.load(tmp_path / name, "last").variables for name in ("1", "2"))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> Path:
    """Three seconds at 16 kHz in which a synthetic voice says seven once, 1.2 seconds after the beginning."""
    path = tmp_path_factory.mktemp("sound") / "seven.wav"
    sound = np.random.default_rng(0).normal(0, 0.001, 48_000)
    word = synthesise("seven", NEUTRAL, np.random.default_rng(0))
    sound[19_200 : 19_200 + len(word)] += 0.3 * word
    soundfile.write(path, sound, 16_000)
    return path


def test_without_a_run_predict_says_which_word_and_when_or_that_there_is_none(spoken, tmp_path, run_cli):
    soundfile.write(tmp_path / "silence.wav", np.zeros(24_000), 16_000)
    code, out, err = run_cli("predict", "--json", spoken, tmp_path / "silence.wav")
    first, second = map(json.loads, out.splitlines())
    assert (code, err) == (0, "")
    assert first["label"] == "seven" and first["digit"] == 7 and first["probability"] > 0.5
    assert first["start_seconds"] == pytest.approx(1.3, abs=0.15)
    assert first["end_seconds"] == pytest.approx(1.75, abs=0.2)
    assert second["label"] is None and second["seconds"] == 1.5
    code, out, _ = run_cli("predict", spoken, tmp_path / "silence.wav")
    assert code == 0 and "seven" in out and "nothing" in out


def test_predict_says_every_word_of_a_file(spoken, tmp_path, run_cli):
    audio, rate_hz = soundfile.read(spoken)
    soundfile.write(tmp_path / "thrice.wav", np.tile(audio, 3), rate_hz)
    [answer] = map(json.loads, run_cli("predict", "--json", tmp_path / "thrice.wav")[1].splitlines())
    assert [word["digit"] for word in answer["words"]] == [7, 7, 7] and answer["digit"] == 7
    assert answer["words"][0].items() <= answer.items()
    for number, word in enumerate(answer["words"]):
        assert word["start_seconds"] == pytest.approx(1.3 + 3 * number, abs=0.2)
    lines = run_cli("predict", tmp_path / "thrice.wav", spoken)[1].splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["seven"] * 4
    assert [line.split()[-1] for line in lines[2:]] == [str(tmp_path / "thrice.wav")] * 3 + [str(spoken)]
    code, out, _ = run_cli("predict", "--json", _silence(tmp_path))
    assert code == 0 and json.loads(out)["words"] == [] and json.loads(out)["label"] is None


def _silence(folder: Path) -> Path:
    soundfile.write(folder / "silence.wav", np.zeros(24_000), 16_000)
    return folder / "silence.wav"


def test_a_recognizer_hears_what_predict_hears(spoken, run_cli):
    [answer] = map(json.loads, run_cli("predict", "--json", spoken)[1].splitlines())
    audio, rate_hz = soundfile.read(spoken, dtype="float32")
    one = Recognizer.from_workdir()
    [event] = one.feed(audio, rate_hz) + one.flush()
    assert event.label == answer["label"]
    assert event.emitted_seconds == pytest.approx(answer["emitted_seconds"], abs=0.02)
    assert event.end_seconds == pytest.approx(answer["end_seconds"], abs=0.03)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100, 48_000])
def test_the_packaged_listener_hears_a_string_at_any_rate_in_any_chunks(rate_hz):
    words = ("four", "seven", "one", "nine", "zero")
    voice = dataclasses.replace(NEUTRAL, max_lead_seconds=0.3)
    said = [synthesise(word, voice, np.random.default_rng(i)) for i, word in enumerate(words)]
    sound = soxr.resample(np.concatenate([*said, np.zeros(8000, np.float32)]), 16_000, rate_hz)
    expected = None
    for chunk_samples in (7, 441, 8000):
        one, heard = Recognizer.from_workdir(), []
        for start in range(0, len(sound), chunk_samples):
            heard += one.feed(sound[start : start + chunk_samples], rate_hz)
        heard += one.flush()
        assert tuple(event.label for event in heard) == words
        assert expected is None or heard == expected
        expected = heard


def test_the_packaged_listener_is_small_and_has_a_card():
    files = {path.name: path.stat().st_size for path in PACKAGED.iterdir()}
    assert set(files) == {"MODEL_CARD.md", "config.json", "operating_points.json", "parameters.npz"}
    assert sum(files.values()) < 1.5e6


def test_evaluate_counts_errors_delays_and_alarms(run, run_cli):
    code, out, err = run_cli("evaluate", "--workdir", run, "--json", "--strings", 6, "--hours", 0.002)
    assert code == 0, err
    told = json.loads(out)
    clean = told["strings"]["clean"]["reset"]
    wrong = clean["substitutions"] + clean["deletions"] + clean["insertions"]
    assert clean["digit_error_rate"] == wrong / clean["words"]
    assert set(told["strings"]) == {"clean", "20 dB", "10 dB", "5 dB", "0 dB"}
    silence = told["false_alarms"]["silence"]
    assert silence["bound"] > silence["per_hour"] and set(told["false_alarms"]) == {"silence", "noise", "speech"}
    assert set(told["false_alarms"]["noise"]["by_kind"]) >= {"white", "siren", "babble"}
    [at] = [p for p in told["curve"]["points"] if p["threshold"] == told["curve"]["threshold"]]
    assert at["digit_error_rate"] == clean["digit_error_rate"]
    assert at["alarms_per_hour"]["noise"] == told["false_alarms"]["noise"]["per_hour"]
    code, out, _ = run_cli("evaluate", "--workdir", run, "--strings", 2, "--hours", 0.001)
    assert code == 0 and "digit errors" in out and "no words" in out


def test_the_packaged_form_is_the_run(run, tmp_path, monkeypatch):
    trained = Trained.load(run)
    trained.write_packaged(tmp_path / "listener")
    monkeypatch.setattr("audiojax.inference.PACKAGED", tmp_path / "listener")
    packaged = Trained.packaged()
    assert packaged.label_names == trained.label_names and packaged.step == trained.step
    assert {x.dtype for x in jax.tree.leaves(packaged.variables)} == {np.dtype("float32")}
    for name, values in trained.variables.items():
        rounding = 2**-11 if name == "params" else 0.0  # of 16-bit floats
        close = functools.partial(np.testing.assert_allclose, rtol=rounding, atol=rounding / 2**13)
        jax.tree.map(close, packaged.variables[name], values)


def test_several_runs_are_one_by_the_mean_of_their_parameters(run, monkeypatch):
    of = Trained.load(run, "last")

    def times(factor: Path, which: str) -> Trained:
        return dataclasses.replace(of, variables=jax.tree.map(lambda x: float(str(factor)) * x, of.variables))

    monkeypatch.setattr(Trained, "load", times)
    mean = opened([Path("1"), Path("3")])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, 2 * y, rtol=1e-6), mean.variables, of.variables)


def heard(labels: str) -> list[Event]:
    return [Event(label, 0.0, 0.0, float(i), 1.0) for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    "said, labels, substitutions, deletions, insertions",
    [("xyz", "xyz", 0, 0, 0), ("xyz", "xz", 0, 1, 0), ("xz", "xyz", 0, 0, 1), ("xyz", "xxz", 1, 0, 0),
     ("", "x", 0, 0, 1), ("xx", "", 0, 2, 0), ("xyzx", "yzxx", 0, 1, 1)],
)  # fmt: skip
def test_errors_are_counted_as_in_a_word_error_rate(said, labels, substitutions, deletions, insertions):
    words = [Word(NAMES.index(label), 0, 0) for label in said]
    matches = scoring.match(words, heard(labels), NAMES)
    errors = scoring.errors_of(scoring.confusion_of(matches, NAMES))
    assert errors == (len(said), substitutions, deletions, insertions)


def test_a_word_that_stands_for_several_is_matched_as_often():
    words = [Word(0, 0, 800, 2), Word(1, 900, 1200), Word(2, 1300, 1500, 3)]
    for labels, wrong in (("xxyzzz", 0), ("xyzzz", 1), ("xxyzz", 1), ("xyz", 3), ("xxxyzzz", 1)):
        matches = scoring.match(words, heard(labels), NAMES)
        errors = scoring.errors_of(scoring.confusion_of(matches, NAMES))
        assert errors.words == 6 and errors.deletions + errors.insertions == wrong and not errors.substitutions
