"""Every key has a range or choices, which are checked before anything else is done."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT

from audiojax import cli, models, schema
from audiojax import config as configs
from audiojax.attribution import lrp_layers
from audiojax.errors import InputError

RECIPES = ("cnn.py", "cnn.py:recipe=residual", "gru.py", "gru.py:recipe=plain", "listen.py", "spectrogram.py")
RECIPES = (*RECIPES, "spectrogram.py:recipe=alexnet", "spectrogram.py:recipe=filterbank")


def read(recipe, *flags):
    flags = [f"--config={ROOT}/configs/{recipe}", *(f"--config.{flag}" for flag in flags)]
    return cli.parse_with_config(cli.parser("test", ""), flags)[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_key_has_a_rule_and_is_within_it(recipe):
    flat = configs.flatten(read(recipe).to_dict())
    schema.check(flat)
    with pytest.raises(InputError, match=r"config\.train\.rows"):
        schema.check(flat | {"train.rows": 1})


SOURCE = """
import shutil
from audiojax.data import sources
def read(root, on_bad_file):
    return sources.folder(root, on_bad_file)
def fetch(root, url):
    shutil.copytree(url, root)
    return read(root, "stop")
"""


def test_a_row_is_all_that_a_source_takes(tmp_path, monkeypatch, run_cli, tones):
    (tmp_path / "ours.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    row = schema.Source("ours:read", split="random", bucket_samples=(100, 200), download="ours:fetch")
    monkeypatch.setitem(schema.SOURCES, "ours", row)
    monkeypatch.setitem(schema.RULES, "data.source", tuple(schema.SOURCES))
    for recipe in RECIPES:
        config = read(recipe.replace(":", ":ours,") if ":" in recipe else f"{recipe}:ours")
        assert (config.data.source, config.split.name) == ("ours", "random") and config.train.num_epochs > 1, recipe
        assert config.train.bucket_samples in ((), (100, 200))
    code, out, err = run_cli("download", "ours", "--root", tmp_path / "root", "--url", tones / "data")
    assert code == 0 and "200 clips" in out, err
    cache = f"--config.data.cache={tmp_path / 'cache'}"
    code, out, _ = run_cli("prepare", "--config=configs/gru.py:ours", f"--config.data.root={tmp_path / 'root'}", cache)
    assert code == 0 and "200 clips" in out and "5 labels" in out


NETWORK = """
from flax import linen as nn
class Ours(nn.Module):
    num_labels: int = 10
    size: int = 3
