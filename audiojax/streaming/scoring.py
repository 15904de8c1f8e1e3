"""Scores a streaming network on sound with known words: aligns the recognised words with them and counts errors."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from flax import linen as nn

from audiojax.data.clips import Clips
from audiojax.models.gru import StreamOutputs, start_of_stream
from audiojax.streaming.decoder import Decision, Decoder, Event
from audiojax.streaming.scenes import Plan, Scene, Word, sample_plans
from audiojax.streaming.targets import targets
from audiojax.training.metrics import Metrics

ROWS = 32  # scenes per batch
SEGMENT_STEPS = 200


class Errors(NamedTuple):
    """The counts of errors in recognised strings of words, by substitution, deletion and insertion.

    `words` is the number of words that were spoken.
    """

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Returns the digit error rate: all errors divided by the spoken words. It can exceed 1."""
        return (self.substitutions + self.deletions + self.insertions) / max(self.words, 1)


class Match(NamedTuple):
    """A spoken word and the event (recognised word) that is aligned with it.

    `event` is None for a word that was missed, `word` for an event without a word.
    """

    word: Word | None
    event: Event | None


def strings(clips: Clips, indices: np.ndarray, number: int, seed: int = 0) -> list[Plan]:
    """Returns the composition of `number` strings of clips for scoring an epoch, alternately clean and with noise.

    The clips are chosen from those at `indices`; the SNR is 10 dB.
    """
    clean, noisy = (sample_plans(clips, indices, number=number, seed=seed, snr_db=snr_db) for snr_db in (None, 10.0))
    return [plan for pair in zip(clean[::2], noisy[1::2], strict=False) for plan in pair]


