"""The target of a classifier: the label of a clip in its source, or the sex of its speaker."""

import dataclasses
import hashlib
import pkgutil

import numpy as np

from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.schema import SOURCES

SEXES = ("female", "male")


def choose(clips: Clips, target: str) -> Clips:
    """Returns `clips` with the labels that a classifier is to predict.

    The target "digit" keeps the labels of the source, whatever words they are. "sex" is that of the speaker; clips of
    speakers of unknown sex are left out, and InputError is raised unless there are both female and male speakers. For a
    source with a function `targets` in `schema.SOURCES`, that function labels the clips for all targets but "sex".
    """
    if target != "sex" and (source := SOURCES.get(clips.source)) and source.targets:
        chosen: Clips = pkgutil.resolve_name(source.targets)(clips, target)
        return chosen
    if target == "digit":
        return clips
    if target != "sex":
        raise InputError(f"config.data.target is {target!r}; choose one of digit, sex for {clips.source}.")
    sex = np.asarray([clips.speakers[name].sex for name in clips.speaker])
    known = np.flatnonzero(np.isin(sex, SEXES))
    found = sorted(set(sex[known].tolist()))
    if len(found) < len(SEXES):
        known_sex = f"only {found[0]} speakers" if found else "no speaker's sex"
        raise InputError(f"config.data.target is 'sex', but {clips.source} has {known_sex}; choose another source.")
    if len(known) < len(clips):
        clips = some(clips, known)
    return dataclasses.replace(
        clips,
        label=np.asarray([SEXES.index(clips.speakers[name].sex) for name in clips.speaker], np.int32),
        label_names=SEXES,
        target=target,
        key=hashlib.sha256(f"{clips.key} {target}".encode()).hexdigest(),
    )


def some(clips: Clips, indices: np.ndarray) -> Clips:
    """Returns the n clips at `indices`, with a copy of their samples unless `indices` are 0 to n - 1."""
    speaker, first = clips.speaker[indices], np.array_equal(indices, np.arange(len(indices)))
    return dataclasses.replace(
        clips,
        samples=clips.samples[: clips.offsets[len(indices)]]
        if first
        else np.concatenate([np.empty(0, np.int16), *(clips[index] for index in indices)]),
        offsets=np.cumsum([0, *clips.length[indices]]),
        label=clips.label[indices],
        speaker=speaker,
        take=clips.take[indices],
        path=tuple(clips.path[index] for index in indices),
        speakers={name: about for name, about in clips.speakers.items() if name in set(speaker.tolist())},
    )
