"""Batches of clips: fixed length, bucketed by length, and for evaluation. Batch k is a function of (seed, k)."""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from audiojax.data.signal import fit_length
from audiojax.types import Batch, Clips, InputError

T = TypeVar("T")
PLACEMENTS = ("start", "random")
_PLACEMENT_SEED = 8000


def gather(
    clips: Clips, indices: np.ndarray, *, batch_size: int, length_samples: int, placement: str = "start"
) -> Batch:
    """The clips at `indices`, truncated or zero-padded; rows beyond them fill the batch with mask 0.

    `placement` "start" puts every clip first; "random" puts silence before it, drawn once a clip: always the same.
    Its length counts that silence.
    """
    batch = Batch(
        audio=np.zeros((batch_size, length_samples), np.int16),
        length=np.ones(batch_size, np.int32),  # never 0: a recurrent model would read frame -1
        label=np.zeros(batch_size, np.int32),
        mask=np.zeros(batch_size, np.float32),
    )
    for row, index in enumerate(indices):
        clip, start = clips[index], 0
        if placement == "random":
            rng = np.random.default_rng([_PLACEMENT_SEED, index])
            start = int(rng.integers(max(1, length_samples - len(clip) + 1)))
        batch["length"][row] = start + fit_length(clip, batch["audio"][row, start:])
    batch["label"][: len(indices)] = clips.label[indices]
    batch["mask"][: len(indices)] = 1.0
    return batch


def steps_per_epoch(num_clips: int, batch_size: int) -> int:
    """Whole batches in an epoch: which clips the rest leaves out changes with each epoch's order."""
    if batch_size > num_clips:
        raise InputError(f"config.train.batch_size is {batch_size}, more than the {num_clips} clips to train on.")
    return num_clips // batch_size


def fixed_length(
    clips: Clips,
    indices: np.ndarray,
    *,
    batch_size: int,
    length_samples: int,
    placement: str = "start",
    seed: int,
    start: int,
    stop: int,
) -> Iterator[Batch]:
    """Training batches `start` to `stop` (exclusive) of an endless, seeded sequence of shuffled epochs."""
    num_steps = steps_per_epoch(len(indices), batch_size)
    order_of = _EpochOrder(len(indices), seed)
    shape: dict[str, Any] = dict(batch_size=batch_size, length_samples=length_samples, placement=placement)
    for step in range(start, stop):
        epoch, position = divmod(step, num_steps)
        chosen = order_of(epoch)[position * batch_size : (position + 1) * batch_size]
        yield gather(clips, indices[chosen], **shape)


def bucketed(
    clips: Clips,
    indices: np.ndarray,
    *,
    batch_size: int,
    bucket_samples: Sequence[int],
    seed: int,
    start: int,
    stop: int,
) -> Iterator[Batch]:
    """Like `fixed_length`, but each batch holds clips of one bucket: the shortest length that fits them.

    Every clip comes once an epoch, a bucket's last batch filled with mask 0; a clip longer than the longest bucket
    is truncated. There are as many shapes as buckets, hence as many compilations.
    """
    bounds = np.sort(np.asarray(bucket_samples))
    bucket = np.minimum(np.searchsorted(bounds, clips.length[indices]), len(bounds) - 1)
    num_steps = sum(-(-int((bucket == b).sum()) // batch_size) for b in range(len(bounds)))
    order_of = _EpochOrder(len(indices), seed)
    for step in range(start, stop):
        epoch, position = divmod(step, num_steps)
        order = order_of(epoch)
        groups = [
            (int(length_samples), group[i : i + batch_size])
            for b, length_samples in enumerate(bounds)
            for group in [order[bucket[order] == b]]
            for i in range(0, len(group), batch_size)
        ]
        turn = np.random.default_rng([seed, epoch, 1]).permutation(num_steps)[position]
        length_samples, chosen = groups[turn]
        yield gather(clips, indices[chosen], batch_size=batch_size, length_samples=length_samples)


def evaluation(
    clips: Clips, indices: np.ndarray, *, batch_size: int, length_samples: int, placement: str = "start"
) -> Iterator[Batch]:
    """Each clip exactly once, in order; the last batch is filled with rows of mask 0."""
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        yield gather(clips, chosen, batch_size=batch_size, length_samples=length_samples, placement=placement)


def prefetch(batches: Iterable[T], size: int = 3) -> Iterator[T]:
    """The same items, made ahead in a thread so that the step never waits; errors are raised where they are read."""
    ready: queue.Queue = queue.Queue(size)
    stopped = threading.Event()

    def put(item) -> bool:
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


class _EpochOrder:
    """The shuffled order of one epoch, kept until another is asked for."""

    def __init__(self, num_clips: int, seed: int):
        self._num_clips, self._seed = num_clips, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __call__(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._num_clips)
        return self._order
