"""Sound without end through a listening network: chunks of samples of any size and rate in, words out.

The same sound gives the same events however it is cut into chunks, whoever else is listening, and for ever: what is
remembered does not grow.
"""

import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax.audio.resample import Resampler
from audiojax.audio.signal import check_rate, mono_samples
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.streaming.decoder import FLUSH_SECONDS, Decision, Decoder, Event, Evidence

WIDTHS = (1, 16, 64, 128, 256)  # how many streams one program hears; and all
STEPS = 5  # how many steps at once, of many streams that have so many; one stream's are always heard one by one


class _Listening(NamedTuple):
    """What is remembered of all streams, on the device."""

    carry: Any
    evidence: Evidence


class _Slot:
    """One stream: its sound that waits, i16 at the network's rate, and how far it was heard."""

    def __init__(self) -> None:
        self.waiting: list[np.ndarray] = []
        self.num_waiting = 0
        self.steps = 0
        self.rate_hz = 0
        self.resampler: Resampler | None = None

    def add(self, audio: np.ndarray) -> None:
        if len(audio):
            self.waiting.append(audio)
            self.num_waiting += len(audio)

    def take(self, num_samples: int) -> np.ndarray:
        audio = np.concatenate(self.waiting) if len(self.waiting) > 1 else self.waiting[0]
        rest = audio[num_samples:]
        self.waiting = [rest if len(rest) >= num_samples else rest.copy()]  # a view would keep all of a long sound
        self.num_waiting -= num_samples
        return audio[:num_samples]


