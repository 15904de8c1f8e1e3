"""Protocols, their records and tables, on real tiny runs; sweeps, few speakers, noise."""

import dataclasses
import itertools
import shlex
import time

import numpy as np
import pytest
from conftest import ROOT
from speaker_names import speakers_of

from audiojax import cli, tasks
from audiojax.audio import noise as corrupt
from audiojax.data import splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.streaming import scenes
from audiojax.training import loop
from audiojax.training.preemption import Stopped
from experiments.protocols import class_project, few_speakers, noise, protocol, records, sweep, tables
from experiments.protocols.definitions import PROTOCOLS, Run


def split_of(run: Run, clips: Clips) -> splits.Split:
    config = protocol.read_config([f"--config={ROOT}/configs/gru.py:{run.arg}", f"--config.seed={run.seed}"])
    return splits.make(clips, **config.split)


@pytest.mark.parametrize("name, source, num_speakers", [("folds", "audiomnist", 60), ("fsdd-speaker", "fsdd", 6)])
def test_folds_test_every_clip_once_and_no_speaker_is_on_two_sides(name, source, num_speakers):
    clips = dataclasses.replace(speakers_of(num_speakers, 2), source=source)
    tested = []
    for run in PROTOCOLS[name].runs:
        split = split_of(run, clips)
        tested += split.test.tolist()
        for one, other in itertools.combinations(split, 2):
            assert not set(clips.speaker[one]) & set(clips.speaker[other])
    assert sorted(tested) == list(range(len(clips)))


def test_a_few_speakers_are_balanced_nested_and_drawn_anew_by_each_seed():
    clips = speakers_of(60, 12)
    whole = splits.make(clips, name="folds", fold=0, seed=1)
    before: set[str] = set()
    for size in (3, 6, 12, 24, 36):
        split = splits.make(clips, name="folds", fold=0, seed=1, num_speakers=size)
        who = set(clips.speaker[split.train].tolist())
        sexes = [clips.speakers[name].sex for name in who]
        women = sum(clips.speakers[name].sex == "female" for name in set(clips.speaker[whole.train].tolist()))
        assert len(who) == size and before < who and set(split.train) <= set(whole.train)
        assert abs(sexes.count("female") - min(women, size / 2)) <= 0.5
        assert np.array_equal(split.validation, whole.validation) and np.array_equal(split.test, whole.test)
        before = who
    assert np.array_equal(split.train, whole.train)
    draws = [splits.make(clips, name="folds", fold=0, seed=seed, num_speakers=3).train for seed in (1, 2)]
    assert not np.array_equal(*draws)
    with pytest.raises(InputError, match=r"num_speakers.*\b37\b.*\b36\b"):
        splits.make(clips, name="folds", fold=0, seed=1, num_speakers=37)
    for run in few_speakers.runs(6, 2):
        assert run.overrides["split.num_speakers"] * run.overrides["train.num_epochs"] == 36 * 6


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_args):
    """The tones, as a recipe: folds of five speakers, two epochs."""
    folder = tmp_path_factory.mktemp("protocol")
    keys = ("data.root=", "train.num_epochs=")
    overrides = [flag for flag in tiny_args[1:] if not any(key in flag for key in keys)]
    root = next(flag.partition("=")[2] for flag in tiny_args if "data.root" in flag)
    overrides.append("--config.train.num_epochs=2")
    path = folder / "results" / "tones" / "cnn.json"
    return protocol.Recipe(f"{ROOT}/configs/cnn.py", folder, path, root=root, overrides=overrides)


RUNS = [Run("fold 0", "audiomnist,split=speaker,fold=0"), Run("fold 1", "audiomnist,split=speaker,fold=1")]


@pytest.fixture(scope="module")
def found(recipe):
    with pytest.raises(Stopped, match="between two runs"):
        protocol.run_all("tones", {}, RUNS[:1], recipe._replace(deadline=time.monotonic()))
    return protocol.run_all("tones", {}, RUNS, recipe)


