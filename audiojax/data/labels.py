"""What is learnt of a clip: the label that its source gives it, or the sex of who speaks."""

import dataclasses
import hashlib

import numpy as np

from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.schema import TARGETS

SEXES = ("female", "male")


def choose(clips: Clips, target: str) -> Clips:
    """The clips with the labels of `target`: "digit" leaves the source's own, whatever words they are.

    "sex" leaves out the clips of speakers whose sex is not known. Raises InputError where not both are heard.
    """
    if target == "digit":
        return clips
    if target != "sex":
        raise InputError(f"config.data.target is {target!r}; choose one of {', '.join(TARGETS)}.")
    sex = np.asarray([clips.speakers[name].sex for name in clips.speaker])
    known = np.flatnonzero(np.isin(sex, SEXES))
    found = sorted(set(sex[known].tolist()))
    if len(found) < len(SEXES):
        heard = f"only {found[0]} speakers" if found else "no speaker's sex"
        raise InputError(f"config.data.target is 'sex', but {clips.source} tells of {heard}; choose another source.")
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
    """The clips at `indices`, their sound copied."""
    speaker = clips.speaker[indices]
    return dataclasses.replace(
        clips,
        samples=np.concatenate([np.empty(0, np.int16), *(clips[index] for index in indices)]),
        offsets=np.cumsum([0, *clips.length[indices]]),
        label=clips.label[indices],
        speaker=speaker,
        take=clips.take[indices],
        path=tuple(clips.path[index] for index in indices),
        speakers={name: about for name, about in clips.speakers.items() if name in set(speaker.tolist())},
    )
