"""The data structures `Clips`, the sounds of a source as arrays, and `Batch`, the items of all data loaders."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np


class Speaker(NamedTuple):
    """Metadata of a speaker; "unknown" and None where the source has none."""

    sex: str = "unknown"
    accent: str = "unknown"
    age: int | None = None


@dataclass(frozen=True)
class Clips:
    """All clips of a source, such as a data set, as one flat array of samples.

    Clip `i` is `samples[offsets[i]:offsets[i + 1]]`, mono int16 at `rate_hz`, untruncated. Other arrays have its
    label, its speaker, its take number, and the path of its file.
    """

    source: str  # "synthetic", "audiomnist", "fsdd", ...
    rate_hz: int
    samples: np.ndarray  # i16[total], often memory-mapped
    offsets: np.ndarray  # i64[n + 1]
    label: np.ndarray  # i32[n], an index into label_names
    speaker: np.ndarray  # str[n], a key of speakers
    take: np.ndarray  # i32[n]
    path: tuple[str, ...]  # [n], relative to the source's root
    label_names: tuple[str, ...]
    speakers: dict[str, Speaker]
    key: str  # SHA-256 of everything above but the source and the paths
    target: str = "digit"  # the meaning of the labels, see `data.labels`
    official: Mapping[str, frozenset[str]] = field(default_factory=dict)  # paths without suffix, by part of the split
    noises: tuple[np.ndarray, ...] = ()  # recordings of background noise, i16[t] each, for augmentation

    @classmethod
    def unlabelled(cls, sounds: Sequence[np.ndarray], rate_hz: int) -> Clips:
        """Returns the sounds, each i16[t] at `rate_hz`, as clips without labels and speakers."""
        number, offsets = len(sounds), np.cumsum([0, *map(len, sounds)])
        samples = np.concatenate([np.empty(0, np.int16), *sounds])
        zeros, nobody = np.zeros(number, np.int32), np.full(number, "")
        return cls("files", rate_hz, samples, offsets, zeros, nobody, zeros, ("",) * number, (), {}, "")

    def joined(self, other: Clips) -> Clips:
        """Returns these clips followed by those of `other`, in memory; both have the same labels and rate.

        The names of the speakers of `other` are prefixed with its source.
        """
        theirs = {name: f"{other.source} {name}" for name in other.speakers}
        return dataclasses.replace(
            self,
            samples=np.concatenate([self.samples, other.samples]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
            label=np.concatenate([self.label, other.label]),
            speaker=np.concatenate([self.speaker, [theirs.get(name, name) for name in other.speaker.tolist()]]),
            take=np.concatenate([self.take, other.take]),
            path=self.path + other.path,
            speakers=self.speakers | {theirs[name]: of for name, of in other.speakers.items()},
            key=f"{self.key} {other.key}",
            noises=self.noises + other.noises,
        )

    def __len__(self) -> int:
        """Returns the number of clips."""
        return len(self.label)

    @property
    def length(self) -> np.ndarray:
        """Returns i64[n], the number of samples of each clip."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns the sound i16[t] of one clip, a view."""
        return self.samples[self.offsets[index] : self.offsets[index + 1]]


def copies(clips: Clips, indices: np.ndarray, among: np.ndarray, of: Clips | None = None) -> np.ndarray:
    """Returns bool[n]: whether each of the n clips at `indices` of `clips` has the samples of a clip in another set.

    The other set is the clips of `of` (by default of `clips`) at the indices `among`.
    """
    of = of or clips
    sounds = {hashlib.blake2b(of[index].tobytes()).digest() for index in among if len(of[index])}
    digests = (hashlib.blake2b(clips[index].tobytes()).digest() for index in indices)
    return np.fromiter((digest in sounds for digest in digests), bool, len(indices))


class Batch(TypedDict):
    """A batch of clips or streams: numpy arrays on the host, jax arrays on the devices.

    For clips, a row is a clip. For streams, a row is the next segment of a stream, of N steps of the network: `label`,
    `mask`, `times` and `copies` have a value for each step, [B, N] or [B, N, 2].
    """

    audio: Any  # i16[B, T], right-padded with zeros
    length: Any  # i32[B] in [1, T], samples
    label: Any  # i32[B]
    mask: Any  # f32[B], 1 for a clip and 0 for a row of padding
    reset: NotRequired[Any]  # f32[B], 1 where the state of a stream is reset before this batch
    times: NotRequired[Any]  # f32[B, N, 2], seconds since the start and end of a word, see `streaming.targets`
    copies: NotRequired[Any]  # i32[B, N], how many times a word counts, see `streaming.targets`
