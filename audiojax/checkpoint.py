"""Checkpoints of a run: the last two and the best by validation accuracy. The only importer of orbax.

Each holds the state and a checksum of it: a bit that flipped on the disk would otherwise be believed.
"""

import contextlib
import json
import logging
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from audiojax.data.disk import check_room
from audiojax.mesh import Sharding
from audiojax.state import TrainState, all_finite
from audiojax.types import InputError

BEST_BY = "validation/accuracy"
Say = Callable[[str], None]


class Checkpoints:
    """The folder `workdir/checkpoints`. Use it with `with`: saves are asynchronous, and leaving waits for them.

    One process at a time may write there. What killed saves left is cleared away.
    """

    def __init__(self, workdir: Path, say: Say = print):
        self._folder, self._say = Path(workdir).resolve() / "checkpoints", say
        for leftover in self._folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for step in _steps(self._folder):
            if reason := _unreadable(self._folder / str(step)):  # orbax would refuse all others too
                self._set_aside(step, reason)
        self._manager = _manager(self._folder)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        with self._in_one_sentence():
            self._manager.close()

    @contextlib.contextmanager
    def _in_one_sentence(self) -> Iterator[None]:
        """A save fails in the background, and is heard of at the next one or at the end."""
        try:
            yield
        except Exception as error:
            raise InputError(
                f"a checkpoint could not be saved in {self._folder} ({_reason(error)}); make room there, or give it "
                "another --workdir: what was saved before is whole."
            ) from None

    @property
    def last_step(self) -> int | None:
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        return self._manager.best_step()

    def save(self, state: TrainState, validation_accuracy: float | None) -> None:
        """Saves the state under its step; without an accuracy it is the last, but never the best.

        Raises InputError instead of saving a number that is not finite.
        """
        check_finite(state)
        check_room(self._folder, sum(x.nbytes for x in jax.tree.leaves(state)))
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), checksums=ocp.args.JsonSave(_checksums(state)))
        if int(state.step) in self._manager.all_steps():  # stopped here before it was scored; orbax would keep that one
            self._manager.delete(int(state.step))
        metrics = None if validation_accuracy is None else {BEST_BY: validation_accuracy}
        with self._in_one_sentence():
            self._manager.save(int(state.step), args=args, metrics=metrics)

    def restore(self, which: str, like: TrainState, sharding: Sharding) -> TrainState | None:
        """The "best" or "last" state, on the devices of `sharding`; `like` gives its tree, shapes and types.

        A damaged checkpoint is set aside, with a sentence, and the one before it taken; None where none is left.
        """
        self._manager.wait_until_finished()
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), checksums=ocp.args.JsonRestore())
        while (step := _wanted(self._manager, which)) is not None:
            try:
                saved = self._manager.restore(step, args=args)
                _verify(saved["state"].__dict__, saved["checksums"])
                return saved["state"]
            except Exception as error:  # orbax and tensorstore raise many kinds for a file that is not what it was
                self._set_aside(step, _reason(error))
                self._manager.reload()
        return None

    def _set_aside(self, step: int, reason: str) -> None:
        self._say(f"Checkpoint {step} in {self._folder} is damaged and set aside ({reason}).")
        aside = self._folder / f"damaged-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        (self._folder / str(step)).rename(aside)


def check_finite(state: TrainState) -> None:
    """Raises InputError where a number of the state is not finite."""
    if not all_finite((state.params, state.batch_stats, state.opt_state)):
        raise InputError(
            f"the parameters are not finite after step {int(state.step)}; nothing of it was saved: lower "
            "--config.optimizer.learning_rate or set --config.optimizer.clip_norm=1, in another --workdir."
        )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """absl, through which orbax warns of what it was asked for, speaks up for errors only."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@_quietly()
def restore_variables(workdir: Path, which: str) -> tuple[dict, int]:
    """`{"params", "batch_stats"}` as numpy arrays, without the optimizer, and their step; `which` is best or last.

    Only reads, so that it may look at a run in training. Raises InputError where `workdir` has no checkpoint, and
    for a damaged one.
    """
    folder = Path(workdir).resolve() / "checkpoints"
    steps = _steps(folder)
    if not steps:
        raise InputError(f"{workdir} holds no checkpoint yet; let training reach the end of an epoch.")
    step = steps[-1]
    try:
        with _manager(folder, read_only=True) as manager:
            step = _wanted(manager, which) or step
        state = folder / str(step) / "state"
        checkpointer = ocp.PyTreeCheckpointer()
        tree = checkpointer.metadata(state).item_metadata.tree
        wanted = {name: jax.tree.map(lambda _: 0, tree.get(name) or {}) for name in ("params", "batch_stats")}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        args = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        variables = checkpointer.restore(state, args=args)
        checksums = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(folder / str(step) / "checksums")
        _verify(variables, checksums)
    except Exception as error:
        raise InputError(
            f"checkpoint {step} in {folder} is damaged ({_reason(error)}); take the other with "
            "--checkpoint=best or last, or train again."
        ) from None
    return variables, step


def _manager(folder: Path, *, read_only: bool = False) -> ocp.CheckpointManager:
    def score(metrics: dict[str, float]) -> float:
        return metrics[BEST_BY]

    best = preservation_policy.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
    keep = preservation_policy.AnyPreservationPolicy([preservation_policy.LatestN(2), best])
    options = ocp.CheckpointManagerOptions(
        best_fn=score, best_mode="max", preservation_policy=keep, read_only=read_only
    )
    # orbax fails in the background, and silently, with a relative path
    return ocp.CheckpointManager(folder.resolve(), item_names=("state", "checksums"), options=options)


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def _unreadable(checkpoint: Path) -> str | None:
    """Why what orbax reads of every checkpoint in order to list them cannot be read; None where it can."""
    for path in (checkpoint / "_CHECKPOINT_METADATA", checkpoint / "metrics" / "metrics"):
        try:
            json.loads(path.read_text())
        except FileNotFoundError:  # a checkpoint in the middle of an epoch has no metrics
            continue
        except (OSError, ValueError) as error:
            return f"{path.name}: {_reason(error)}"
    return None


def _wanted(manager: ocp.CheckpointManager, which: str) -> int | None:
    """The step of the "best" or "last" checkpoint; before the first epoch has ended the last is also the best."""
    last = manager.latest_step()
    return last if which == "last" else next((s for s in (manager.best_step(), last) if s is not None), None)


def _checksums(state: TrainState) -> dict[str, int]:
    return {name: _checksum(part) for name, part in jax.device_get(state).__dict__.items()}


def _checksum(tree: Any) -> int:
    """CRC-32 of all arrays of a tree, in its order."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def _verify(parts: dict[str, Any], checksums: dict[str, int]) -> None:
    for name, part in parts.items():
        if _checksum(part) != checksums[name]:
            raise ValueError(f"the checksum of its {name} is another")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120].rstrip(". ") or type(error).__name__
