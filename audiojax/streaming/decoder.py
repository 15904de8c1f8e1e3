"""Decodes the outputs of a streaming network into events, one for each recognised word."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from audiojax.models.gru import StreamOutputs

FLUSH_SECONDS = 0.5  # of silence appended to a sound that ends, so that its last word is emitted


class Event(NamedTuple):
    """A word recognised in a stream: its label, its start and end times, and its probability.

    Times are in seconds from the first sample of the stream. `emitted_seconds` is the length of the sound that had been
    processed when the word was reported. `probability` is that of this word, given that it is one of the known words.
    """

    label: str
    start_seconds: float
    end_seconds: float
    emitted_seconds: float  # length of the sound that had been processed when the event was emitted
    probability: float  # of this word, given that it is one of the words


class Evidence(NamedTuple):
    """The state of a decoder between two steps, for a batch of B streams.

    Attributes:
        scores: f32[B, labels + 1], moving averages of the probabilities that each word has just ended, and last, that
            none has.
        armed: bool[B], whether the word of the last event is over, so that any word can be emitted.
        last: i32[B], the label of the last event; -1 if there was none.
        since: i32[B], steps since the last event, at most 1000.
    """

    scores: jax.Array  # f32[B, labels + 1] in [0, 1], moving averages of the probabilities; the last is of no word
    armed: jax.Array  # bool[B], whether the word of the last event is over
    last: jax.Array  # i32[B], label of the last event
    since: jax.Array  # i32[B], steps since the last event


class Decision(NamedTuple):
    """The result of a decoder for one step of B streams; arrays of several steps are [N, B].

    Attributes:
        label: The recognised word, an index; -1 for none.
        probability: The probability of the most probable word, given that it is one of the known words.
        began_seconds: Time from the start of the word to the end of the step.
        ended_seconds: Time from the end of the word to the end of the step.
        copies: How many events the word yields, 2 in "double five".
    """

    label: jax.Array  # i32[B], -1 for no event
    probability: jax.Array  # f32[B], of this word, given that it is one of the words
    began_seconds: jax.Array  # f32[B], from the start of the word to the end of the step
    ended_seconds: jax.Array  # f32[B], from the end of the word to the end of the step
    copies: jax.Array  # i32[B], 1 to 3

    def events(self, at: Any, now_seconds: float, label_names: Sequence[str]) -> list[Event]:
        """Returns the events at the index `at` of the arrays, where the label must not be -1: `copies` equal events.

        `now_seconds` is the time at the end of the step, from the first sample of the stream.
        """
        end = max(0.0, now_seconds - float(self.ended_seconds[at]))
        start = min(end, max(0.0, now_seconds - float(self.began_seconds[at])))
        start, end, now = (round(seconds, 3) for seconds in (start, end, now_seconds))
        event = Event(label_names[int(self.label[at])], start, end, now, float(self.probability[at]))
        return [event] * int(self.copies[at])


class Decoder(NamedTuple):
    """The settings of the decoder, which finds recognised words in the outputs of a streaming network.

    It keeps an exponential moving average, with `ema_decay` per step, of the probability that each word has just ended.
    It emits an event when the average of a word exceeds `threshold`, a number or f32[B]. It emits the next event after
    the sum over all words has fallen below a third of the threshold, or when another word exceeds the threshold at
    least `refractory_steps` steps later. The settings are arguments of the compiled program, so other values need no
    recompilation.
    """

    threshold: float | jax.Array | np.ndarray = 0.4  # f32[B] has one for each stream
    ema_decay: float = 0.6  # weight of the old average in the next one
    refractory_steps: int = 7  # minimum between events of different words while the first is not over

    def fresh(self, num_streams: int, num_labels: int) -> Evidence:
        """Returns the state for the start of `num_streams` streams, in which the probability of "no word" is 1."""
        scores = jnp.zeros((num_streams, num_labels + 1)).at[:, -1].set(1.0)
        long_ago = jnp.full(num_streams, 1000, jnp.int32)
        return Evidence(scores, jnp.ones(num_streams, jnp.bool_), jnp.full(num_streams, -1, jnp.int32), long_ago)

    def decide(self, evidence: Evidence, outputs: jax.Array) -> tuple[Evidence, Decision]:
        """Returns the state and the decision after a step with the network's `StreamOutputs`, f32[B, n]."""
        logits, times, more = StreamOutputs.of(outputs, evidence.scores.shape[-1] - 1)
        scores = self.ema_decay * evidence.scores + (1 - self.ema_decay) * jax.nn.softmax(logits)
        words = scores[:, :-1]
        label = jnp.argmax(words, axis=1).astype(jnp.int32)
        best = jnp.max(words, axis=1)
        since = jnp.minimum(evidence.since + 1, 1000)
        next_word = (label != evidence.last) & (since >= self.refractory_steps)
        event = (evidence.armed | next_word) & (best > self.threshold)
        armed = jnp.where(event, False, evidence.armed | (words.sum(axis=1) < self.threshold / 3))
        share = best / jnp.maximum(words.sum(axis=1), 1e-6)
        copies = 1 + jnp.sum(more > 0, axis=1, dtype=jnp.int32)
        decision = Decision(jnp.where(event, label, -1), share, times[:, 0], times[:, 1], copies)
        last, since = jnp.where(event, label, evidence.last), jnp.where(event, 0, since)
        return Evidence(scores, armed, last, since), decision

    def decide_all(self, evidence: Evidence, outputs: jax.Array) -> tuple[Evidence, Decision]:
        """Returns the state after N steps with network outputs f32[B, N, n], and the decisions, arrays [N, B].

        The outputs of a step are those of `decide`.
        """
        return jax.lax.scan(self.decide, evidence, outputs.swapaxes(0, 1))
