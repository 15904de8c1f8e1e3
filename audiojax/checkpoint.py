"""Checkpoints of a run: the last two and the best by validation accuracy. The only importer of orbax."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from audiojax.mesh import Sharding
from audiojax.state import TrainState, all_finite
from audiojax.types import InputError

BEST_BY = "validation/accuracy"


class Checkpoints:
    """The folder `workdir/checkpoints`. Use it with `with`: saves are asynchronous, and leaving waits for them."""

    def __init__(self, workdir: Path):
        def score(metrics: dict[str, float]) -> float:
            return metrics[BEST_BY]

        keep = preservation_policy.AnyPreservationPolicy(
            [preservation_policy.LatestN(2), preservation_policy.BestN(get_metric_fn=score, n=1)]
        )
        # orbax fails in the background, and silently, with a relative path
        self._manager = ocp.CheckpointManager(
            Path(workdir).resolve() / "checkpoints",
            item_names=("state",),
            options=ocp.CheckpointManagerOptions(best_fn=score, best_mode="max", preservation_policy=keep),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    @property
    def last_step(self) -> int | None:
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        return self._manager.best_step()

    def save(self, state: TrainState, validation_accuracy: float) -> None:
        """Saves the state under its step. Raises InputError instead of saving a number that is not finite."""
        check_finite(state)
        args = ocp.args.Composite(state=ocp.args.StandardSave(state))
        self._manager.save(int(state.step), args=args, metrics={BEST_BY: validation_accuracy})

    def restore(self, which: str, like: TrainState, sharding: Sharding) -> TrainState:
        """The "best" or "last" state, on the devices of `sharding`; `like` gives its tree, shapes and types."""
        self._manager.wait_until_finished()
        step = self.best_step if which == "best" else self.last_step
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._manager.restore(step, args=args)["state"]


def check_finite(state: TrainState) -> None:
    """Raises InputError where a number of the state is not finite."""
    if not all_finite((state.params, state.batch_stats, state.opt_state)):
        raise InputError(
            f"the parameters are not finite after step {int(state.step)}; nothing of it was saved: lower "
            "--config.optimizer.learning_rate or set --config.optimizer.clip_norm=1, in another --workdir."
        )


def restore_variables(workdir: Path, which: str) -> tuple[dict, int]:
    """`{"params", "batch_stats"}` as numpy arrays, without the optimizer, and their step; `which` is best or last.

    Raises InputError where `workdir` has no checkpoint.
    """
    folder = Path(workdir).resolve() / "checkpoints"
    steps = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
    if not steps:
        raise InputError(f"{workdir} holds no checkpoint yet; let training reach the end of an epoch.")
    step = steps[-1]
    if which == "best":
        with Checkpoints(workdir) as checkpoints:
            step = checkpoints.best_step or step
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(folder / str(step) / "state").item_metadata.tree
    wanted = {name: jax.tree.map(lambda _: 0, tree.get(name) or {}) for name in ("params", "batch_stats")}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    args = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    return checkpointer.restore(folder / str(step) / "state", args=args), step