class Recognizers:
    """Many streams at once through one program: streams come and go, and nothing is compiled anew.

    Not thread safe.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: dict[str, Any],
        label_names: tuple[str, ...],
        num_streams: int,
        *,
        rate_hz: int,
        decoder: Decoder | None = None,
    ):
        """`model` is one that listens, see `models.gru.GRU`, for sound of `rate_hz`."""
        self.rate_hz, self.step_samples = rate_hz, model.step_samples
        self.label_names, self.num_streams = label_names, num_streams
        self._model, self._variables, self._decoder = model, variables, decoder or Decoder()
        self._fresh = _Listening(
            model.apply(variables, num_streams, method="initial_carry"),
            self._decoder.fresh(num_streams, len(label_names)),
        )
        self._listening = self._fresh
        self._slots: list[_Slot | None] = [None] * num_streams
        self.probabilities = np.zeros((num_streams, len(label_names) + 1), np.float32)
        self.probabilities[:, -1] = 1
        self._later: list[tuple[int, Event]] = []
        self._renew(np.ones(num_streams, bool))
        self._widths = [*(width for width in WIDTHS if width < num_streams), num_streams]
        self._steps = (STEPS, 1) if num_streams > 1 else (1,)
        for width, steps in itertools.product(self._widths, self._steps):  # compile now
            self._hear(np.full(width, num_streams), np.zeros((width, steps * self.step_samples), np.int16))

    @classmethod
    def from_workdir(cls, workdir: Path | str | None = None, num_streams: int = 1) -> "Recognizers":
        """The listener that was trained in `workdir`; the one that comes with the package for None.

        Raises InputError where there is none, or where the run's network does not listen.
        """
        run = Trained.load(workdir) if workdir is not None else Trained.packaged()
        return cls.from_run(run, num_streams)

    @classmethod
    def from_run(cls, run: Trained, num_streams: int = 1) -> "Recognizers":
        """The listener of a run that was opened."""
        if not run.listens:
            raise InputError(
                f"config.model.name is {run.config.model.name!r} of a run that classifies clips and does not listen; "
                "train one that does with --config configs/listen.py."
            )
        decoder, rate_hz = Decoder(**run.config.decoder), run.config.data.rate_hz
        return cls(run.model, run.variables, run.label_names, num_streams, rate_hz=rate_hz, decoder=decoder)

    def connect(self) -> int | None:
        """A free slot, which has heard nothing; None when all are taken."""
        if None not in self._slots:
            return None
        slot = self._slots.index(None)
        self._slots[slot] = _Slot()
        self.reset(slot)
        return slot

    def leave(self, slot: int) -> None:
        """Gives a slot back, with whatever was still to be said of it."""
        self._slots[slot] = None
        self._drop_events(slot)

    def push(self, slot: int, samples: Any, rate_hz: Any = None) -> None:
        """Copies sound for a slot, see `data.signal.mono_samples`, at `rate_hz`; by default the network's own rate.

        Raises InputError, and leaves the stream as it was, for samples that are no sound, for a rate that cannot be,
        and for one that changes within a stream.
        """
        stream, rate_hz = self._stream(slot), self.rate_hz if rate_hz is None else check_rate(rate_hz)
        audio = mono_samples(samples)
        if stream.rate_hz not in (0, rate_hz):
            raise InputError(
                f"the stream's rate is {stream.rate_hz} Hz and cannot become {rate_hz} Hz; reset it first."
            )
        if not stream.rate_hz and rate_hz != self.rate_hz:
            stream.resampler = Resampler(rate_hz, self.rate_hz)
        stream.rate_hz = rate_hz
        if stream.resampler:
            scale = np.float32(1 / 32768) if audio.dtype == np.int16 else np.float32(1)
            audio = stream.resampler.feed(audio.astype(np.float32) * scale)
        stream.add(audio if audio.dtype == np.int16 else _to_int16(audio))

    def advance(self) -> list[tuple[int, Event]]:
        """Hears all whole steps that wait; returns the events with their slots, those of a slot in order of time."""
        events, self._later = self._later, []
        for steps in self._steps:
            while slots := self._ready(steps):
                events += self._take(slots, steps)
        return events

    def advance_one(self, slot: int) -> list[Event]:
        """As `advance`, but returns the events of one slot; the next call returns those of the others."""
        events = self.advance()
        self._later = [(other, event) for other, event in events if other != slot]
        return [event for other, event in events if other == slot]

    def _ready(self, steps: int) -> list[int]:
        """The slots of which so many steps wait."""
        least = steps * self.step_samples
        return [slot for slot, stream in enumerate(self._slots) if stream and stream.num_waiting >= least]

    def _take(self, slots: list[int], steps: int) -> list[tuple[int, Event]]:
        """Hears so many steps of each of `slots`."""
        width = next(width for width in self._widths if width >= len(slots))
        audio = np.zeros((width, steps * self.step_samples), np.int16)
        for place, slot in enumerate(slots):
            audio[place] = self._stream(slot).take(steps * self.step_samples)
            self._stream(slot).steps += steps
        decision = self._hear(np.asarray(slots + [self.num_streams] * (width - len(slots))), audio)
        events = []
        for step, place in np.argwhere(decision.label[:, : len(slots)] >= 0).tolist():
            now = (self._stream(slots[place]).steps - (steps - 1 - step)) * self.step_samples / self.rate_hz
            events.append((slots[place], decision.event((step, place), now, self.label_names)))
        return events

    def flush(self, slot: int) -> list[Event]:
        """The end of a stream: what is still to be said of it, once silence has followed."""
        stream = self._stream(slot)
        if stream.resampler:
            stream.add(_to_int16(stream.resampler.flush()))
        stream.add(np.zeros(round(FLUSH_SECONDS * self.rate_hz), np.int16))
        stream.add(np.zeros(-stream.num_waiting % self.step_samples, np.int16))
        return self.advance_one(slot)

    def reset(self, slot: int) -> None:
        """A slot forgets all that it heard, and what was still to be said of it."""
        self._slots[slot] = _Slot()
        self._drop_events(slot)
        self._renew(np.arange(self.num_streams) == slot)

    def seconds(self, slot: int) -> float:
        """How much of its sound a slot has heard."""
        return self._stream(slot).steps * self.step_samples / self.rate_hz

    def _drop_events(self, slot: int) -> None:
        self._later = [(other, event) for other, event in self._later if other != slot]

    def _stream(self, slot: int) -> _Slot:
        stream = self._slots[slot]
        if stream is None:
            raise ValueError(f"slot {slot} is not connected")
        return stream

    def _renew(self, which: np.ndarray) -> None:
        self._listening = _choose(which, self._fresh, self._listening)
        self.probabilities[which] = np.eye(1, len(self.label_names) + 1, len(self.label_names))

    def _hear(self, slots: np.ndarray, audio: np.ndarray) -> Decision:
        """Whole steps of the streams in `slots`, of which those that do not exist fill a program's width: [N, W]."""
        self._listening, report = _advance(self._model, self._variables, self._decoder, self._listening, slots, audio)
        report, there = np.asarray(report), slots < self.num_streams
        self.probabilities[slots[there]] = report[-1, there, 4:]
        return Decision(*np.moveaxis(report[..., :4], -1, 0))


