"""Checkpoints of a run: the last two and the best by validation accuracy.

A checkpoint has the state and its checksums, which detect changes on disk. A damaged checkpoint is set aside; any other
error while reading is reported and leaves it in place.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from audiojax.errors import InputError
from audiojax.io.files import check_room, identity, in_use, read_json
from audiojax.training.checksums import checksum, checksum_of_shapes, proves_damage, reason, verify
from audiojax.training.state import TrainState, check_finite

BEST_BY = "validation/accuracy"
Say = Callable[[str], None]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Limits the log of absl, which orbax uses, to errors."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


class Checkpoints:
    """A context manager that saves and restores the checkpoints of a run, in `workdir/checkpoints`.

    Saves run in the background; leaving the context waits for them. One process at a time may write there. Files of
    interrupted saves are deleted. `say` prints messages.
    """

    def __init__(self, workdir: Path, say: Say = print):
        self._folder, self._say = Path(workdir).resolve() / "checkpoints", say
        self._settle()
        for step in _steps(self._folder):
            with self._or_set_aside(step):  # orbax reads these files of all checkpoints and would fail for all of them
                _read(self._folder / str(step), "metadata")
                _ = ocp.path.step.standard_name_format().find_step(self._folder, step).commit_timestamp
                _accuracy(self._folder / str(step))
        self._manager = _manager(self._folder)

    def __enter__(self) -> "Checkpoints":
        """Returns this object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for pending saves."""
        with self._in_one_sentence():
            self._manager.close()

    @contextlib.contextmanager
    def _in_one_sentence(self) -> Iterator[None]:
        """Converts errors of a background save, which orbax raises at the next save or at the end, to InputError."""
        try:
            yield
        except Exception as error:
            raise InputError(
                f"a checkpoint could not be saved in {self._folder} ({reason(error)}); make room there, or give "
                "another --workdir: what was saved before is complete."
            ) from None

    @property
    def last_step(self) -> int | None:
        """Returns the step of the last checkpoint; None if there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Returns the step of the checkpoint with the best validation accuracy; None if there is none."""
        return self._manager.best_step()

    def save(self, state: TrainState, validation_accuracy: float | None) -> None:
        """Saves `state` as the checkpoint of its step.

        Without a `validation_accuracy` it can become the last but not the best checkpoint. Raises InputError if a
        number of the state is not finite.
        """
        state = jax.device_get(state)
        check_finite(state)
        check_room(self._folder, sum(x.nbytes for x in jax.tree.leaves(state)))
        step, checksums = int(state.step), _checksums(state) | {BEST_BY: validation_accuracy}
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), checksums=ocp.args.JsonSave(checksums))
        metrics = None if validation_accuracy is None else {BEST_BY: validation_accuracy}
        with self._in_one_sentence():
            self._manager.wait_until_finished()
            if step not in self._manager.all_steps():
                self._manager.save(step, args=args, metrics=metrics)
                return
            # Replaces an unscored state of this step, which orbax would keep; a killed process leaves one of the two.
            (self._folder / str(step)).rename(self._folder / f"unscored-{step}")
            try:
                self._manager.reload()
                self._manager.save(step, args=args, metrics=metrics)
                self._manager.wait_until_finished()
            finally:
                self._settle()

    def _settle(self) -> None:
        """Deletes the unscored state if the scored one is saved, and restores it otherwise."""
        for unscored in self._folder.glob("unscored-*"):
            scored = self._folder / unscored.name.removeprefix("unscored-")
            if scored.exists():
                shutil.rmtree(unscored, ignore_errors=True)
            else:
                unscored.rename(scored)

    @_quietly()
    def restore(self, which: str, like: TrainState) -> TrainState | None:
        """Returns the state of the "best" or "last" checkpoint as numpy arrays, with tree, shapes and types of `like`.

        A damaged checkpoint is set aside with a message, and the previous one is used; returns None if none is left.
        Raises InputError for a checkpoint that cannot be read or has another tree.
        """
        with self._in_one_sentence():
            self._manager.wait_until_finished()
        while (step := _wanted(self._manager, which)) is not None:
            with self._or_set_aside(step):
                parts = _parts(self._folder / str(step), like)
                if parts is None:
                    raise InputError(
                        f"checkpoint {step} in {self._folder} was made by another version of audiojax, whose state has "
                        "other names, shapes or types; use that version, or give another --workdir."
                    )
                abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), parts)
                args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), checksums=ocp.args.JsonRestore())
                saved = self._manager.restore(step, args=args)
                verify(saved["state"], saved["checksums"])
                return TrainState(**{name: saved["state"][name] for name in like.__dict__})
            self._manager.reload()
        if any(self._folder.glob("damaged-*")):
            self._say(f"No valid checkpoint is left in {self._folder}: training starts again.")
        return None

    @contextlib.contextmanager
    def _or_set_aside(self, step: int) -> Iterator[None]:
        """A context manager for reading the checkpoint of `step`, which sets it aside if it is damaged."""
        checkpoint = self._folder / str(step)
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            if not proves_damage(error):
                raise _unreadable(checkpoint, error) from None
            self._say(f"Checkpoint {step} in {self._folder} is damaged and set aside ({reason(error)}).")
            names = (f"damaged-{step}{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
            checkpoint.rename(next(aside for name in names if not (aside := self._folder / name).exists()))


@_quietly()
def restore_variables(workdir: Path, which: str) -> tuple[dict[str, Any], int]:
    """Returns {"params", "batch_stats"} of the "best" or "last" checkpoint as numpy arrays, and its training step.

    The parameters are the moving averages if the run has them. Nothing is written, so the run may be in training.
    Raises InputError if `workdir` has no checkpoint, or if it is damaged or cannot be read.
    """
    folder, patience = Path(workdir).resolve() / "checkpoints", time.monotonic() + 30
    while steps := list(before := _identities(folder)):
        step = steps[-1]
        try:
            if which == "best":
                scores = {}
                for step in steps:
                    scores[step] = _accuracy(folder / str(step))
                # as orbax, of equals the latest; before the first epoch has ended the last is also the best
                step = max(steps, key=lambda s: (-1.0 if scores[s] is None else scores[s], s))
            return _variables(folder / str(step)), step
        except Exception as error:
            training = in_use(Path(workdir)) and time.monotonic() < patience
            if training:
                time.sleep(0.2)
            if training or _identities(folder).get(step) != before[step]:  # it is being deleted or replaced
                continue
            if not proves_damage(error):
                raise _unreadable(folder / str(step), error) from None
            raise InputError(
                f"checkpoint {step} in {folder} is damaged ({reason(error)}); use the other one with "
                "--checkpoint=best or last, or train again."
            ) from None
    raise InputError(f"{workdir} holds no checkpoint yet; let training reach the end of an epoch.")


def _variables(checkpoint: Path) -> dict[str, Any]:
    checkpointer = ocp.PyTreeCheckpointer()
    tree = _shapes(checkpoint)
    names = ("average" if tree.get("average") else "params", "batch_stats")
    wanted = {name: jax.tree.map(lambda _: 0, tree.get(name) or {}) for name in names}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    args = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    parts = checkpointer.restore(checkpoint / "state", args=args)
    verify(parts, _read(checkpoint, "checksums"))
    return dict(zip(("params", "batch_stats"), (parts[name] for name in names), strict=True))


def _manager(folder: Path) -> ocp.CheckpointManager:
    def score(metrics: dict[str, float]) -> float:
        return metrics[BEST_BY]

    best = preservation_policy.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
    keep = preservation_policy.AnyPreservationPolicy([preservation_policy.LatestN(2), best])
    # All processes have the complete state; the first one saves it without waiting for the others.
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
    options = ocp.CheckpointManagerOptions(
        best_fn=score,
        best_mode="max",
        preservation_policy=keep,
        create=False,
        cleanup_tmp_directories=True,  # of killed saves
        multiprocessing_options=alone if jax.process_count() > 1 else ocp.options.MultiprocessingOptions(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    # with a relative path, orbax fails silently in the background
    return ocp.CheckpointManager(folder.resolve(), item_names=("state", "checksums"), options=options)


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def _identities(folder: Path) -> dict[int, tuple[int, int] | None]:
    """Returns the identity of the folder of each step; None if it has just been deleted."""
    return {step: identity(folder / str(step)) for step in _steps(folder)}


def _accuracy(checkpoint: Path) -> float | None:
    """Returns the validation accuracy of a checkpoint, None if unscored. Raises ValueError if its copies differ."""
    accuracy = None
    with contextlib.suppress(FileNotFoundError):
        accuracy = float(_read(checkpoint, "metrics")[BEST_BY])
    if _read(checkpoint, "checksums").get(BEST_BY, accuracy) != accuracy:  # older ones have no copy; NaN is unequal
        raise ValueError("its accuracy is not the one that was saved")
    return accuracy


def _read(checkpoint: Path, what: str) -> Any:
    """Returns the JSON of one of orbax's own files: "metadata", "metrics" or "checksums" of a checkpoint."""
    # Where they lie is not part of orbax's interface. Its manager reads them as well, but it refuses all checkpoints
    # for one that is damaged, and tidies up a folder in which another process may be training.
    places = {"metadata": "_CHECKPOINT_METADATA", "metrics": "metrics/metrics", "checksums": "checksums/metadata"}
    return read_json(checkpoint / places[what])


