"""The log of a run: the console, `metrics.jsonl` and Weights & Biases."""

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.io.console import _bar, _console
from audiojax.io.files import write_text
from audiojax.training.wandb_logging import Tracker

_PLAIN_LINE_SECONDS = 30.0  # minimum time between lines within an epoch, without a terminal


class RunLog:
    """The log of a run, a context manager: console, progress bar, `workdir/metrics.jsonl` and Weights & Biases (W&B).

    A row of the log has the numbers of one step or epoch, {name: number}, and goes to metrics.jsonl and W&B.
    """

    def __init__(self, workdir: Path, config: dict[str, Any], *, step: int, num_steps: int, scored: bool = True):
        """Continues the log at `step` of `num_steps` and removes rows of later steps, which a killed run may have left.

        `config` is the config of the run as nested dicts. If `scored` is False, the epoch that ends at `step` still has
        to be scored, and its row is removed too.
        """
        self.console = _console()
        self._path = workdir / "metrics.jsonl"
        last_epoch = step if scored else step - 1
        rows = [row for row in read_rows(workdir) if row["step"] <= (last_epoch if "epoch" in row else step)]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._rows = self._path.open("a")
        self._tracker = Tracker(workdir, config, self.say)
        self._bar = _bar(self.console)
        self._task = self._bar.add_task("training", total=num_steps, completed=step, note="")
        self._step, self._num_steps, self._last_plain_line = step, num_steps, time.monotonic()

    def __enter__(self) -> "RunLog":
        """Starts the progress bar."""
        self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Closes the log and ends the W&B run."""
        self._bar.stop()
        self._rows.close()
        self._tracker.finish(exit_code=0 if error is None else 1)

    def say(self, text: str) -> None:
        """Prints a line on the console."""
        self.console.print(text)

    def advance(self, step: int, note: str) -> None:
        """Shows that `step` steps are done, with a `note`: as a bar on a terminal, otherwise in an occasional line."""
        self._bar.update(self._task, completed=step, note=note)
        if not self.console.is_terminal and time.monotonic() - self._last_plain_line > _PLAIN_LINE_SECONDS:
            self._last_plain_line = time.monotonic()
            self.say(f"  step {step}/{self._num_steps}  {note}")

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the row `values` {name: number} of `step` to metrics.jsonl and sends it to W&B."""
        row, self._step = {"step": step, **values}, step
        self._rows.write(json.dumps(row, allow_nan=False) + "\n")
        self._rows.flush()
        self._tracker.log(row)

    def pictures(
        self, paths: list[Path], sounds: dict[str, tuple[np.ndarray, int]], confusion: np.ndarray, names: Sequence[str]
    ) -> None:
        """Sends plots, sounds and a confusion matrix to W&B.

        `paths` are PNG files, `sounds` {caption: (i16[t], rate_hz)}, `confusion` is i32[labels, labels],
        [true, predicted], and `names` are the labels.
        """
        self._tracker.pictures(self._step, paths, sounds, confusion, names)


def read_rows(run: Path) -> list[dict[str, Any]]:
    """Returns the rows of a run's metrics, a dict {name: number} each; incomplete and damaged ones are dropped.

    Rows of epochs have the key "epoch", all rows "step". `run` is the workdir, or a copy of its `metrics.jsonl`.
    """
    path = run if run.suffix == ".jsonl" else run / "metrics.jsonl"
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and "step" in row and all(map(_is_number, row.values())):
                rows.append(row)
    return rows


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
