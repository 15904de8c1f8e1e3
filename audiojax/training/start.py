"""Initialises a run from the parameters of another one (`config.init_from`), after a check for test clips."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from audiojax import config as configs
from audiojax.data import loading, splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError, one_line
from audiojax.training import run_dir
from audiojax.training.checkpoint import restore_variables
from audiojax.training.state import TrainState

HEAD = "logits"  # the layer that depends on the labels
OPTIONAL = ("more",)  # layers that the other run may lack
_SHAPE_KEYS = ("model.", "data.rate_hz", "train.length_samples")  # keys that determine the shapes of parameters


def start_from(
    source: str, state: TrainState, config: ConfigDict, label_names: tuple[str, ...], say: Callable[[str], Any]
) -> TrainState:
    """Returns the initial state of a run with the parameters of another run.

    If the labels of the two runs differ, the last layer keeps its initial parameters; so do the layers `OPTIONAL` that
    the other run lacks. Raises InputError if any other parameter has another shape.

    Args:
        source: The workdir of the other run; "" returns `state` unchanged.
        state: The newly initialised state of this run.
        config: The config of this run; `init_checkpoint` is the other run's checkpoint, "best" or "last"; a run
            in the form of the packaged recogniser has one set of parameters.
        label_names: The labels of this run.
        say: Prints messages.
    """
    if not source:
        return state
    workdir = Path(source).expanduser()
    saved, data = run_dir.load(workdir)
    if (workdir / "parameters.npz").exists():  # written by experiments.streaming.package_recognizer
        variables, step = run_dir.read_parameters(workdir), data["step"]
    else:
        variables, step = restore_variables(workdir, config.init_checkpoint)
    ours, theirs = (traverse_util.flatten_dict(tree, sep="/") for tree in (state.variables, variables))
    new_head = tuple(data["label_names"]) != label_names
    layers, their_layers = ({part for name in tree for part in name.split("/")} for tree in (ours, theirs))
    lacking = set(OPTIONAL) & layers - their_layers
    own = lacking | ({HEAD} if new_head else set())
    theirs |= {name: np.asarray(ours[name]) for name in ours if own & set(name.split("/"))}
    differing = sorted(n for n in ours.keys() | theirs.keys() if np.shape(ours.get(n)) != np.shape(theirs.get(n)))
    if differing or ours.keys() != theirs.keys():
        raise InputError(_other_shapes(workdir, config, saved, differing))
    say(f"Starting from the parameters of {workdir} at step {step}.")
    if lacking:
        say(f"It has no layer {', '.join(sorted(lacking))}, which is newly initialised.")
    if new_head:
        names = "; ".join(", ".join(map(str, labels[:12])) for labels in (data["label_names"], label_names))
        say(f"Its labels differ ({names}): the last layer, {HEAD!r}, is newly initialised.")
    variables = traverse_util.unflatten_dict(theirs, sep="/") | {k: {} for k in variables if not variables[k]}
    return state.replace(**variables, average=jax.tree.map(np.copy, variables["params"]) if state.average else {})


def _other_shapes(workdir: Path, config: ConfigDict, saved: ConfigDict, parameters: list[str]) -> str:
    """Returns the error message for parameters of other shapes, with the keys that differ."""
    old, new = configs.flatten(saved.to_dict()), configs.flatten(config.to_dict())
    keys = [
        f"config.{key} {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if key.startswith(_SHAPE_KEYS) and old.get(key) != new.get(key)
    ]
    why = "; ".join(keys) or f"parameter {', '.join(parameters[:3])}"
    return f"config.init_from is {workdir}, whose network has other shapes ({why}); give this run the same keys."


def check_unseen(config: ConfigDict, clips: Clips, split: splits.Split, say: Callable[[str], Any]) -> None:
    """Raises InputError if the run in `config.init_from` was trained on test or validation clips of `split`.

    It also checks the runs from which that run was itself initialised. If this cannot be determined, `say` prints a
    message. `clips` are those of the run with `config`, and `split` is their split.
    """
    source, seen, visited = config.init_from, np.zeros(len(clips), bool), set()
    while source and source not in visited:
        visited.add(source)
        workdir = Path(source).expanduser()
        try:
            saved, data = run_dir.load(workdir)
            for theirs, indices in _trained_on(saved, data, clips):
                seen |= _shared(config, clips, saved, theirs, indices)
        except (InputError, OSError) as error:
            say(f"It is unknown whether {workdir} was trained on test clips of this run: {one_line(error, 300)}.")
            break
        source = saved.init_from
        counts = {part: int(seen[getattr(split, part)].sum()) for part in ("test", "validation")}
        if any(counts.values()):
            counted = " and ".join(
                f"{n:,} of the {len(getattr(split, part)):,} {part} clips" for part, n in counts.items()
            )
            same = [f"--config.split.{k}={v}" for k, v in sorted(saved.split.items()) if v != config.split[k]]
            fix = f"give this run the same split ({' '.join(same)}), or " if same else ""
            raise InputError(
                f"config.init_from leads to {workdir}, which was trained on {counted} of this run's split; "
                f"{fix}start from another run."
            )


def _trained_on(saved: ConfigDict, data: dict[str, Any], clips: Clips) -> Iterator[tuple[Clips, np.ndarray]]:
    """Yields the training clips and indices of the run of `saved` that may be among `clips`."""
    if data["key"] == clips.key:
        yield clips, splits.make(clips, **saved.split).train
    elif saved.data.source == clips.source:
        theirs = loading.load_clips(saved)
        if theirs.key != data["key"]:
            raise InputError("its sound files have changed since")
        yield theirs, splits.make(theirs, **saved.split).train
    whole = [(saved.data.extra_source, saved.data.extra_root)]
    whole += [(maker, "") for maker in saved.streams.synthetic_sources if saved.streams.steps_per_epoch]
    for source, root in whole:
        if source == clips.source:
            theirs = _source(saved, source, root)
            yield theirs, np.arange(len(theirs))


def _source(saved: ConfigDict, source: str, root: str) -> Clips:
    other = ConfigDict(saved.to_dict())
    other.data.source, other.data.root = source, root
    return loading.load_clips(other)


def _shared(config: ConfigDict, clips: Clips, saved: ConfigDict, theirs: Clips, indices: np.ndarray) -> np.ndarray:
    """Returns bool[n], which of `clips` are among `theirs` at `indices`: by samples, or at other rates by file."""
    if theirs.key == clips.key:
        return np.isin(np.arange(len(clips)), indices)
    if theirs.rate_hz == clips.rate_hz:
        known = {_hash(theirs[index]) for index in indices}
        return np.fromiter((_hash(clips[index]) in known for index in range(len(clips))), bool, len(clips))
    roots = [Path(of.data.root).expanduser().resolve() for of in (config, saved)]
    if roots[0] != roots[1] or config.synthetic.to_dict() != saved.synthetic.to_dict():
        raise InputError("it has another sampling rate and its sound files are in another folder")
    files = {theirs.path[index] for index in indices}
    return np.fromiter((path in files for path in clips.path), bool, len(clips))


def _hash(sound: np.ndarray) -> bytes:
    return hashlib.sha256(sound.tobytes()).digest()
