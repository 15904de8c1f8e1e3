"""Streaming recognition: receives sound in chunks of any size and sampling rate, and returns the words as they end.

An event is one recognised word with its times. The events of a stream depend on its sound alone, not on the sizes of
the chunks or on other streams. The state of a stream has a constant size.
"""

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax.errors import InputError
from audiojax.inference import PACKAGED, Trained
from audiojax.models.gru import StreamOutputs, start_of_stream
from audiojax.rules import one_of
from audiojax.streaming import operating_points
from audiojax.streaming.decoder import Decision, Decoder, Event, Evidence
from audiojax.streaming.operating_points import Point
from audiojax.streaming.slots import Slot

WIDTHS = (1, 16, 64, 128, 256)  # batch sizes of the compiled programs; one more has room for all streams
STEPS = 5  # steps per call of a program, where several streams have that many; a single stream runs step by step


class _State(NamedTuple):
    """The state of all streams, on the device."""

    carry: Any
    evidence: Evidence


class Recognizers:
    """Recognises words in several streams in one batch; streams can be added and removed without compilation.

    Each stream has a slot, a number from 0 to `num_streams` - 1: `connect` reserves one, `push` adds sound to it,
    `advance` returns the recognised words, and `leave` frees it. `probabilities` f32[num_streams, labels + 1] has, for
    each slot, the probability of each word to have just ended, then of none. Not thread-safe.
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
        points: Mapping[str, Point] | None = None,
    ):
        """Compiles the programs for up to `num_streams` streams of sound of `rate_hz`.

        `model` is a streaming network, `models.gru.GRU` with the task "streams"; `variables` are its parameters and
        statistics, `label_names` the words in the order of its outputs. `decoder` has the settings that turn outputs
        into events, None for the defaults; `points` are named thresholds that `set_sensitivity` can choose.
        """
        self.rate_hz, self.step_samples = rate_hz, model.step_samples
        self.label_names, self.num_streams = label_names, num_streams
        self._model, self._variables, self._decoder = model, variables, decoder or Decoder()
        self.threshold, self.points = float(self._decoder.threshold), dict(points or {})
        self._thresholds = np.full(num_streams, self.threshold, np.float32)
        self._fresh = _State(
            start_of_stream(model, variables, num_streams),
            self._decoder.fresh(num_streams, len(label_names)),
        )
        self._state = self._fresh
        self._slots: list[Slot | None] = [None] * num_streams
        self.probabilities = np.zeros((num_streams, len(label_names) + 1), np.float32)
        self.probabilities[:, -1] = 1
        self._later: list[tuple[int, Event]] = []
        self._renew(np.ones(num_streams, bool))
        self._widths = [*(width for width in WIDTHS if width < num_streams), num_streams]
        self._steps = (STEPS, 1) if num_streams > 1 else (1,)
        for width, steps in itertools.product(self._widths, self._steps):  # compile now
            self._run(np.full(width, num_streams), np.zeros((width, steps * self.step_samples), np.int16))

    @classmethod
    def from_workdir(cls, workdir: Path | str | None = None, num_streams: int = 1) -> "Recognizers":
        """Returns recognisers with the network trained in `workdir`, or the network in the package if that is None.

        `num_streams` is the number of slots. Raises InputError if there is no trained network, or if it classifies
        clips.
        """
        run = Trained.load(workdir) if workdir is not None else Trained.packaged()
        points = operating_points.read(Path(PACKAGED if workdir is None else workdir), run.variables)
        return cls.from_run(run, num_streams, points)

    @classmethod
    def from_run(cls, run: Trained, num_streams: int = 1, points: Mapping[str, Point] | None = None) -> "Recognizers":
        """Returns recognisers with the network of a loaded run.

        `num_streams` is the number of slots; `points` are named thresholds that `set_sensitivity` can choose. Raises
        InputError if the network classifies clips.
        """
        if not run.streams:
            raise InputError(
                f"config.model.name is {run.config.model.name!r}, but the run classifies clips, not streams; "
                "train a streaming recogniser with --config configs/listen.py."
            )
        settings: dict[str, Any] = dict(rate_hz=run.config.data.rate_hz, decoder=Decoder(**run.config.decoder))
        return cls(run.model, run.variables, run.label_names, num_streams, points=points, **settings)

    def connect(self) -> int | None:
        """Reserves a free slot for a new stream and returns its number; None if all slots are in use."""
        if None not in self._slots:
            return None
        slot = self._slots.index(None)
        self._thresholds[slot] = self.threshold
        self.reset(slot)
        return slot

    def set_sensitivity(self, slot: int, name: str) -> None:
        """Sets the decoder's threshold for a slot, until the slot is freed, to that of an operating point.

        `name` is a key of `points`; raises InputError for another one.
        """
        if not self.points:
            raise InputError(
                f"the sensitivity {name!r} is not known: there is no {operating_points.FILE} for these parameters; "
                f"without a sensitivity the config's threshold is used, {self.threshold:g}."
            )
        one_of("the sensitivity", name, tuple(self.points))
        self._thresholds[slot] = self.points[name].threshold

    def leave(self, slot: int) -> None:
        """Frees a slot, and discards the events of its stream that have not been returned."""
        self._slots[slot] = None
        self._drop_events(slot)

    def push(self, slot: int, samples: Any, rate_hz: Any = None) -> None:
        """Appends samples, which are copied, to the sound in a slot that waits to be processed by `advance`.

        `samples` is an array [t] or [t, channels]: floats in [-1, 1], or integers over the range of their type. Their
        sampling rate is `rate_hz`, by default the network's. Raises InputError, and leaves the stream unchanged, if the
        samples or the rate are invalid, or if the rate differs from that of earlier samples.
        """
        self._stream(slot).push(samples, rate_hz)

    def advance(self) -> list[tuple[int, Event]]:
        """Processes the waiting sound of all streams and returns the recognised words as (slot, event).

        The events of each slot are in order of time.
        """
        events, self._later = self._later, []
        for steps in self._steps:
            while slots := self._ready(steps):
                events += self._take(slots, steps)
        return events

    def advance_one(self, slot: int) -> list[Event]:
        """Processes the waiting sound of all streams and returns the events of `slot`.

        The events of other slots are kept for the next call.
        """
        events = self.advance()
        self._later = [(other, event) for other, event in events if other != slot]
        return [event for other, event in events if other == slot]

    def _ready(self, steps: int) -> list[int]:
        """Returns the slots with at least `steps` pending steps."""
        least = steps * self.step_samples
        return [slot for slot, stream in enumerate(self._slots) if stream and stream.num_waiting >= least]

    def _take(self, slots: list[int], steps: int) -> list[tuple[int, Event]]:
        """Processes `steps` steps of each of `slots` and returns their events."""
        width = next(width for width in self._widths if width >= len(slots))
        audio = np.zeros((width, steps * self.step_samples), np.int16)
        for place, slot in enumerate(slots):
            audio[place] = self._stream(slot).take(steps * self.step_samples)
            self._stream(slot).steps += steps
        decision = self._run(np.asarray(slots + [self.num_streams] * (width - len(slots))), audio)
        events = []
        for step, place in np.argwhere(decision.label[:, : len(slots)] >= 0).tolist():
            now = (self._stream(slots[place]).steps - (steps - 1 - step)) * self.step_samples / self.rate_hz
            events += [(slots[place], event) for event in decision.events((step, place), now, self.label_names)]
        return events

    def flush(self, slot: int) -> list[Event]:
        """Ends the stream in a slot with 0.5 s of silence and returns its remaining events."""
        self._stream(slot).finish(self.step_samples)
        return self.advance_one(slot)

    def reset(self, slot: int) -> None:
        """Starts a new stream in a slot: resets the network's state and discards waiting sound and events."""
        self._slots[slot] = Slot(self.rate_hz)
        self._drop_events(slot)
        self._renew(np.arange(self.num_streams) == slot)

    def seconds(self, slot: int) -> float:
        """Returns the seconds of sound that the network has processed in the stream of a slot."""
        return self._stream(slot).steps * self.step_samples / self.rate_hz

    def _drop_events(self, slot: int) -> None:
        self._later = [(other, event) for other, event in self._later if other != slot]

    def _stream(self, slot: int) -> Slot:
        stream = self._slots[slot]
        if stream is None:
            raise ValueError(f"slot {slot} is not connected")
        return stream

    def _renew(self, which: np.ndarray) -> None:
        self._state = _choose(which, self._fresh, self._state)
        self.probabilities[which] = np.eye(1, len(self.label_names) + 1, len(self.label_names))

    def _run(self, slots: np.ndarray, audio: np.ndarray) -> Decision:
        """Processes whole steps of the streams in `slots` [W] and returns the decisions [N, W].

        Slots that do not exist pad the batch to the size of a compiled program.
        """
        decoder = self._decoder._replace(threshold=self._thresholds.take(slots, mode="clip"))
        self._state, result = _advance(self._model, self._variables, decoder, self._state, slots, audio)
        decisions, probabilities = np.split(np.asarray(result), [len(Decision._fields)], axis=-1)
        exists = slots < self.num_streams
        self.probabilities[slots[exists]] = probabilities[-1, exists]
        return Decision(*np.moveaxis(decisions, -1, 0))


