"""Weights & Biases, in a thread of its own: it can neither stop training nor slow it. The only importer of wandb."""

import netrc
import os
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.types import InputError

_PATIENCE_SECONDS = 60.0  # how long the end of a run waits for what is still to be sent


class Tracker:
    """A W&B run. The first call that fails is said, and W&B is left out from then on."""

    def __init__(self, workdir: Path, config: dict, say: Callable[[str], None]):
        self._workdir, self._config, self._say = workdir, config, say
        self._mode: Any = wandb_mode(config["wandb"]["mode"])
        self._run: Any = None
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="wandb")
        self._failed = self._mode == "disabled"
        if not self._failed:
            self._calls.put(self._start)
            self._thread.start()

    def log(self, row: dict) -> None:
        """One row of numbers."""
        self._later(lambda: self._run.log(row))

    def pictures(
        self, paths: list[Path], sounds: dict[str, tuple[np.ndarray, int]], confusion: np.ndarray, names: Sequence[str]
    ) -> None:
        """The end of a run: PNGs, {caption: (i16[t], rate_hz)}, counts [true, predicted] of `names`."""
        self._later(lambda: self._log_pictures(paths, sounds, confusion, names))

    def finish(self, exit_code: int) -> None:
        """Waits, but not for ever, until everything has arrived."""
        if self._thread.is_alive():
            self._calls.put(lambda: self._run.finish(exit_code))
            self._calls.put(None)
            self._thread.join(_PATIENCE_SECONDS)
            if self._thread.is_alive():
                self._fail(f"it has not finished within {_PATIENCE_SECONDS:g} s")

    def _later(self, call: Callable[[], None]) -> None:
        if not self._failed:
            self._calls.put(call)

    def _work(self) -> None:
        while not self._failed and (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException as error:  # whatever it is, it is W&B's and not training's
                self._fail(" ".join(str(error).split())[:200] or type(error).__name__)

    def _fail(self, reason: str) -> None:
        self._failed = True
        self._say(f"W&B failed and is left out from here ({reason}); training goes on.")

    def _start(self) -> None:
        import wandb

        identity = self._workdir / "wandb_id.txt"
        if not identity.exists():
            identity.write_text(uuid.uuid4().hex[:8])
        about: dict[str, Any] = dict(
            project=self._config["wandb"]["project"],
            name=self._config["wandb"]["name"] or self._workdir.name,
            id=identity.read_text().strip(),
            resume="allow",
            dir=self._workdir,
            config=self._config,
            settings=wandb.Settings(silent=True, console="off", init_timeout=20, finish_timeout=30),
        )
        try:
            self._run = wandb.init(mode=self._mode, **about)
        except wandb.Error as error:
            if self._mode != "online":
                raise
            self._say(f"W&B cannot be reached ({' '.join(str(error).split())[:100]}); this run is kept offline.")
            self._mode = "offline"
            self._run = wandb.init(mode=self._mode, **about)
        # A resumed run repeats steps that W&B has seen, which it would drop; with a metric of its own it does not.
        self._run.define_metric("*", step_metric="step")
        where = self._run.url
        if self._mode == "offline":
            where = f"offline; `wandb sync {Path(self._run.dir).parent}` uploads it"
        self._say(f"W&B: {where}")

    def _log_pictures(self, paths: list[Path], sounds: dict, confusion: np.ndarray, names: Sequence[str]) -> None:
        import wandb

        true, predicted = np.indices(confusion.shape).reshape(2, -1).repeat(confusion.ravel(), axis=1)
        media: dict[str, Any] = {f"plots/{path.stem}": wandb.Image(str(path)) for path in paths}
        media["test/sounds"] = [wandb.Audio(audio, rate_hz, caption) for caption, (audio, rate_hz) in sounds.items()]
        media["test/confusion"] = wandb.plot.confusion_matrix(
            y_true=true.tolist(), preds=predicted.tolist(), class_names=list(names)
        )
        self._run.log(media)


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