@pytest.mark.slow
def test_recipes_share_what_they_start_from_but_for_its_network(recipe):
    run = PROTOCOLS["fsdd-speaker-transfer"].runs[2]
    before = protocol.of_start(recipe).folder(protocol.started_from(run))
    for override, shared in (("optimizer.learning_rate=0.5", True), ("model.dropout=0.5", False)):
        other = recipe._replace(name="other", overrides=[*recipe.overrides, f"--config.{override}"])
        start = protocol.of_start(other)
        assert (start.folder(protocol.started_from(run)) == before) == shared
        assert protocol.config_of(other, run).init_from == str(start.folder(protocol.started_from(run)))


@pytest.mark.slow
def test_a_finished_run_is_not_repeated(recipe, found, monkeypatch):
    again = []
    monkeypatch.setattr(loop, "run", lambda *args, **_: again.append(args) or pytest.fail("it was trained again"))
    assert protocol.run_all("tones", {}, RUNS, recipe) == found and not again
    changed = recipe._replace(overrides=[*recipe.overrides, "--config.seed=3"])
    with pytest.raises(InputError, match="--name"):
        protocol.run_all("tones", {}, RUNS, changed)


@pytest.mark.slow
def test_a_record_says_what_a_table_needs_and_nothing_of_the_machine(recipe, found):
    [record, _] = records.read(recipe.path)["runs"]
    assert record == found[0] and record["clips"] == 40 and record["speakers"]["01"]["clips"] == 40
    assert np.trace(record["confusion"]) == round(record["accuracy"] * 40) and np.sum(record["confusion"]) == 40
    assert len(record["curves"]["test/loss"]) == record["epochs"] == 2 and record["versions"]["jax"]
    text = recipe.path.read_text().replace(f"{ROOT}/configs", "configs")
    assert recipe.root not in text and str(recipe.workdir) not in text
    flags = shlex.split(record["command"].split("audiojax.main ")[1])
    _, config = cli.parse_with_config(cli.parser("main", ""), flags)
    assert records.digest(config) == record["digest"]


@pytest.mark.slow
def test_a_run_stops_at_its_deadline_and_goes_on(recipe, found):
    late = recipe._replace(name="late", deadline=time.monotonic() + 1e6)
    config, folder = protocol.config_of(late, RUNS[0]), late.folder(RUNS[0])
    with pytest.raises(Stopped, match="the same command resumes"):
        tasks.train(config, folder, deadline=time.monotonic())
    run = protocol.one(late, RUNS[0])
    assert run["accuracy"] == found[0]["accuracy"] and run["curves"] == found[0]["curves"]


