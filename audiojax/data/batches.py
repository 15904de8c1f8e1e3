"""Batches of clips for training and evaluation, of fixed length or bucketed by length."""

import queue
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from audiojax.audio.signal import fit_length
from audiojax.data.clips import Batch, Clips
from audiojax.errors import InputError

T = TypeVar("T")
ALL_ROWS = slice(None)
_PLACEMENT_SEED = 8000


def gather(
    clips: Clips,
    indices: np.ndarray,
    *,
    batch_size: int,
    length_samples: int,
    placement: str = "start",
    rows: slice = ALL_ROWS,
) -> Batch:
    """Returns a batch of the clips at `indices`, one in each row, truncated or padded with zeros.

    If there are fewer clips than rows, the other rows repeat clips and have mask 0: they are not counted, and the
    statistics of BatchNorm are computed from clips only.

    Args:
        clips: The clips to choose from.
        indices: Indices of at most `batch_size` clips.
        batch_size: Number of rows.
        length_samples: Number of samples in a row.
        placement: "start" puts the clip at the start of its row; "random" puts silence before it, which is included
            in its length and is a function of the clip's index, or of its samples if it belongs to no data set.
        rows: The rows that are read and returned, if several processes share a batch.
    """
    mask = (np.arange(batch_size) < len(indices))[rows].astype(np.float32)
    indices, batch_size = np.resize(indices, batch_size)[rows], len(mask)
    batch = Batch(
        audio=np.zeros((batch_size, length_samples), np.int16),
        length=np.empty(batch_size, np.int32),
        label=clips.label[indices].astype(np.int32),
        mask=mask,
    )
    for row, index in enumerate(indices):
        clip, start = clips[index], 0
        if placement == "random":
            number = index if clips.key else zlib.crc32(clip.tobytes())
            rng = np.random.default_rng([_PLACEMENT_SEED, number])
            start = int(rng.integers(max(1, length_samples - len(clip) + 1)))
        batch["length"][row] = start + fit_length(clip, batch["audio"][row, start:])
    return batch


class Epochs:
    """An infinite sequence of shuffled epochs of batches; batch k is a function of (seed, k).

    Without `bucket_samples`, all clips are padded or truncated to `length_samples`, and an epoch has full batches only,
    so that it leaves out different clips each time. With them, a clip is padded to the shortest of these lengths that
    fits, a batch has clips of one length, and each clip occurs once in an epoch; the last batch of a length is filled
    with rows of mask 0. Clips longer than `length_samples` are truncated. jax compiles a training step for each length.

    `num_steps` is the number of batches in an epoch, `clips_per_step` the mean number of clips in a batch.
    """

    def __init__(
        self,
        clips: Clips,
        indices: np.ndarray,
        *,
        batch_size: int,
        length_samples: int,
        bucket_samples: Sequence[int] = (),
        placement: str = "start",
        rows: slice = ALL_ROWS,
        stretch: float = 1.0,
        seed: int,
    ):
        """Assigns the clips at `indices` to lengths.

        `placement` is the position of a clip in its row, "start" or "random". `rows` are those that are read, if
        several processes share a batch. `stretch` is the largest factor by which augmentation lengthens a clip, for
        which the length of its row is chosen.
        """
        self._clips, self._indices, self._seed = clips, indices, seed
        self._batch_size, self._placement, self._rows = batch_size, placement, rows
        self._lengths = _lengths(length_samples, bucket_samples)
        self._whole_only = len(self._lengths) == 1
        fits = np.searchsorted(self._lengths, np.ceil(clips.length[indices] * stretch))
        self._bucket = np.minimum(fits, len(self._lengths) - 1)
        counts = np.bincount(self._bucket, minlength=len(self._lengths))
        self.num_steps = int(np.sum(counts // batch_size if self._whole_only else -(-counts // batch_size)))
        self.clips_per_step = len(indices) / max(self.num_steps, 1)
        if batch_size > len(indices):
            raise InputError(f"config.train.batch_size is {batch_size}, more than the {len(indices)} training clips.")
        self._epoch = -1  # the current one
        self._groups: list[tuple[int, np.ndarray]] = []

    def __call__(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields batches `start` to `stop` (exclusive), counted from the first batch of the first epoch."""
        for step in range(start, stop):
            epoch, position = divmod(step, self.num_steps)
            if epoch != self._epoch:
                self._epoch, self._groups = epoch, self._shuffled(epoch)
            length_samples, chosen = self._groups[position]
            yield gather(
                self._clips,
                self._indices[chosen],
                batch_size=self._batch_size,
                length_samples=length_samples,
                placement=self._placement,
                rows=self._rows,
            )

    def _shuffled(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """Returns the length of each batch of an epoch, and the positions of its clips in `indices`."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._indices))
        parts = [(length, order[self._bucket[order] == b]) for b, length in enumerate(self._lengths)]
        size = self._batch_size
        groups = [(length, part[i : i + size]) for length, part in parts for i in range(0, len(part), size)]
        if self._whole_only:
            return groups[: self.num_steps]
        return [groups[i] for i in np.random.default_rng([self._seed, epoch, 1]).permutation(self.num_steps)]


def evaluation(
    clips: Clips,
    indices: np.ndarray,
    *,
    batch_size: int,
    length_samples: int,
    bucket_samples: Sequence[int] = (),
    placement: str = "start",
    rows: slice = ALL_ROWS,
) -> Iterator[Batch]:
    """Yields batches in which each clip at `indices` occurs once, in order; the last is filled with rows of mask 0.

    Without `bucket_samples`, clips are padded or truncated to `length_samples`. With them, which are further, shorter
    lengths, nothing is truncated: a batch has the length that its longest clip needs, so sort the clips by length.
    `placement` is the position of a clip in its row, "start" or "random"; `rows` are those that are read, if several
    processes share a batch.
    """
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        if bucket_samples:
            length = padded_samples(int(clips.length[chosen].max()), length_samples, bucket_samples)
        else:
            length = length_samples
        yield gather(clips, chosen, batch_size=batch_size, length_samples=length, placement=placement, rows=rows)


def by_length(clips: Clips, indices: np.ndarray) -> np.ndarray:
    """Returns i64[n], the positions in `indices` that sort the clips from the shortest to the longest."""
    return np.argsort(clips.length[indices], kind="stable")


def padded_samples(num_samples: int, length_samples: int, bucket_samples: Sequence[int]) -> int:
    """Returns the length to which a clip of `num_samples` is padded.

    It is the shortest of `length_samples` and the shorter `bucket_samples` that fits; if none does, a multiple of
    `length_samples`.
    """
    fitting = [length for length in _lengths(length_samples, bucket_samples) if length >= num_samples]
    return fitting[0] if fitting else -(-num_samples // length_samples) * length_samples


def _lengths(length_samples: int, bucket_samples: Sequence[int]) -> list[int]:
    return sorted({*bucket_samples, length_samples})


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields `items`, but requests each item before it yields the previous one.

    This overlaps asynchronous work. It stays on the caller's thread, so that all processes dispatch in the same order.
    """
    rest = iter(items)
    for item in rest:
        for following in rest:
            yield item
            item = following
        yield item


def prefetch(batches: Iterable[T], size: int = 3) -> Iterator[T]:
    """Yields `batches`, of which up to `size` are computed in advance on a thread; errors are raised in the caller."""
    ready: queue.Queue[Any] = queue.Queue(size)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put((batch, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    threading.Thread(target=work, daemon=True, name="prefetch").start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
