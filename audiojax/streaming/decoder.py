"""Decodes the outputs of a streaming network into events, one for each recognised word."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FLUSH_SECONDS = 0.5  # of silence appended to a sound that ends, so that its last word is emitted


class Event(NamedTuple):
    """A recognised word. Times are relative to the first sample of the stream."""

    label: str
    start_seconds: float
    end_seconds: float
    emitted_seconds: float  # length of the sound that had been processed when the event was emitted
    probability: float  # of this word, given that it is one of the words


class Evidence(NamedTuple):
    """The state of a decoder, for a batch of streams."""

    scores: jax.Array  # f32[B, labels + 1] in [0, 1], moving averages of the probabilities; the last is of no word
    armed: jax.Array  # bool[B], whether the word of the last event is over
    last: jax.Array  # i32[B], label of the last event
    since: jax.Array  # i32[B], steps since the last event


class Decision(NamedTuple):
    """The output of a decoder for one step, for a batch of streams."""

    label: jax.Array  # i32[B], -1 for no event
    probability: jax.Array  # f32[B], of this word, given that it is one of the words
    began_seconds: jax.Array  # f32[B], from the start of the word to the end of the step
    ended_seconds: jax.Array  # f32[B], from the end of the word to the end of the step

    def event(self, at: Any, now_seconds: float, label_names: Sequence[str]) -> Event:
        """Returns the event at index `at` of decisions on the host, for a step that ends at `now_seconds`."""
        end = max(0.0, now_seconds - float(self.ended_seconds[at]))
        start = min(end, max(0.0, now_seconds - float(self.began_seconds[at])))
        start, end, now = (round(seconds, 3) for seconds in (start, end, now_seconds))
        return Event(label_names[int(self.label[at])], start, end, now, float(self.probability[at]))


class Decoder(NamedTuple):
    """The settings of the decoder. They are arguments of the compiled program, so other values need no compilation.

    The decoder keeps an exponential moving average of the probabilities of each step. It emits an event when the
    average of a word exceeds `threshold`. It emits the next event after the sum over all words has fallen below a third
    of the threshold, or when another word exceeds the threshold a minimum number of steps later.
    """

    threshold: float | jax.Array | np.ndarray = 0.4  # f32[B] gives each stream its own
    ema_decay: float = 0.6  # how much of an average the next step leaves
    refractory_steps: int = 7  # from one word's event to another's, where they follow at once

    def fresh(self, num_streams: int, num_labels: int) -> Evidence:
        """Returns the initial state, in which the probability of "no word" is 1."""
        scores = jnp.zeros((num_streams, num_labels + 1)).at[:, -1].set(1.0)
        long_ago = jnp.full(num_streams, 1000, jnp.int32)
        return Evidence(scores, jnp.ones(num_streams, jnp.bool_), jnp.full(num_streams, -1, jnp.int32), long_ago)

    def decide(self, evidence: Evidence, outputs: jax.Array) -> tuple[Evidence, Decision]:
        """Returns the state and the decision after a step with network `outputs` f32[B, labels + 3].

        The outputs are the logits of all words and of no word, then the times, see `models.gru.GRU`.
        """
        scores = self.ema_decay * evidence.scores + (1 - self.ema_decay) * jax.nn.softmax(outputs[:, :-2])
        words = scores[:, :-1]
        label = jnp.argmax(words, axis=1).astype(jnp.int32)
        best = jnp.max(words, axis=1)
        since = jnp.minimum(evidence.since + 1, 1000)
        next_word = (label != evidence.last) & (since >= self.refractory_steps)
        event = (evidence.armed | next_word) & (best > self.threshold)
        armed = jnp.where(event, False, evidence.armed | (words.sum(axis=1) < self.threshold / 3))
        share = best / jnp.maximum(words.sum(axis=1), 1e-6)
        decision = Decision(jnp.where(event, label, -1), share, outputs[:, -2], outputs[:, -1])
        last, since = jnp.where(event, label, evidence.last), jnp.where(event, 0, since)
        return Evidence(scores, armed, last, since), decision

    def decide_all(self, evidence: Evidence, outputs: jax.Array) -> tuple[Evidence, Decision]:
        """Returns the state after N steps with `outputs` f32[B, N, labels + 3], and their decisions [N, B]."""
        return jax.lax.scan(self.decide, evidence, outputs.swapaxes(0, 1))