class Recognizer:
    """One stream."""

    def __init__(self, recognizers: Recognizers):
        self._all = recognizers
        slot = recognizers.connect()
        assert slot is not None, "all streams of these recognizers are taken"
        self._slot = slot
        self.rate_hz, self.label_names = recognizers.rate_hz, recognizers.label_names

    @classmethod
    def from_workdir(cls, workdir: Path | str | None = None) -> "Recognizer":
        """As `Recognizers.from_workdir`."""
        return cls(Recognizers.from_workdir(workdir))

    def feed(self, samples: Any, rate_hz: Any = None) -> list[Event]:
        """The words that `samples` complete: f32 in [-1, 1] or i16, [t] or [t, channels], at `rate_hz`.

        The rate is the network's own by default. Samples are copied. `data.signal.mono_samples` tells what other types
        mean. Raises InputError as `Recognizers.push` does, and then has taken nothing.
        """
        self._all.push(self._slot, samples, rate_hz)
        return self._all.advance_one(self._slot)

    def flush(self) -> list[Event]:
        """The end of the sound: what is still to be said of it."""
        return self._all.flush(self._slot)

    def reset(self) -> None:
        """Forgets all that was heard."""
        self._all.reset(self._slot)

    @property
    def seconds(self) -> float:
        """How much sound was heard."""
        return self._all.seconds(self._slot)

    @property
    def probabilities(self) -> np.ndarray:
        """f32[labels + 1] after the last step: of each word that it has just ended, and of none."""
        return self._all.probabilities[self._slot].copy()


def _to_int16(audio: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)


@jax.jit
def _choose(which: jax.Array, one: Any, other: Any) -> Any:
    """Of each row what `one` has where it is `which`, else what `other` has."""

    def pick(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(which.reshape(-1, *(1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(pick, one, other)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _advance(
    model: nn.Module,
    variables: dict[str, Any],
    decoder: Decoder,
    listening: _Listening,
    slots: jax.Array,
    audio: jax.Array,
) -> tuple[_Listening, jax.Array]:
    """N steps of the streams in `slots` i32[W], `audio` [W, N * step_samples]; all others stay as they are.

    Returns what is remembered, and f32[N, W, 4 + labels + 1], the decisions and the probabilities, fetched at once.
    """
    carry, evidence = jax.tree.map(lambda x: x.at[slots].get(mode="clip"), listening)
    carry, said = cast(Any, model.apply(variables, carry, audio, method="listen"))
    evidence, decisions = Decoder(*decoder).decide_all(evidence, said)
    heard = jax.tree.map(lambda x, y: x.at[slots].set(y, mode="drop"), listening, _Listening(carry, evidence))
    columns = jnp.stack([x.astype(jnp.float32) for x in decisions], axis=-1)
    probabilities = jax.nn.softmax(said[..., :-2]).swapaxes(0, 1)
    return heard, jnp.concatenate([columns, probabilities], axis=-1)
