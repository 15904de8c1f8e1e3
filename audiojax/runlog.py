"""Where a run tells what it does: the console, `metrics.jsonl` and Weights & Biases. The only importer of wandb."""

import contextlib
import json
import netrc
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from audiojax.types import InputError, Progress

_PLAIN_LINE_SECONDS = 30.0  # without a terminal: at most this often, a line inside an epoch


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def progress(description: str) -> Iterator[Progress]:
    """A callback (done, total) that draws a bar on a terminal, and elsewhere says one line once there is work."""
    console = _console()
    with _bar(console) as bar:
        task = bar.add_task(description, total=None, visible=False, note="")
        started = False

        def report(done: int, total: int) -> None:
            nonlocal started
            if not started:
                started = True
                if not console.is_terminal:
                    console.print(f"{description}: {total:,} files")
            bar.update(task, completed=done, total=total, visible=True)

        yield report


class RunLog:
    """One run's log. Rows go to `workdir/metrics.jsonl` and, under the same names, to W&B; use it with `with`."""

    def __init__(self, workdir: Path, config: dict, *, step: int, num_steps: int):
        """Goes on at `step` of `num_steps`: rows of later steps, which a killed run may have left, are dropped."""
        self.console = _console()
        self._path = workdir / "metrics.jsonl"
        rows = read_rows(workdir)
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))
        partial.rename(self._path)
        self._rows = self._path.open("a")
        self._wandb = _Wandb(workdir, config, self.say)
        self._bar = _bar(self.console)
        self._task = self._bar.add_task("training", total=num_steps, completed=step, note="")
        self._num_steps, self._last_plain_line = num_steps, time.monotonic()

    def __enter__(self) -> "RunLog":
        self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_) -> None:
        self._bar.stop()
        self._rows.close()
        self._wandb.finish(exit_code=0 if error is None else 1)

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        self.console.print(text)

    def advance(self, step: int, note: str) -> None:
        """Shows that `step` steps are done: a bar on a terminal, elsewhere a plain line now and then."""
        self._bar.update(self._task, completed=step, note=note)
        if not self.console.is_terminal and time.monotonic() - self._last_plain_line > _PLAIN_LINE_SECONDS:
            self._last_plain_line = time.monotonic()
            self.say(f"  step {step}/{self._num_steps}  {note}")

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """One row of numbers, on disk before this returns."""
        row = {"step": step, **values}
        self._rows.write(json.dumps(row, allow_nan=False) + "\n")
        self._rows.flush()
        self._wandb.log(row)

    def pictures(
        self, paths: list[Path], sounds: dict[str, tuple[np.ndarray, int]], confusion: np.ndarray, names: Sequence[str]
    ) -> None:
        """Sends the end of a run to W&B: PNGs, {caption: (i16[t], rate_hz)}, counts [true, predicted] of `names`."""
        self._wandb.pictures(paths, sounds, confusion, names)


def read_rows(workdir: Path) -> list[dict]:
    """The rows of `workdir/metrics.jsonl`; a last line that a killed run left half written is dropped."""
    path = workdir / "metrics.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class _Wandb:
    """A W&B run that cannot stop training: what fails is said once, and W&B is left out from then on."""

    def __init__(self, workdir: Path, config: dict, say: Callable[[str], None]):
        self._run: Any = None
        self._say = say
        mode = wandb_mode(config["wandb"]["mode"])
        if mode == "disabled":
            return
        identity = workdir / "wandb_id.txt"
        self._safely(self._start, workdir, config, mode, identity)

    def _start(self, workdir: Path, config: dict, mode: Any, identity: Path) -> None:
        import wandb

        if not identity.exists():
            identity.write_text(uuid.uuid4().hex[:8])
        self._run = wandb.init(
            project=config["wandb"]["project"],
            name=config["wandb"]["name"] or workdir.name,
            id=identity.read_text().strip(),
            resume="allow",
            mode=mode,
            dir=workdir,
            config=config,
            settings=wandb.Settings(silent=True, console="off", init_timeout=20, finish_timeout=30),
        )
        # A resumed run repeats steps that W&B has seen, which it would drop; with a metric of its own it does not.
        self._run.define_metric("*", step_metric="step")
        where = self._run.url if mode == "online" else f"offline; `wandb sync {Path(self._run.dir).parent}` uploads it"
        self._say(f"W&B: {where}")

    def _safely(self, call: Callable, *args) -> None:
        try:
            call(*args)
        except Exception as error:
            self._run = None
            reason = " ".join(str(error).split())[:200]
            self._say(f"W&B failed and is left out from here ({reason}); training goes on.")

    def log(self, row: dict) -> None:
        if self._run is not None:
            self._safely(self._run.log, row)

    def pictures(self, *args) -> None:
        if self._run is not None:
            self._safely(self._log_pictures, *args)

    def _log_pictures(self, paths: list[Path], sounds: dict, confusion: np.ndarray, names: Sequence[str]) -> None:
        import wandb

        true, predicted = np.indices(confusion.shape).reshape(2, -1).repeat(confusion.ravel(), axis=1)
        media: dict[str, Any] = {f"plots/{path.stem}": wandb.Image(str(path)) for path in paths}
        media["test/sounds"] = [wandb.Audio(audio, rate_hz, caption) for caption, (audio, rate_hz) in sounds.items()]
        media["test/confusion"] = wandb.plot.confusion_matrix(
            y_true=true.tolist(), preds=predicted.tolist(), class_names=list(names)
        )
        self._run.log(media)

    def finish(self, exit_code: int) -> None:
        if self._run is not None:
            self._safely(self._run.finish, exit_code)


def wandb_mode(wanted: str) -> str:
    """online, offline or disabled: $WANDB_MODE or else `wanted`, online only where a key is configured.

    Without a key W&B would ask for a login.
    """
    modes = ("auto", "online", "offline", "disabled")
    mode = os.environ.get("WANDB_MODE") or wanted
    if mode not in modes:
        raise InputError(f"config.wandb.mode (or $WANDB_MODE) is {mode!r}; choose one of {', '.join(modes)}.")
    if mode in ("auto", "online"):
        return "online" if os.environ.get("WANDB_API_KEY") or _key_in_netrc() else "offline"
    return mode


def _key_in_netrc() -> bool:
    host = os.environ.get("WANDB_BASE_URL", "wandb").rpartition("//")[2].split("/")[0]
    try:
        return any(host in known for known in netrc.netrc(os.environ.get("NETRC")).hosts)
    except (OSError, netrc.NetrcParseError):
        return False
