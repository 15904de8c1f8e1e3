"""From what a listening network says at every step to events: one for each word, as soon as it is sure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

FLUSH_SECONDS = 0.5  # of silence, after which the last word of a sound that ends was said


class Event(NamedTuple):
    """A word that was heard. Times are of the stream, whose first sample is at 0."""

    label: str
    start_seconds: float
    end_seconds: float
    emitted_seconds: float  # how much sound it took
    probability: float  # that it is this word, given that it is one


class Evidence(NamedTuple):
    """What a decoder remembers of its streams."""

    scores: jax.Array  # f32[B, labels + 1] in [0, 1], averages over the last steps; the last one is of no word
    armed: jax.Array  # bool[B]: the last event's word is over
    last: jax.Array  # i32[B], the last event's label
    since: jax.Array  # i32[B], steps since then


class Decision(NamedTuple):
    """What a decoder says after one step."""

    label: jax.Array  # i32[B], -1 for no event
    probability: jax.Array  # f32[B], that it is this word, given that it is one
    began_seconds: jax.Array  # f32[B], before the end of the step
    ended_seconds: jax.Array  # f32[B], likewise

    def event(self, at: Any, now_seconds: float, label_names: Sequence[str]) -> Event:
        """The event at index `at` of the decisions, which have been fetched, at a step that ended at `now_seconds`."""
        end = max(0.0, now_seconds - float(self.ended_seconds[at]))
        start = min(end, max(0.0, now_seconds - float(self.began_seconds[at])))
        start, end, now = (round(seconds, 3) for seconds in (start, end, now_seconds))
        return Event(label_names[int(self.label[at])], start, end, now, float(self.probability[at]))


class Decoder(NamedTuple):
    """Its settings; they are numbers, so that other ones compile nothing anew.

    A step's probabilities go into running averages. A word whose average passes `threshold` is an event. There is no
    other until the words' averages have together fallen below a third of that, or another word's has passed it a while
    later.
    """

    threshold: float | jax.Array = 0.4  # f32[B] gives each stream its own
    keep: float = 0.6  # how much of an average the next step leaves
    apart_steps: int = 7  # from one word's event to another's, where they follow at once

    def fresh(self, num_streams: int, num_labels: int) -> Evidence:
        """Nothing heard yet: all is no word."""
        scores = jnp.zeros((num_streams, num_labels + 1)).at[:, -1].set(1.0)
        long_ago = jnp.full(num_streams, 1000, jnp.int32)
        return Evidence(scores, jnp.ones(num_streams, jnp.bool_), jnp.full(num_streams, -1, jnp.int32), long_ago)

    def decide(self, evidence: Evidence, said: jax.Array) -> tuple[Evidence, Decision]:
        """Takes in what was `said` at a step, f32[B, labels + 3] (see `models.gru.GRU.listens`)."""
        scores = self.keep * evidence.scores + (1 - self.keep) * jax.nn.softmax(said[:, :-2])
        words = scores[:, :-1]
        label = jnp.argmax(words, axis=1).astype(jnp.int32)
        best = jnp.max(words, axis=1)
        since = jnp.minimum(evidence.since + 1, 1000)
        next_word = (label != evidence.last) & (since >= self.apart_steps)
        event = (evidence.armed | next_word) & (best > self.threshold)
        armed = jnp.where(event, False, evidence.armed | (words.sum(axis=1) < self.threshold / 3))
        share = best / jnp.maximum(words.sum(axis=1), 1e-6)
        decision = Decision(jnp.where(event, label, -1), share, said[:, -2], said[:, -1])
        last, since = jnp.where(event, label, evidence.last), jnp.where(event, 0, since)
        return Evidence(scores, armed, last, since), decision

    def decide_all(self, evidence: Evidence, said: jax.Array) -> tuple[Evidence, Decision]:
        """Takes in N steps, f32[B, N, labels + 3]; the decisions are [N, B]."""
        return jax.lax.scan(self.decide, evidence, said.swapaxes(0, 1))
