"""Logging to Weights & Biases in a process of its own, which can neither stop training nor slow it down.

`Tracker` runs in the training process and sends lines of JSON to `serve` in the other process. Any failure of W&B, such
as a hang, a crash, a full disk or no network, is reported once, and logging to W&B ends.
"""

import base64
import contextlib
import glob
import json
import netrc
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiojax.errors import InputError, one_line
from audiojax.io.files import write_text

_PATIENCE_SECONDS = 60.0  # maximum time to wait for pending data at the end of a run


class Tracker:
    """The training process's side of a run in Weights & Biases (W&B), which is logged by a process of its own.

    Its methods return at once, except `finish`, which waits for a limited time.
    """

    def __init__(self, workdir: Path, config: dict[str, Any], say: Callable[[str], None]):
        """Starts the process of W&B for the run in `workdir`, unless W&B is disabled.

        `config` is the config of the run as nested dicts; its section `wandb` has the mode, project and name. `say`
        prints messages.
        """
        self._say, self._failed = say, False
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        mode = wandb_mode(config["wandb"]["mode"])
        if mode == "disabled":
            return
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "audiojax.training.wandb_logging"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # so that it does not receive Ctrl-C and can be killed with its children
            )
        except OSError as error:
            self._fail(one_line(error))
            return
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()
        self._send("start", workdir=str(workdir.resolve()), config=config, mode=mode)

    def log(self, row: dict[str, Any]) -> None:
        """Sends the numbers of a training step, {name: number}; `row["step"]` is the step."""
        self._send("log", row=row)

    def pictures(
        self,
        step: int,
        paths: list[Path],
        sounds: dict[str, tuple[np.ndarray, int]],
        confusion: np.ndarray,
        names: Sequence[str],
    ) -> None:
        """Sends the plots, sounds and the confusion matrix of a run.

        Args:
            step: The training step.
            paths: PNG files of plots.
            sounds: Examples, {caption: (i16[t], rate_hz)}.
            confusion: The confusion matrix, i32[labels, labels], [true, predicted].
            names: The names of the labels.
        """
        coded = {}
        for caption, (sound, rate_hz) in sounds.items():
            coded[caption] = (base64.b64encode(sound.tobytes()).decode(), rate_hz)
        about = dict(step=step, paths=[str(path.resolve()) for path in paths], sounds=coded)
        self._send("pictures", **about, confusion=confusion.tolist(), names=list(names))

    def finish(self, exit_code: int) -> None:
        """Ends the W&B run with `exit_code`, 0 for success; waits until all data is sent, for at most a minute."""
        if self._process is None:
            return
        self._send("finish", exit_code=exit_code)
        self._lines.put(None)
        try:
            code = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            code, reason = 0, f"it has not finished within {_PATIENCE_SECONDS:g} s"
            self._fail(reason)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join(1)
        if code:
            self._fail(f"its process ended with code {code}")
        self._process = None

    def _send(self, call: str, **arguments: Any) -> None:
        if self._process is not None:
            self._lines.put(json.dumps({"call": call, **arguments}))

    def _write(self) -> None:
        assert self._process and self._process.stdin
        with contextlib.suppress(OSError), self._process.stdin as pipe:
            while (line := self._lines.get()) is not None:
                pipe.write(line + "\n")
                pipe.flush()

    def _read(self) -> None:
        assert self._process and self._process.stdout
        for line in self._process.stdout:
            kind, _, text = line.rstrip("\n").partition(" ")
            if kind == "failed":
                self._fail(text)
            elif kind == "say":
                self._say(text)

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            self._say(f"W&B failed and is not used from here on ({reason}); training continues.")


def serve(lines: IO[str], say: Callable[[str], None]) -> None:
    """Makes the calls of W&B that the training process asks for, until the run is finished or `lines` end.

    It runs in the process of W&B. Each line is a JSON object: "call" is "start", "log", "pictures" or "finish", and
    the other keys are its arguments. `say` sends messages back.
    """
    import wandb

    run: Any = None
    rows: Any = None
    for line in lines:
        arguments = json.loads(line)
        match arguments.pop("call"):
            case "start":
                run = _start(wandb, Path(arguments["workdir"]), arguments["config"], arguments["mode"], say)
                rows = _Rows(run)
            case "log":
                rows.log(arguments["row"])
            case "pictures":
                _log_pictures(wandb, rows, **arguments)
            case "finish":
                run.finish(arguments["exit_code"])
                return
    if run is not None:  # training was killed
        run.finish(1)