def network_outputs(model: nn.Module, variables: dict[str, Any], sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs f32[steps, n] of a streaming network, see `models.gru.StreamOutputs`, for each sound i16[t].

    Each sound is a stream of its own, and its last incomplete step is left out. Sounds of similar length share a
    batch. All batches have one shape, so that one program is compiled.
    """
    order = np.argsort([len(sound) for sound in sounds], kind="stable")
    size, results = model.step_samples, [np.empty(0, np.float32)] * len(sounds)
    for first in range(0, len(sounds), ROWS):
        rows = order[first : first + ROWS]
        steps = [len(sounds[row]) // size for row in rows]
        num_steps = -(-max(1, *steps) // SEGMENT_STEPS) * SEGMENT_STEPS
        audio = np.zeros((ROWS, num_steps * size), np.int16)
        for place, (row, count) in enumerate(zip(rows, steps, strict=True)):
            audio[place, : count * size] = sounds[row][: count * size]
        carry, outputs = start_of_stream(model, variables, ROWS), []
        for segment in np.split(audio, num_steps // SEGMENT_STEPS, axis=1):
            carry, part = _run(model, variables, carry, segment)
            outputs.append(np.asarray(part))
        whole = np.concatenate(outputs, axis=1)
        for place, (row, count) in enumerate(zip(rows, steps, strict=True)):
            results[row] = whole[place, :count]
    return results


def events(
    decoder: Decoder,
    outputs: Sequence[np.ndarray],
    label_names: Sequence[str],
    step_seconds: float,
    thresholds: Sequence[float] = (),
) -> list[list[Event]]:
    """Returns the recognised words, as events in order of time, in the network's outputs for each sound.

    Args:
        decoder: The settings that turn outputs into events.
        outputs: Those of `network_outputs`, f32[steps, n] for each sound.
        label_names: The words, in the order of the outputs.
        step_seconds: The duration of a step.
        thresholds: One for each sound, in the place of the decoder's; empty to use that for all.
    """
    found, own = [], np.resize(np.asarray(thresholds or decoder.threshold, np.float32), len(outputs))
    for first in range(0, len(outputs), ROWS):
        group = outputs[first : first + ROWS]
        num_steps = -(-max(1, *map(len, group)) // SEGMENT_STEPS) * SEGMENT_STEPS
        padded = np.zeros((ROWS, num_steps, group[0].shape[1]), np.float32)
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
            found.append(
                [event for at in steps for event in decisions.events((at, row), (at + 1) * step_seconds, label_names)]
            )
    return found


def match(words: Sequence[Word], found: Sequence[Event], label_names: Sequence[str]) -> list[Match]:
    """Aligns spoken words with recognised ones, both in order of time, with the fewest errors (Levenshtein distance).

    `words` are the spoken words, `found` the events. The result has all of them, in order of time, as pairs or alone; a
    word that counts several times occurs that many times.
    """
    words = [word for word in words for _ in range(word.copies)]
    spoken = [label_names[word.label] for word in words]
    cost = np.zeros((len(words) + 1, len(found) + 1), np.int64)
    cost[:, 0], cost[0, :] = np.arange(len(words) + 1), np.arange(len(found) + 1)
    for i in range(1, len(words) + 1):
        for j in range(1, len(found) + 1):
            both = cost[i - 1, j - 1] + (spoken[i - 1] != found[j - 1].label)
            cost[i, j] = min(both, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    matches, i, j = [], len(words), len(found)
    while i or j:
        if i and j and cost[i, j] == cost[i - 1, j - 1] + (spoken[i - 1] != found[j - 1].label):
            i, j = i - 1, j - 1
            matches.append(Match(words[i], found[j]))
        elif i and cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
            matches.append(Match(words[i], None))
        else:
            j -= 1
            matches.append(Match(None, found[j]))
    return matches[::-1]


def confusion_of(matches: Sequence[Match], label_names: Sequence[str]) -> np.ndarray:
    """Returns the confusion matrix i32[labels + 1, labels + 1], [true, predicted], of aligned words and events.

    The last row counts insertions, the last column deletions.
    """
    counts = np.zeros((len(label_names) + 1,) * 2, np.int32)
    for word, event in matches:
        counts[word.label if word else -1, label_names.index(event.label) if event else -1] += 1
    return counts


def errors_of(confusion: np.ndarray) -> Errors:
    """Returns the numbers of spoken words, substitutions, deletions and insertions in a matrix of `confusion_of`."""
    right, words = int(np.trace(confusion)), int(confusion[:-1].sum())
    deletions, insertions = int(confusion[:-1, -1].sum()), int(confusion[-1, :-1].sum())
    return Errors(words, words - right - deletions, deletions, insertions)


def score(
    model: nn.Module,
    variables: dict[str, Any],
    decoder: Decoder,
    scenes: Sequence[Scene],
    label_names: Sequence[str],
    rate_hz: int,
) -> Metrics:
    """Returns the loss and the confusion matrix of a streaming network on scenes, sounds with known words.

    Both are sums: the matrix is that of `confusion_of`, and the loss is the mean cross-entropy of a step times the sum
    of the matrix, so that dividing by that sum gives the mean again.
    """
    variables = jax.device_get(variables)
    outputs = network_outputs(model, variables, [scene.audio for scene in scenes])
    found = events(decoder, outputs, label_names, model.step_samples / rate_hz)
    confusion, loss, steps = np.zeros((len(label_names) + 1,) * 2, np.int32), 0.0, 0.0
    for scene, part, of_scene in zip(scenes, outputs, found, strict=True):
        confusion += confusion_of(match(scene.words, of_scene, label_names), label_names)
        label, mask, *_ = targets(scene.words, 0, len(part), model.step_samples, len(label_names), rate_hz)
        # In numpy, because jax would compile a program for each length.
        logits = StreamOutputs.of(part, len(label_names)).logits.astype(np.float64)
        right = np.take_along_axis(logits, label[:, None], axis=1)[:, 0]
        loss += float(np.sum((scipy.special.logsumexp(logits, axis=1) - right) * mask))
        steps += float(mask.sum())
    return Metrics(np.asarray(loss / steps * confusion.sum(), np.float32), confusion)


def delays(matches: Sequence[Match], rate_hz: int, label_names: Sequence[str]) -> np.ndarray:
    """Returns f64[n], the seconds from the end of each correctly recognised word until its event was emitted."""
    return np.asarray(
        [
            event.emitted_seconds - word.end / rate_hz
            for word, event in matches
            if word and event and label_names[word.label] == event.label
        ]
    )


@functools.partial(jax.jit, static_argnums=0)
def _run(model: nn.Module, variables: dict[str, Any], carry: Any, audio: jax.Array) -> Any:
    return model.apply(variables, carry, audio, method="listen")


@jax.jit
def _decide(decoder: Decoder, evidence: Any, outputs: jax.Array) -> Any:
    return Decoder(*decoder).decide_all(evidence, jnp.asarray(outputs))
