"""`python tests/toy_recognizer.py ARGS`: the command `audiojax.listen` with an ear for conftest's tones."""

import numpy as np
from toy_listener import ToyListener

from audiojax import cli, listen
from audiojax.streaming import recognizer


class _Tones(ToyListener):
    """What `stream.Recognizer` needs of `stream.Recognizers`."""

    def advance(self):
        return [
            (slot, recognizer.Event(*(getattr(event, name) for name in recognizer.Event._fields)))
            for slot, event in super().advance()
        ]

    def advance_one(self, slot):
        return [event for _, event in self.advance()]

    def flush(self, slot):
        rate_hz = self.slots[slot].rate_hz or self.rate_hz
        self.push(slot, np.zeros(rate_hz // 2, np.int16), rate_hz)
        return self.advance_one(slot)

    @property
    def probabilities(self):
        """Sure that a word is over once there is silence after it."""
        table = np.zeros((self.num_streams, len(self.label_names) + 1), np.float32)
        for slot, of in self.slots.items():
            table[slot, 3 if of.quiet else -1] = 1
        return table


class Recognizer(recognizer.Recognizer):
    @classmethod
    def from_workdir(cls, workdir=None, sensitivity=""):
        recognizer = cls(_Tones(1))
        if sensitivity:
            recognizer._all.set_sensitivity(recognizer._slot, sensitivity)
        return recognizer


if __name__ == "__main__":
    listen.Recognizer = Recognizer
    cli.run(listen.main)