def _start(wandb: Any, workdir: Path, config: dict[str, Any], mode: str, say: Callable[[str], None]) -> Any:
    identity = workdir / "wandb_id.txt"
    if not identity.exists() or not identity.read_text().strip():  # an empty file is from a killed run
        of_sweep = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        write_text(identity, of_sweep or uuid.uuid4().hex[:8])
    about: dict[str, Any] = dict(
        project=config["wandb"]["project"],
        name=config["wandb"]["name"] or workdir.name,
        id=identity.read_text().strip(),
        resume="allow",
        dir=workdir,
        config=config,
        settings=wandb.Settings(silent=True, console="off", init_timeout=20, finish_timeout=30),
    )
    try:
        run = wandb.init(mode=mode, **about)
    except wandb.Error as error:
        if mode != "online":
            raise
        say(f"W&B cannot be reached ({one_line(error, 80)}); this run is logged offline.")
        mode = "offline"
        wandb.teardown()
        run = wandb.init(mode=mode, **about)
    run.define_metric("*", step_metric="step")  # the x axis, also for repeated rows, which have other W&B steps
    say(f"W&B: {run.url}" if mode == "online" else f"W&B: offline; `wandb sync {_parts(run)}` uploads it")
    return run


def _parts(run: Any) -> str:
    """Returns the folders of all offline parts of a run in order; each start of training creates one.

    Synchronised in this order they form one run.
    """
    folder = Path(run.dir).parent  # offline-run-DATE_TIME-ID
    parts = sorted(folder.parent.glob(f"offline-run-*-{glob.escape(run.id)}"))
    return " ".join(shlex.quote(str(part)) for part in parts)


class _Rows:
    """Logs rows of a W&B run with their own steps.

    W&B drops rows with a step below the last one. A killed run that is resumed online repeats some rows; they are
    logged with the next W&B step and keep their value of "step", the x axis.
    """

    def __init__(self, run: Any):
        self._run, self._lowest = run, run.starting_step

    def log(self, row: dict[str, Any]) -> None:
        repeated = row["step"] < self._lowest
        step = self._lowest if repeated else row["step"]
        self._run.log(row, step=step)
        self._lowest = step + repeated


def _log_pictures(
    wandb: Any,
    rows: _Rows,
    *,
    step: int,
    paths: list[str],
    sounds: dict[str, Any],
    confusion: list[Any],
    names: list[str],
) -> None:
    counts = np.asarray(confusion)
    true, predicted = np.indices(counts.shape).reshape(2, -1).repeat(counts.ravel(), axis=1)
    media: dict[str, Any] = {f"plots/{Path(path).stem}": wandb.Image(path) for path in paths}
    media["test/sounds"] = [
        wandb.Audio(np.frombuffer(base64.b64decode(sound), np.int16), rate_hz, caption)
        for caption, (sound, rate_hz) in sounds.items()
    ]
    media["test/confusion"] = wandb.plot.confusion_matrix(
        y_true=true.tolist(), preds=predicted.tolist(), class_names=names
    )
    rows.log(media | {"step": step})


def wandb_mode(configured: str) -> str:
    """Returns the mode of W&B: "online", "offline" or "disabled".

    It is that of the environment variable WANDB_MODE, if that is set, or else `configured`, which may also be "auto".
    "online" and "auto" are online with an API key, and offline without one, because W&B would prompt for a login.
    """
    modes = {"auto": "auto", "online": "online", "offline": "offline", "disabled": "disabled"}
    modes |= {"run": "auto", "dryrun": "offline", "shared": "auto"}  # other names in W&B
    mode = os.environ.get("WANDB_MODE") or configured
    if mode not in modes:
        raise InputError(f"$WANDB_MODE is {mode!r}; choose one of {', '.join(modes)}.")
    if modes[mode] in ("auto", "online"):
        return "online" if os.environ.get("WANDB_API_KEY") or _key_in_netrc() else "offline"
    return modes[mode]


def _key_in_netrc() -> bool:
    """Returns whether the configured host of W&B, or by default any of its hosts, has an entry in the netrc file."""
    host = os.environ.get("WANDB_BASE_URL", "").rpartition("//")[2].partition("/")[0].partition(":")[0]
    try:
        known = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return False
    return host in known if host else any("wandb" in name.split(".") for name in known)


if __name__ == "__main__":
    try:
        serve(sys.stdin, lambda text: print("say", text, flush=True))
    except BaseException as failure:  # no failure of W&B may affect training
        print("failed", one_line(failure), flush=True)