class Recognizer:
    """Recognises words in one stream: `feed` takes sound, `flush` ends it; both return an event for each word."""

    def __init__(self, recognizers: Recognizers):
        """Takes one free slot of `recognizers`, which may serve other streams too."""
        self._all = recognizers
        slot = recognizers.connect()
        assert slot is not None, "all streams of these recognizers are taken"
        self._slot = slot
        self.rate_hz, self.label_names = recognizers.rate_hz, recognizers.label_names
        self.points = recognizers.points

    @classmethod
    def from_workdir(cls, workdir: Path | str | None = None, sensitivity: str = "") -> "Recognizer":
        """Returns a recogniser with the network trained in `workdir`, or the network in the package if that is None.

        `sensitivity` is the name of one of the network's operating points; "" is for the threshold of its config.
        Raises InputError if there is no such network or operating point, or if the network classifies clips.
        """
        recognizer = cls(Recognizers.from_workdir(workdir))
        if sensitivity:
            recognizer._all.set_sensitivity(recognizer._slot, sensitivity)
        return recognizer

    def feed(self, samples: Any, rate_hz: Any = None) -> list[Event]:
        """Processes samples and returns the events for words recognised in them.

        `samples` is an array [t] or [t, channels]: floats in [-1, 1], or integers over the range of their type. Their
        sampling rate is `rate_hz`, by default the network's. Raises InputError as `Recognizers.push` does.
        """
        self._all.push(self._slot, samples, rate_hz)
        return self._all.advance_one(self._slot)

    def flush(self) -> list[Event]:
        """Ends the stream with 0.5 s of silence and returns the remaining events."""
        return self._all.flush(self._slot)

    def reset(self) -> None:
        """Starts a new stream: resets the network's state and discards sound that has not been processed."""
        self._all.reset(self._slot)

    @property
    def seconds(self) -> float:
        """Returns the seconds of sound that the network has processed."""
        return self._all.seconds(self._slot)

    @property
    def probabilities(self) -> np.ndarray:
        """Returns f32[labels + 1]: the probability that each word has just ended, then that none has."""
        return self._all.probabilities[self._slot].copy()


