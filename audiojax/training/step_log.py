"""The log rows of training steps and epochs."""

import math

import jax

from audiojax.training.runlog import RunLog
from audiojax.training.state import diverged
from audiojax.training.steps import StepReport

PARTS = ("train", "validation", "test")


class StepLog:
    """Logs the metrics of every n-th training step.

    A step is logged after the next one is dispatched, so that the device does not wait for the host. No values of other
    steps are transferred to the host.
    """

    def __init__(self, log: RunLog, accuracy_name: str, log_every_steps: int):
        """Logs every `log_every_steps` steps to `log`, with the accuracy under the name `accuracy_name`."""
        self._log, self._accuracy_name, self._every = log, accuracy_name, log_every_steps
        self._waiting: tuple[int, StepReport] | None = None
        self._note = ""

    def add(self, done: int, report: StepReport) -> None:
        """Takes the report of step number `done` and shows progress.

        If this is one of the n-th steps, its report is pending until the next call, which logs it.
        """
        self.flush()
        if done % self._every == 0:
            self._waiting = done, report
        self._log.advance(done, self._note)

    def flush(self) -> None:
        """Logs the pending report, if there is one. Raises InputError if its loss or gradient norm is not finite."""
        if self._waiting is None:
            return
        (done, report), self._waiting = jax.device_get(self._waiting), None
        name = self._accuracy_name
        values, gradient_norm = report.metrics.summary(name), float(report.gradient_norm)
        check_finite(values | {"gradient_norm": gradient_norm}, done)
        self._note = f"loss {values['loss']:.3f}  {name.replace('_', ' ')} {values[name]:.1%}"
        row = {f"step/{name}": value for name, value in values.items()}
        self._log.row(done, row | {"learning_rate": float(report.learning_rate), "gradient_norm": gradient_norm})


def check_finite(row: dict[str, float], done: int) -> None:
    """Raises InputError if a number of the log row {name: number} of step `done` is not finite."""
    if wrong := [f"{name} is {value:g}" for name, value in row.items() if not math.isfinite(value)]:
        raise diverged(f"{' and '.join(wrong)} at step {done}")


def epoch_line(row: dict[str, float], num_epochs: int) -> str:
    """Returns a line for the console on an epoch: loss and accuracy in training, validation and test, and the speed.

    `row` is the epoch's row in the log, {name: number}, and `num_epochs` the number of epochs of the run.
    """
    parts = []
    for name in PARTS:
        key = next(key for key in row if key.startswith(f"{name}/") and key.endswith("accuracy"))
        unit = key.removeprefix(f"{name}/").removesuffix("accuracy").strip("_")
        parts.append(f"{name} {row[name + '/loss']:.3f} {row[key]:6.1%}{f' of {unit}s' if unit else ''}")
    return f"epoch {row['epoch']:>3}/{num_epochs}   {'   '.join(parts)}   {row['clips_per_second']:,.0f} clips/s"
