"""The targets of a streaming network: what it should output at each step of a sound with known words."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audiojax.streaming.scenes import Word

# Seconds after the end of a word in which the target is that word, and in which the loss ignores the target.
TARGET_SECONDS, IGNORED_SECONDS = (0.08, 0.22), (-0.04, 0.28)
# If a word is repeated within REPEAT_SECONDS, the target is "no word" for REPEAT_GAP_SECONDS before the second one's
# targets, so that there are two events.
REPEAT_SECONDS, REPEAT_GAP_SECONDS = 0.6, 0.08
COUNT_SECONDS = 0.8  # from the beginning of "double" to that of the next word, at most


class Targets(NamedTuple):
    """What a streaming network should output at each of N steps.

    Attributes:
        label: i32[N], the word that ended 0.08 to 0.22 s before the end of the step, or the number of labels for none.
        mask: f32[N], 0 where the loss ignores the target: at other steps that end from 0.04 s before to 0.28 s after
            the end of a word, or from the start to 0.28 s after the end of a word of label -1, which is ambiguous;
            1 elsewhere.
        times: f32[N, 2], seconds from the start and the end of that word to the end of the step, 0 for none.
        copies: i32[N], how many times a word counts, 2 for the five in "double five", at the steps that end from
            0.04 s before to 0.28 s after its end; 0 at other steps, and where the number is not known.
    """

    label: np.ndarray
    mask: np.ndarray
    times: np.ndarray
    copies: np.ndarray


def targets(
    words: Sequence[Word],
    start: int,
    num_steps: int,
    step_samples: int,
    num_labels: int,
    rate_hz: int,
    *,
    fresh: bool = False,
) -> Targets:
    """Returns the targets of the `num_steps` steps that follow sample `start` of a sound with `words`.

    A step has `step_samples` samples, `rate_hz` is the sampling rate, `num_labels` the number of labels. If `fresh`,
    the network's state is reset at `start`: a word that began earlier has no target, and for a word soon after `start`
    that counts several times, `copies` is 0, because "double" may have been before `start`.
    """
    step_end = start + step_samples * np.arange(1, num_steps + 1)
    reach = round((REPEAT_SECONDS + TARGET_SECONDS[0]) * rate_hz)
    words = [w for w in words if w.end + reach > start and w.start - reach < start + num_steps * step_samples]
    label, copies = np.full(num_steps, num_labels, np.int32), np.zeros(num_steps, np.int32)
    mask, times = np.ones(num_steps, np.float32), np.zeros((num_steps, 2), np.float32)
    for word in words:
        since = (step_end - word.end) / rate_hz
        if word.label < 0:
            mask[(step_end > word.start) & (since <= IGNORED_SECONDS[1]) & (label == num_labels)] = 0
            continue
        near = (since > IGNORED_SECONDS[0]) & (since <= IGNORED_SECONDS[1])
        unknown = fresh and word.copies > 1 and word.start < start + COUNT_SECONDS * rate_hz
        mask[near & (label == num_labels)], copies[near] = 0, 0 if unknown else word.copies
        just_ended = (since > TARGET_SECONDS[0]) & (since <= TARGET_SECONDS[1])
        label[just_ended], mask[just_ended] = word.label, not (fresh and word.start < start)
        times[just_ended] = (step_end[just_ended, None] - np.asarray([word.start, word.end])) / rate_hz
    for before, word in itertools.pairwise(sorted(words, key=lambda word: word.end)):
        if before.label == word.label >= 0 and word.end - before.end < REPEAT_SECONDS * rate_hz:
            until = TARGET_SECONDS[0] - (step_end - word.end) / rate_hz  # seconds until the targets of `word`
            between = (until >= 0) & (until < REPEAT_GAP_SECONDS)
            label[between], mask[between], times[between] = num_labels, 1, 0
    return Targets(label, mask, times, copies)