"""


def test_a_row_is_all_that_a_network_takes(tmp_path, monkeypatch):
    (tmp_path / "our_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    row = schema.Network("our_network:Ours", "configs/ours.py", {"size": schema.COUNT})
    monkeypatch.setitem(schema.NETWORKS, "ours", row)
    flat = {key: value for key, value in configs.flatten(read("cnn.py").to_dict()).items() if "model." not in key}
    schema.check(flat | {"model.name": "ours", "model.size": 5})
    with pytest.raises(InputError, match=r"config\.model\.size is 0"):
        schema.check(flat | {"model.name": "ours", "model.size": 0})
    with pytest.raises(InputError, match=r"config\.task.* ours "):
        schema.check(flat | {"model.name": "ours", "task": "streams"})
    model = models.build(name="ours", num_labels=2, rate_hz=8000, size=5)
    assert models.row(model) == ("ours", row) and model.size == 5
    with pytest.raises(InputError, match="'ours'"):
        lrp_layers.seam(model)


def test_the_keys_of_each_network_are_its_fields():
    given = {"num_labels", "rate_hz", "task", "parent", "name"}
    for name, row in schema.NETWORKS.items():
        model = models.module_class(name)
        assert set(row.fields) == {field.name for field in dataclasses.fields(model)} - given, name


@pytest.mark.parametrize(
    "recipe, flag, key, words",
    [
        ("listen.py", "streams.steps_per_epoch=0", "streams.steps_per_epoch", "1 to "),
        ("gru.py", "streams.steps_per_epoch=3", "streams.steps_per_epoch", "choose 0"),
        ("cnn.py", "streams.steps_per_epoch=3", "streams.steps_per_epoch", "choose 0"),
        ("listen.py", "streams.false_alarm_hours=0", "streams.false_alarm_hours", "0.001 to 1,000"),
        ("listen.py", "streams.num_strings=0", "streams.num_strings", "2 to "),
        ("listen.py", "streams.num_strings=1", "streams.num_strings", "2 to "),
        ("listen.py", "streams.synthetic_sources=('x',)", "streams.synthetic_sources", "one of synthetic, espeak"),
        ("gru.py", "model.hop_samples=0", "model.hop_samples", "1 to "),
        ("gru.py", "model.hop_samples=400", "model.window_samples", "less than hop_samples, 400"),
        ("cnn.py:recipe=residual", "model.window_samples=4", "model.window_samples", "less than hop_samples, 8"),
        ("gru.py", "model.features=0", "model.features", "1 to "),
        ("gru.py", "model.num_layers=0", "model.num_layers", "1 to "),
        ("gru.py", "model.stack_frames=-1", "model.stack_frames", "1 to "),
        ("gru.py", "model.channels=(0,)", "model.channels", "1 to "),
        ("gru.py", "model.channels=(16, 2.5)", "model.channels", "whole numbers"),
        ("gru.py", "task=streams", "streams.steps_per_epoch", "1 to "),
        ("cnn.py", "task=streams", "task", "audionet cannot be trained for"),
        ("cnn.py", "task=frames", "task", "choose one of clips, streams"),
        ("spectrogram.py", "model.channels=()", "model.channels", "1 or more"),
        ("cnn.py:recipe=residual", "model.channels=()", "model.channels", "1 or more"),
        ("cnn.py", "model.dropout=1.0", "model.dropout", "at least 0 and below 1."),
        ("cnn.py", "train.ema_decay=1.0", "train.ema_decay", "below 1."),
        ("cnn.py", "optimizer.momentum=-0.1", "optimizer.momentum", "at least 0 and below 1."),
        ("cnn.py", "optimizer.learning_rate=0.0", "optimizer.learning_rate", "above 0"),
        ("cnn.py", "optimizer.learning_rate=nan", "optimizer.learning_rate", "above 0"),
        ("cnn.py", "optimizer.clip_norm=-1.0", "optimizer.clip_norm", "choose at least 0."),
        ("cnn.py", "optimizer.clip_norm=1e999", "optimizer.clip_norm", "choose at least 0."),
        ("cnn.py", "optimizer.algorithm=adm", "optimizer.algorithm", "did you mean adam"),
        ("cnn.py", "optimizer.schedule=linear", "optimizer.schedule", "cosine, constant, halving"),
        ("cnn.py", "model.scale=peak", "model.scale", "rms, percentile, none"),
        ("cnn.py", "data.source=fsd", "data.source", "did you mean fsdd"),
        ("cnn.py", "data.extra_source=timit", "data.extra_source", "choose one of"),
        ("cnn.py", "data.cache=", "data.cache", "folder"),
        ("cnn.py", "split.name=fold", "split.name", "did you mean folds"),
        ("cnn.py", "split.fold=-1", "split.fold", "0 to "),
        ("cnn.py", "mesh.coordinator=localhost", "mesh.coordinator", "HOST:PORT"),
        ("cnn.py", "mesh.process_id=1", "mesh.process_id", "choose 0 to 0"),
        ("gru.py", "train.bucket_samples=(0,)", "train.bucket_samples", "1 to "),
        ("gru.py", "train.bucket_samples=(8800,)", "train.bucket_samples", "below length_samples, 8800"),
        ("gru.py", "augment.noise_snr_db=(1.0,)", "augment.noise_snr_db", "2 or more"),
        ("gru.py", "augment.noise_snr_db=(9.0, 1.0)", "augment.noise_snr_db", "the lower first"),
        ("gru.py", "augment.noise_snr_db=(0.0, 1e999)", "augment.noise_snr_db", "-200 to 200"),
        ("cnn.py:recipe=seed", "augment.recorded_noise=0.5", "augment.recorded_noise", "a range, config.augment"),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_one_sentence_at_the_start(run_cli, tmp_path, recipe, flag, key, words):
    arguments = (f"--config={ROOT}/configs/{recipe}", f"--config.{flag}", f"--workdir={tmp_path}/run")
    code, out, err = run_cli("main", *arguments)
    assert code == 1 and out == "" and f"config.{key} is " in err and words in err
    assert len(err.strip().splitlines()) == 1 and not (tmp_path / "run").exists()


def lowest(rule):
    """The values of a rule that are most likely to go wrong."""
    if isinstance(rule, schema.Range):
        return [] if rule.open_low else [type(rule.low)(rule.low)]
    if isinstance(rule, schema.Items):
        return [(1,) * rule.num, (1,) * 8]
    return list(rule)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.slow
def test_the_ends_of_the_ranges_of_a_network_are_usable_or_refused(recipe):
    config = read(recipe)
    fields, length = config.model.to_dict(), config.train.length_samples
    audio, seconds = jnp.zeros((1, length), jnp.int16), jnp.full(1, length, jnp.int32)
    for key, rule in schema.NETWORKS[fields["name"]].fields.items():
        for value in lowest(rule):
            flat = configs.flatten(config.to_dict() | {"model": fields | {key: value}})
            try:
                schema.check(flat)
                model = models.build(**(fields | {key: value}), num_labels=2, rate_hz=8000)
                with jax.numpy_dtype_promotion("standard"):  # bfloat16 beside float32, as in a run
                    shape = jax.eval_shape(functools.partial(model.init), jax.random.key(0), audio, seconds)
                assert shape["params"]
            except InputError as error:
                assert "config." in str(error), (key, value)


@pytest.mark.parametrize("config, network", list(itertools.permutations(("cnn.py", "gru.py", "spectrogram.py"), 2)))
def test_another_networks_name_leads_to_its_config(config, network):
    name = {"cnn.py": "audionet", "gru.py": "gru", "spectrogram.py": "melcnn"}[network]
    with pytest.raises(InputError, match=rf"config\.model\.name.*'{name}'.*--config configs/{network}"):
        read(config, f"model.name={name}")


@pytest.mark.parametrize("key, words", [("drop_out", "did you mean --config.model.dropout"), ("xyz", "batch_norm")])
def test_a_mistyped_key_lists_the_keys_of_its_section(key, words):
    with pytest.raises(InputError) as error:
        read("cnn.py", f"model.{key}=1")
    assert words in str(error.value) and "num_epochs" not in str(error.value)
    assert all(name in str(error.value) for name in schema.NETWORKS["audionet"].fields)