def _shapes(checkpoint: Path) -> dict[str, Any]:
    """Returns the tree of the saved state, with shapes and types for arrays."""
    tree: dict[str, Any] = ocp.PyTreeCheckpointer().metadata(checkpoint / "state").item_metadata.tree
    return tree


def _unreadable(checkpoint: Path, error: Exception) -> InputError:
    return InputError(
        f"checkpoint {checkpoint.name} in {checkpoint.parent} cannot be read ({reason(error)}); it is not changed: "
        "fix the cause and run the command again."
    )


def _wanted(manager: ocp.CheckpointManager, which: str) -> int | None:
    """Returns the step of the "best" or "last" checkpoint; before the end of the first epoch both are the same."""
    last = manager.latest_step()
    return last if which == "last" else next((s for s in (manager.best_step(), last) if s is not None), None)


def _checksums(state: TrainState) -> dict[str, Any]:
    parts = {name: checksum(part) for name, part in state.__dict__.items()}
    return parts | {"tree": checksum_of_shapes(state)}


def _parts(checkpoint: Path, like: TrainState) -> dict[str, Any] | None:
    """Returns the parts of the state in a checkpoint, with the shapes of `like`; None if it has other ones.

    Both records of the tree must differ for that; if only one does, it may be damaged.
    """
    for parts in (like.__dict__, like.__dict__ | {"gradient_norm": np.zeros((), np.float32)}):  # of earlier versions
        ours = checksum_of_shapes(parts)
        if _read(checkpoint, "checksums").get("tree") == ours or checksum_of_shapes(_shapes(checkpoint)) == ours:
            return parts
    return None