def test_the_tables_are_those_of_the_records(tmp_path):
    stored = tables.read_all(records.RESULTS)
    for path, text in tables.pages(stored).items():
        assert path.read_text() == text, f"{path}: run python -m experiments.protocols.tables"
    assert tables.short_table(stored).count("\n") - 2 <= 8 and "99.40 ± 0.20 % (5 folds)" in tables.short_table(stored)
    assert (records.RESULTS / "tables.md").read_text() == tables.everything(stored)
    speakers = {"01": {"accuracy": 1.0, "clips": 10, "sex": "female", "accent": "A"}}
    speakers |= {"02": {"accuracy": 0.5, "clips": 30, "sex": "male", "accent": "B"}}
    runs = [
        {"name": f"fold {i}", "accuracy": of, "clips": 40, "speakers": speakers, "minutes": 2, "device": "1 x cpu"}
        for i, of in enumerate((0.5, 0.75))
    ]
    result = {"config": "configs/gru.py", "overrides": [], "runs": runs}
    line = tables.row("folds", result)
    assert "| 62.50 ± 17.68 % | 2 of 5 folds | 80 |" in line and "02: 50.0%" in line and "2.0 on 1 x cpu" in line
    groups = tables.groups_table("folds", "gru", result)
    assert "| sex | male | 50.00% | 60 |" in groups and "| accent | A | 100.00% | 20 |" in groups
    published = tables.main_table({})
    assert "on the originals" in published and "reconstructed" not in published


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments/protocols/sweeps").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_sweep_is_the_grid_that_wandb_would_run_and_its_command_parses(path, monkeypatch):
    import yaml
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("AUDIOJAX_ROOT", "DIR")
    monkeypatch.chdir(ROOT)
    content, asked = yaml.safe_load(path.read_text()), sweep.read(path)
    sizes = [len(of.get("values", [0])) for of in content["parameters"].values()]
    assert len(asked.grid) == np.prod(sizes) == len({str(of) for of in asked.grid})
    for run in sweep.runs(asked):
        args = {f"config.{key}": {"value": value} for key, value in run.overrides.items()}
        words = create_sweep_command(content["command"])
        given = create_sweep_command_args({"args": args, "run_id": "x"})["args"]
        words = [w for word in words for w in (given if word == "${args}" else [word])]
        argv = words[words.index("audiojax.main") + 1 :]
        theirs = cli.parse_with_config(cli.parser("main", ""), argv)[1]
        flags = [f"--config={asked.config}:{run.arg}", *asked.overrides]
        ours = protocol.read_config([*flags, *(f"--config.{key}={value}" for key, value in run.overrides.items())])
        assert records.digest(theirs) == records.digest(ours)
        assert all(content["parameters"][f"config.{key}"] for key in run.overrides)


@pytest.mark.parametrize("kind", [kind for kind, levels in noise.LEVELS.items() if levels == noise.SNR_DB])
def test_noise_is_exactly_as_loud_as_it_says_and_the_same_for_every_level(kind):
    clips, index = speakers_of(8, 2), 5
    clean = clips[index] / 32768
    start, end = scenes.span(clips[index], 8000)
    added = {db: noise.corrupted(clips, index, kind, db) - clean for db in (20.0, 0.0)}
    assert np.allclose(added[0.0], 10 * added[20.0], rtol=1e-3, atol=1e-5)
    if kind != "reverberation":
        for db, sound in added.items():
            snr_db = 10 * np.log10(corrupt.power(clean[start:end].astype(np.float32)) / corrupt.power(sound))
            assert abs(snr_db - db) < 0.01
    assert not np.allclose(added[0.0], noise.corrupted(clips, 6, kind, 0.0) - clips[6] / 32768, atol=1e-4)


@pytest.mark.slow
def test_a_run_is_heard_in_noise_once(trained_run, tmp_path, capsys):
    args = [f"--workdir={trained_run}", "--name=tones", f"--results={tmp_path}", "--takes=1"]
    args = ["--workdir", str(trained_run), *args[1:]]
    noise.main(args)
    path = tmp_path / "noise" / "tones.json"
    first, printed = path.read_text(), capsys.readouterr().out
    runs = {(run["kind"], run["level"]): run["accuracy"] for run in records.read(path)["runs"]}
    assert len(runs) == sum(map(len, noise.LEVELS.values())) and "clean" in printed
    assert (
        runs["clean", None] > 0.5
        and runs["white", 0.0] < runs["clean", None] - 0.2
        and path.with_suffix(".png").stat().st_size > 10_000
    )
    noise.main(args)
    assert path.read_text() == first


def test_the_students_rows_are_one_change_each_and_parse(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert len(class_project.grid()) == 32
    names = [run.name for run in class_project.runs("fsdd", class_project.ROWS, 2)]
    assert "48 kHz" not in names and "as told" in names
    recipe = protocol.Recipe("configs/cnn.py", ROOT, ROOT, "seed")
    rows = class_project.runs("audiomnist", class_project.ROWS, 2)
    assert len({protocol.digest(recipe, run) for run in rows}) == len(rows)
