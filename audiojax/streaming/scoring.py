"""How well a listening network hears: its events on scenes whose words are known, matched and counted."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from flax import linen as nn

from audiojax.data.clips import Clips
from audiojax.streaming.decoder import Decision, Decoder, Event
from audiojax.streaming.scenes import Plan, Scene, Word, draw, targets
from audiojax.training.metrics import Metrics

ROWS = 32  # scenes that are heard at once
SEGMENT_STEPS = 200


class Errors(NamedTuple):
    """Counts over strings of words, as for a word error rate: add them, divide once."""

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Digit error rate: errors a word; more than 1 is possible."""
        return (self.substitutions + self.deletions + self.insertions) / max(self.words, 1)


class Match(NamedTuple):
    """A word that was said and the event that answers it; one of the two may be missing."""

    word: Word | None
    event: Event | None


def strings(clips: Clips, indices: np.ndarray, number: int, seed: int = 0) -> list[Plan]:
    """Plans of strings of the clips at `indices` by which an epoch is scored: clean and with noise at 10 dB in turn."""
    clean, noisy = (draw(clips, indices, number=number, seed=seed, snr_db=snr_db) for snr_db in (None, 10.0))
    return [plan for pair in zip(clean[::2], noisy[1::2], strict=False) for plan in pair]


