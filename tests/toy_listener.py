"""A listener without a network: a word is a tone of conftest's, and its pitch the label."""

from typing import ClassVar

import numpy as np

from audiojax.errors import InputError
from audiojax.streaming.operating_points import Point
from audiojax.synthesis.phonemes import DIGITS

QUIET_STEPS = 3  # that end a word
PROBABILITY = 0.97  # of every word


class ToyEvent:
    _fields = ("label", "start_seconds", "end_seconds", "emitted_seconds", "probability")

    def __init__(self, *values):
        for name, value in zip(self._fields, values, strict=True):
            setattr(self, name, value)


class _Slot:
    def __init__(self):
        self.rate_hz, self.waiting, self.word, self.steps, self.quiet = 0, np.empty(0, np.float32), [], 0, 0
        self.threshold = ToyListener.threshold


class ToyListener:
    """What `stream.Recognizers` promises, on sound of any rate."""

    rate_hz, step_samples, label_names, threshold = 8000, 160, DIGITS, 0.5
    points: ClassVar = {"low": Point(0.99, 1.0, 0.9), "normal": Point(0.5, 20.0, 0.1), "high": Point(0.2, 300.0, 0.05)}

    def __init__(self, num_streams: int):
        self.num_streams, self.slots, self.most_seconds = num_streams, {}, 0.0

    @classmethod
    def from_workdir(cls, workdir=None, num_streams=1):
        return cls(num_streams)

    def connect(self):
        free = [slot for slot in range(self.num_streams) if slot not in self.slots]
        if not free:
            return None
        self.slots[free[0]] = _Slot()
        return free[0]

    def leave(self, slot):
        del self.slots[slot]

    def reset(self, slot):
        threshold, self.slots[slot] = self.slots[slot].threshold, _Slot()
        self.slots[slot].threshold = threshold

    def set_sensitivity(self, slot, name):
        if name not in self.points:
            raise InputError(
                f"the sensitivity {name} is not in operating_points.json; left out it is {self.threshold}."
            )
        self.slots[slot].threshold = self.points[name].threshold

    def push(self, slot, samples, rate_hz=None):
        rate_hz = rate_hz or self.rate_hz
        if not 1000 <= rate_hz <= 768_000:
            raise InputError(f"the sample rate is {rate_hz} Hz; give one from 1000 to 768000.")
        of = self.slots[slot]
        if of.rate_hz not in (0, rate_hz):
            raise InputError("the rate changes.")
        of.rate_hz = rate_hz
        of.waiting = np.concatenate([of.waiting, np.asarray(samples, np.float32) / 32768])

    def advance(self):
        waiting = (len(of.waiting) / (of.rate_hz or self.rate_hz) for of in self.slots.values())
        self.most_seconds = max(self.most_seconds, *waiting, 0.0)
        return [(slot, event) for slot, of in self.slots.items() for event in self._heard(of)]

    def flush(self, slot):
        of = self.slots[slot]
        of.waiting = np.concatenate([of.waiting, np.zeros((of.rate_hz or self.rate_hz) // 2, np.float32)])
        return self._heard(of)

    def seconds(self, slot):
        return 0.02 * self.slots[slot].steps

    def _heard(self, of):
        size, events = (of.rate_hz or self.rate_hz) // 50, []
        while len(of.waiting) >= size:
            step, of.waiting = of.waiting[:size], of.waiting[size:]
            of.steps += 1
            if np.sqrt(np.mean(step**2)) > 0.05:
                of.word, of.quiet = [*of.word, step], 0
            elif of.word:
                of.quiet += 1
            if of.quiet == QUIET_STEPS:
                now, seconds = 0.02 * of.steps, 0.02 * len(of.word)
                end = now - 0.02 * QUIET_STEPS
                word = np.concatenate(of.word)
                spectrum = np.abs(np.fft.rfft(word * np.hanning(len(word))))
                pitch_hz = spectrum.argmax() * of.rate_hz / len(word)
                label = DIGITS[int(np.clip(round((pitch_hz - 300) / 250), 0, 9))]
                if of.threshold < PROBABILITY:
                    events.append(ToyEvent(label, end - seconds, end, now, PROBABILITY))
                of.word, of.quiet = [], 0
        return events
