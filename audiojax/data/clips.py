"""Clips: the sound files of a source as arrays; Batch: what every data loader yields."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np


class Speaker(NamedTuple):
    """What a source knows of a speaker; "unknown" and None where it does not."""

    sex: str = "unknown"
    accent: str = "unknown"
    age: int | None = None


@dataclass(frozen=True)
class Clips:
    """Every clip of a source, ragged and flat, untruncated, grouped by the source's label.

    Clip `i` is `samples[offsets[i]:offsets[i + 1]]`, mono int16 at `rate_hz`.
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
    target: str = "digit"  # what the labels tell of a clip, see `data.targets`
    official: Mapping[str, frozenset[str]] = field(default_factory=dict)  # paths without suffix, by part of the split

    @classmethod
    def unlabelled(cls, sounds: Sequence[np.ndarray], rate_hz: int) -> Clips:
        """Sounds i16[t] at `rate_hz` of which nothing else is known."""
        number, offsets = len(sounds), np.cumsum([0, *map(len, sounds)])
        samples = np.concatenate([np.empty(0, np.int16), *sounds])
        zeros, nobody = np.zeros(number, np.int32), np.full(number, "")
        return cls("files", rate_hz, samples, offsets, zeros, nobody, zeros, ("",) * number, (), {}, "")

    def joined(self, other: Clips) -> Clips:
        """These clips and those of `other` behind them, in memory; both have the same labels and rate. The speakers of
        `other` have its source before their names."""
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
        )

    def __len__(self) -> int:
        return len(self.label)

    @property
    def length(self) -> np.ndarray:
        """i64[n]: samples in each clip."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        """i16[t]: the sound of one clip, a view."""
        return self.samples[self.offsets[index] : self.offsets[index + 1]]


def copies(clips: Clips, indices: np.ndarray, among: np.ndarray, of: Clips | None = None) -> np.ndarray:
    """Returns bool[n], whether each clip at `indices` has the sound of one at `among`, of the clips `of` if given."""
    of = of or clips
    sounds = {hashlib.blake2b(of[index].tobytes()).digest() for index in among if len(of[index])}
    digests = (hashlib.blake2b(clips[index].tobytes()).digest() for index in indices)
    return np.fromiter((digest in sounds for digest in digests), bool, len(indices))


class Batch(TypedDict):
    """The one batch contract: always all four, as numpy arrays and, once they are on the devices, as jax arrays.

    A batch of endless streams has a label and a mask for each of N steps, [B, N], and their times.
    """

    audio: Any  # i16[B, T], zero right-padded
    length: Any  # i32[B] in [1, T], samples
    label: Any  # i32[B]
    mask: Any  # f32[B], 1 for a clip and 0 for a row that only fills the batch
    reset: NotRequired[Any]  # f32[B], 1 where a stream's state is the initial one before this batch
    times: NotRequired[Any]  # f32[B, N, 2], seconds since a word began and ended, see `data.streams.targets`
