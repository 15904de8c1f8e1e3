"""Starting from another run: its parameters, its labels, and the clips that it was trained on."""

import json
import shlex

import jax
import numpy as np
import pytest
from conftest import ROOT
from speaker_names import speakers_of

from audiojax import cli, tasks
from audiojax.data import loading, splits
from audiojax.errors import InputError
from audiojax.models.gru import start_of_stream
from audiojax.training import run_dir, setup, start
from audiojax.training.build import assemble
from audiojax.training.checkpoint import restore_variables
from experiments.protocols import protocol, records
from experiments.protocols.definitions import PROTOCOLS


def edited(workdir, copy, data_key=None, **changes):
    """A copy of a run's config.json in the folder `copy`, with other values for `section__key`; None deletes a key."""
    copy.mkdir()
    saved = json.loads((workdir / "config.json").read_text())
    saved["data"]["key"] = data_key or saved["data"]["key"]
    for name, value in changes.items():
        section, _, key = name.partition("__")
        part = saved["config"][section] if key else saved["config"]
        part[key or section] = value
        if value is None:
            del part[key or section]
    (copy / "config.json").write_text(json.dumps(saved))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("names", [("left", "right"), tuple("abcdefghij")])
def test_other_labels_keep_the_body_and_get_a_new_last_layer(tiny_config, trained_run, names):
    config, said = tiny_config(), []
    state = assemble(config, num_labels=len(names), rate_hz=8000, num_steps=1).state
    started = start.start_from(str(trained_run), state, config, names, said.append)
    theirs, _ = restore_variables(trained_run, "best")
    for name, part in theirs["params"].items():
        expected = state.params[name] if name == "logits" else part
        jax.tree.map(np.testing.assert_array_equal, started.params[name], expected)
        jax.tree.map(np.testing.assert_array_equal, started.average[name], expected)
    jax.tree.map(np.testing.assert_array_equal, started.batch_stats, theirs["batch_stats"])
    assert "logits" in said[-1] and names[0] in said[-1]
    said.clear()
    state = assemble(config, num_labels=10, rate_hz=8000, num_steps=1).state
    labels = run_dir.load(trained_run)[1]["label_names"]
    same = start.start_from(str(trained_run), state, config, tuple(labels), said.append)
    jax.tree.map(np.testing.assert_array_equal, same.params, theirs["params"])
    assert len(said) == 1