@jax.jit
def _choose(which: jax.Array, one: Any, other: Any) -> Any:
    """Returns the rows of `one` where `which` is true, those of `other` elsewhere."""
    return jax.tree.map(lambda x, y: jax.vmap(jnp.where)(which, x, y), one, other)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _advance(
    model: nn.Module, variables: dict[str, Any], decoder: Decoder, state: _State, slots: jax.Array, audio: jax.Array
) -> tuple[_State, jax.Array]:
    """Runs N steps of the streams in `slots` i32[W] on `audio` [W, N * step_samples]; other streams are unchanged.

    Returns:
        The new state, and f32[N, W, fields + labels + 1]: decisions and probabilities in one array, for one transfer.
    """
    carry, evidence = jax.tree.map(lambda x: x.at[slots].get(mode="clip"), state)
    carry, outputs = cast(Any, model.apply(variables, carry, audio, method="listen"))
    evidence, decisions = Decoder(*decoder).decide_all(evidence, outputs)
    updated = jax.tree.map(lambda x, y: x.at[slots].set(y, mode="drop"), state, _State(carry, evidence))
    columns = jnp.stack([x.astype(jnp.float32) for x in decisions], axis=-1)
    logits = StreamOutputs.of(outputs, model.num_labels).logits
    probabilities = jax.nn.softmax(logits).swapaxes(0, 1)
    return updated, jnp.concatenate([columns, probabilities], axis=-1)