def hear(model: nn.Module, variables: dict[str, Any], sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the network says at each step of each sound i16[t], f32[steps, labels + 3]; each starts from a fresh state.

    The shortest are heard together; what one program hears has one shape.
    """
    order = np.argsort([len(sound) for sound in sounds], kind="stable")
    size, answers = model.step_samples, [np.empty(0, np.float32)] * len(sounds)
    for first in range(0, len(sounds), ROWS):
        rows = order[first : first + ROWS]
        steps = [len(sounds[row]) // size for row in rows]
        num_steps = -(-max(1, *steps) // SEGMENT_STEPS) * SEGMENT_STEPS
        audio = np.zeros((ROWS, num_steps * size), np.int16)
        for place, (row, count) in enumerate(zip(rows, steps, strict=True)):
            audio[place, : count * size] = sounds[row][: count * size]
        carry, said = model.apply(variables, ROWS, method="initial_carry"), []
        for segment in np.split(audio, num_steps // SEGMENT_STEPS, axis=1):
            carry, part = _listen(model, variables, carry, segment)
            said.append(np.asarray(part))
        whole = np.concatenate(said, axis=1)
        for place, (row, count) in enumerate(zip(rows, steps, strict=True)):
            answers[row] = whole[place, :count]
    return answers


def events(
    decoder: Decoder,
    said: Sequence[np.ndarray],
    label_names: Sequence[str],
    step_seconds: float,
    thresholds: Sequence[float] = (),
) -> list[list[Event]]:
    """The events in what was `said` of each sound; `thresholds` are each sound's own, if not the decoder's."""
    found, own = [], np.resize(np.asarray(thresholds or decoder.threshold, np.float32), len(said))
    for first in range(0, len(said), ROWS):
        group = said[first : first + ROWS]
        num_steps = -(-max(1, *map(len, group)) // SEGMENT_STEPS) * SEGMENT_STEPS
        padded = np.zeros((ROWS, num_steps, len(label_names) + 3), np.float32)
        padded[:, :, len(label_names)] = 100.0  # no word
        for row, part in enumerate(group):
            padded[row, : len(part)] = part
        mine = decoder._replace(threshold=jnp.asarray(np.resize(own[first : first + ROWS], ROWS)))
        evidence, parts = decoder.fresh(ROWS, len(label_names)), []
        for segment in np.split(padded, num_steps // SEGMENT_STEPS, axis=1):
            evidence, decision = _decide(mine, evidence, segment)
            parts.append(jax.device_get(decision))
        decisions: Decision = jax.tree.map(lambda *fields: np.concatenate(fields), *parts)
        for row, part in enumerate(group):
            steps = np.flatnonzero(decisions.label[: len(part), row] >= 0).tolist()
            found.append([decisions.event((step, row), (step + 1) * step_seconds, label_names) for step in steps])
    return found


def match(words: Sequence[Word], heard: Sequence[Event], label_names: Sequence[str]) -> list[Match]:
    """The alignment of least errors (Levenshtein), in order of time: right, substituted, deleted, inserted."""
    said = [label_names[word.label] for word in words]
    cost = np.zeros((len(words) + 1, len(heard) + 1), np.int64)
    cost[:, 0], cost[0, :] = np.arange(len(words) + 1), np.arange(len(heard) + 1)
    for i in range(1, len(words) + 1):
        for j in range(1, len(heard) + 1):
            both = cost[i - 1, j - 1] + (said[i - 1] != heard[j - 1].label)
            cost[i, j] = min(both, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    matches, i, j = [], len(words), len(heard)
    while i or j:
        if i and j and cost[i, j] == cost[i - 1, j - 1] + (said[i - 1] != heard[j - 1].label):
            i, j = i - 1, j - 1
            matches.append(Match(words[i], heard[j]))
        elif i and cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
            matches.append(Match(words[i], None))
        else:
            j -= 1
            matches.append(Match(None, heard[j]))
    return matches[::-1]


def confusion_of(matches: Sequence[Match], label_names: Sequence[str]) -> np.ndarray:
    """i32[labels + 1, labels + 1], [said, heard]; the last row is of insertions, the last column of deletions."""
    counts = np.zeros((len(label_names) + 1,) * 2, np.int32)
    for word, event in matches:
        counts[word.label if word else -1, label_names.index(event.label) if event else -1] += 1
    return counts


def errors_of(confusion: np.ndarray) -> Errors:
    """The counts behind a digit error rate."""
    right, said = int(np.trace(confusion)), int(confusion[:-1].sum())
    deletions, insertions = int(confusion[:-1, -1].sum()), int(confusion[-1, :-1].sum())
    return Errors(said, said - right - deletions, deletions, insertions)


def score(
    model: nn.Module,
    variables: dict[str, Any],
    decoder: Decoder,
    scenes: Sequence[Scene],
    label_names: Sequence[str],
    rate_hz: int,
) -> Metrics:
    """Sums over scenes: the cross-entropy of a step for each event there was or should have been, and their matches."""
    variables = jax.device_get(variables)
    said = hear(model, variables, [scene.audio for scene in scenes])
    heard = events(decoder, said, label_names, model.step_samples / rate_hz)
    confusion, loss, steps = np.zeros((len(label_names) + 1,) * 2, np.int32), 0.0, 0.0
    for scene, part, found in zip(scenes, said, heard, strict=True):
        confusion += confusion_of(match(scene.words, found, label_names), label_names)
        label, mask, _ = targets(scene.words, 0, len(part), model.step_samples, len(label_names), rate_hz)
        logits = part[:, :-2].astype(np.float64)  # in numpy: a shape for each scene would be a program for each
        right = np.take_along_axis(logits, label[:, None], axis=1)[:, 0]
        loss += float(np.sum((scipy.special.logsumexp(logits, axis=1) - right) * mask))
        steps += float(mask.sum())
    return Metrics(np.asarray(loss / steps * confusion.sum(), np.float32), confusion)


def delays(matches: Sequence[Match], rate_hz: int, label_names: Sequence[str]) -> np.ndarray:
    """f64[n]: seconds from the end of each word that was rightly heard to its event."""
    return np.asarray(
        [
            event.emitted_seconds - word.end / rate_hz
            for word, event in matches
            if word and event and label_names[word.label] == event.label
        ]
    )


@functools.partial(jax.jit, static_argnums=0)
def _listen(model: nn.Module, variables: dict[str, Any], carry: Any, audio: jax.Array) -> Any:
    return model.apply(variables, carry, audio, method="listen")


@jax.jit
def _decide(decoder: Decoder, evidence: Any, said: jax.Array) -> Any:
    return Decoder(*decoder).decide_all(evidence, jnp.asarray(said))