@pytest.mark.slow
def test_other_shapes_name_the_keys(tiny_config, trained_run, tmp_path):
    with pytest.raises(InputError, match=r"config\.model\.batch_norm True -> False"):
        tasks.train(tiny_config(**{"init_from": trained_run, "model.batch_norm": False}), tmp_path / "run")
    with pytest.raises(InputError, match=r"config\.train\.length_samples 1024 -> 1280"):
        tasks.train(tiny_config(**{"init_from": trained_run, "train.length_samples": 1280}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def overlap(clips, ours, theirs) -> str:
    ours, theirs = (splits.make(clips, **config.split) for config in (ours, theirs))
    counts = {part: len(np.intersect1d(getattr(ours, part), theirs.train)) for part in ("test", "validation")}
    sizes = {part: len(getattr(ours, part)) for part in counts}
    return " and ".join(f"{counts[part]} of the {sizes[part]} {part} clips" for part in counts)


@pytest.mark.parametrize(
    "changes", [{"split.seed": 1}, {"split.name": "speaker"}, {"split.seed": 1, "data.rate_hz": 4000}]
)
def test_a_start_from_a_run_that_learnt_test_clips_is_refused_with_their_number(
    tiny_config, trained_run, tmp_path, changes
):
    ours, theirs = tiny_config(init_from=trained_run, **changes), tiny_config()
    told = overlap(loading.load_clips(theirs), ours, theirs)
    with pytest.raises(InputError, match=told) as error:
        tasks.train(ours, tmp_path / "run")
    same = "--config.split.name=random" if "split.name" in changes else "--config.split.seed=0"
    assert f"({same})" in str(error.value)
    assert not (tmp_path / "run").exists()


def check(config, said=None):
    clips = loading.load_clips(config)
    start.check_unseen(config, clips, splits.make(clips, **config.split), (said if said is not None else []).append)


def test_all_that_a_run_learnt_counts(tiny_config, trained_run, tmp_path):
    check(tiny_config(init_from=trained_run))
    check(tiny_config(init_from=trained_run, **{"split.num_speakers": 2}))  # fewer clips of the same side
    other = {"data_key": "another", "data__source": "synthetic"}
    chain = edited(trained_run, tmp_path / "chain", init_from=str(trained_run), **other)
    with pytest.raises(InputError, match=f"{trained_run}"):  # nothing of its own, but what it started from
        check(tiny_config(init_from=chain, **{"split.seed": 1}))
    root = str(tiny_config().data.root)
    also = edited(trained_run, tmp_path / "also", data__extra_source="audiomnist", data__extra_root=root, **other)
    with pytest.raises(InputError, match=r"\b40 of .*\b40 test .*\b20 of .*\b20 validation "):
        check(tiny_config(init_from=also))


def test_what_cannot_be_told_is_said(tiny_config, trained_run, tmp_path):
    said: list[str] = []
    check(tiny_config(init_from=edited(trained_run, tmp_path / "a", "another", data__root="/nonexistent")), said)
    check(tiny_config(init_from=edited(trained_run, tmp_path / "b", "another")), said)
    assert len(said) == 2 and "/nonexistent" in said[0] and "changed since" in said[1]


def test_an_old_run_keeps_its_test_clips(tiny_config, trained_run, tmp_path):
    """Before there was `split.seed`, `seed` decided the random split, too."""
    old = edited(trained_run, tmp_path / "old", seed=3, split__seed=None)
    config, data = run_dir.load(old)
    clips = loading.load_clips(config)
    split, before = splits.make(clips, **config.split), splits.random(clips, seed=3)
    for part in split._fields:
        np.testing.assert_array_equal(getattr(split, part), getattr(before, part))
    assert (split.test != splits.random(clips, seed=0).test).any()
    run_dir.check_resumable(old, tiny_config(seed=3, **{"split.seed": 3}), data)
    with pytest.raises(InputError, match=r"config\.split\.seed 3 -> 0.*--config\.split\.seed=3"):
        run_dir.check_resumable(old, tiny_config(seed=3), data)
    fixed = edited(trained_run, tmp_path / "fixed", seed=3, split__seed=None, split__name="speaker")
    run_dir.check_resumable(fixed, tiny_config(seed=3, **{"split.name": "speaker"}), data)


def test_the_seed_alone_changes_no_split(tiny_config):
    clips = speakers_of(10, 5)
    splits_of = [splits.make(clips, **tiny_config(seed=seed).split).test for seed in (0, 3)]
    np.testing.assert_array_equal(*splits_of)


def test_protocols_set_both_seeds_and_records_stay_valid():
    recipe = protocol.Recipe(f"{ROOT}/configs/gru.py", ROOT, ROOT)
    for run in PROTOCOLS["fsdd-random"].runs:
        config = protocol.config_of(recipe, run)
        assert (config.seed, config.split.seed) == (run.seed, run.seed)
    known = 0
    for path in records.RESULTS.glob("*/*.json"):
        name = path.parent.name
        for record in records.read(path)["runs"] if name != "noise" else ():
            if "digest" in record:
                argv = [flag.replace("=configs/", f"={ROOT}/configs/") for flag in shlex.split(record["command"])[3:]]
                config = cli.parse_with_config(cli.parser("test", ""), argv)[1]
                other = PROTOCOLS[name].runs[0].tested_on if name in PROTOCOLS else ""
                digest = records.digest(config, " ".join(filter(None, (record["start"], other))))
                assert digest == record["digest"], (path, record["name"])
                known += 1
    assert known > 20


@pytest.mark.parametrize("key", ["streams.real", "streams.strings"])
def test_a_folder_of_training_sound_may_move_and_neither_appear_nor_vanish(tiny_config, trained_run, tmp_path, key):
    _, data = run_dir.load(trained_run)
    old = edited(trained_run, tmp_path / "old", **{key.replace(".", "__"): "/one/place"})
    run_dir.check_resumable(old, tiny_config(**{key: "/another/place"}), data)
    with pytest.raises(InputError, match=rf"config\.{key}"):
        run_dir.check_resumable(old, tiny_config(), data)


@pytest.mark.slow
def test_a_layer_that_the_other_run_lacks_is_newly_initialised(tmp_path):
    """A recogniser without counts starts one with counts, whose streams begin as its own network has it."""
    flags = [f"--config.model.{key}=8" for key in ("features", "dense")] + [f"--config.data.cache={tmp_path}"]
    flags += ["--config.model.channels=(4,)", "--config.streams.num_strings=2"]
    _, config = cli.parse_with_config(cli.parser("test", ""), [f"--config={ROOT}/configs/listen.py:runlocal", *flags])
    tasks.train(config, tmp_path / "run")
    theirs, step = restore_variables(tmp_path / "run", "last")
    best = {"params": jax.tree.map(np.zeros_like, theirs["params"]), "batch_stats": theirs["batch_stats"]}
    config.model.counts, config.init_checkpoint, messages = True, "last", []
    fresh = assemble(config, num_labels=10, rate_hz=8000, num_steps=1, task=tasks.of(config))
    labels = tuple(run_dir.load(tmp_path / "run")[1]["label_names"])
    with pytest.MonkeyPatch.context() as patched:
        both = {"last": (theirs, step), "best": (best, 1)}
        patched.setattr(start, "restore_variables", lambda workdir, which: both[which])
        config.init_from = str(tmp_path / "run")
        state = start.start_from(config.init_from, fresh.state, config, labels, messages.append)
    assert set(state.params) == {*theirs["params"], "more"}
    assert f"step {step}" in messages[0] and "more" in messages[1]
    for name, part in state.params.items():
        expected = fresh.state.params[name] if name == "more" else theirs["params"][name]
        jax.tree.map(np.testing.assert_array_equal, part, expected)
    begun = setup._started(tasks.of(config), fresh.model, fresh.state)
    expected = start_of_stream(fresh.model, begun.variables, config.train.batch_size)
    jax.tree.map(np.testing.assert_array_equal, begun.carry, expected)
    assert not np.allclose(begun.carry.level, fresh.state.carry.level)
