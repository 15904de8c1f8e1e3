"""Batches: each clip once, batch k a function of (seed, k), and a thread that hides nothing."""

import threading

import numpy as np
import pytest

from audiojax.data import batches
from audiojax.data.clips import Clips
from audiojax.errors import InputError


def ragged(lengths) -> Clips:
    """Clip i holds the number i + 1, so that a batch tells which clips it has."""
    samples = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int16), lengths)
    zeros = np.zeros(len(lengths), np.int32)
    return Clips(
        source="toy", rate_hz=8000, samples=samples, offsets=np.concatenate([[0], np.cumsum(lengths)]),
        label=np.arange(len(lengths), dtype=np.int32) % 10, speaker=zeros.astype(str), take=zeros,
        path=("",) * len(lengths), label_names=tuple("abcdefghij"), speakers={}, key="",
    )  # fmt: skip


CLIPS = ragged([5, 30, 12, 8, 50, 20, 7, 7, 19, 41, 3, 28, 33])
INDICES = np.asarray([0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 12])
SIZE = dict(batch_size=4, length_samples=24)


def heard(batch) -> list[int]:
    """The clips of a batch, by what its rows hold."""
    return [int(row[0]) - 1 for row, real in zip(batch["audio"], batch["mask"], strict=True) if real]


def check_contract(batch, batch_size):
    assert set(batch) == {"audio", "length", "label", "mask"} and batch["audio"].dtype == np.int16
    assert batch["length"].shape == batch["label"].shape == batch["mask"].shape == (batch_size,)
    assert (batch["length"] >= 1).all() and (batch["length"] <= batch["audio"].shape[1]).all()
    for row, length, label, real in zip(*(batch[k] for k in ("audio", "length", "label", "mask")), strict=True):
        assert not row[length:].any()
        clip = int(row[0]) - 1
        assert label == CLIPS.label[clip] and (row[:length] == clip + 1).all()
        assert length == min(len(CLIPS[clip]), len(row))
        assert real or clip in heard(batch)  # one of its own again


def test_evaluation_asks_each_clip_once_and_masks_the_rest():
    parts = list(batches.evaluation(CLIPS, INDICES, **SIZE))
    for part in parts:
        check_contract(part, 4)
        assert part["audio"].shape == (4, 24)
    assert [clip for part in parts for clip in heard(part)] == INDICES.tolist()
    assert parts[-1]["mask"].tolist() == [1, 1, 1, 0]


BUCKETS = dict(batch_size=4, length_samples=41, bucket_samples=(20, 8))


def fixed(start, stop, seed=0):
    return list(batches.Epochs(CLIPS, INDICES, **SIZE, seed=seed)(start, stop))


def in_buckets(start, stop, seed=0):
    return list(batches.Epochs(CLIPS, INDICES, **BUCKETS, seed=seed)(start, stop))


@pytest.mark.parametrize("draw", [fixed, in_buckets])
def test_batch_k_is_a_function_of_seed_and_k(draw):
    whole = draw(0, 9)
    for start in (1, 4, 7):
        for part, same in zip(draw(start, 9), whole[start:], strict=True):
            for name in part:
                np.testing.assert_array_equal(part[name], same[name])
    assert [heard(part) for part in whole] != [heard(part) for part in draw(0, 9, seed=1)]


def test_fixed_length_epochs_are_shuffled_without_repetition():
    whole = fixed(0, 8)  # 11 clips: two batches an epoch
    for part in whole:
        check_contract(part, 4)
    epochs = [heard(whole[i]) + heard(whole[i + 1]) for i in range(0, 8, 2)]
    for epoch in epochs:
        assert len(set(epoch)) == 8 and set(epoch) <= set(INDICES.tolist())
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set().union(*epochs) == set(INDICES.tolist())  # nobody is left out for ever


def test_buckets_hold_every_clip_once_an_epoch_in_the_shortest_length_that_fits():
    assert batches.Epochs(CLIPS, INDICES, **BUCKETS, seed=0).num_steps == 4
    epoch = in_buckets(0, 4)
    assert sorted(clip for part in epoch for clip in heard(part)) == INDICES.tolist()
    for part in epoch:
        check_contract(part, 4)
        width = part["audio"].shape[1]
        for clip in heard(part):
            assert width == next((b for b in (8, 20, 41) if len(CLIPS[clip]) <= b), 41)
    assert {part["audio"].shape[1] for part in epoch} == {8, 20, 41}


def test_a_batch_larger_than_the_data_is_one_sentence():
    with pytest.raises(InputError, match=r"config\.train\.batch_size.*\b12\b.*\b11 "):
        batches.Epochs(CLIPS, INDICES, batch_size=12, length_samples=24, seed=0)


def test_a_bucket_leaves_room_for_what_augmentation_may_make_of_a_clip():
    for part in batches.Epochs(CLIPS, INDICES, **BUCKETS, stretch=1.2, seed=0)(0, 4):
        for clip in heard(part):
            assert part["audio"].shape[1] == next((b for b in (8, 20, 41) if len(CLIPS[clip]) * 1.2 <= b), 41)


def test_evaluation_in_buckets_truncates_nothing():
    order = batches.by_length(CLIPS, INDICES)
    lengths = CLIPS.length[INDICES[order]]
    assert (np.diff(lengths) >= 0).all() and sorted(order) == list(range(len(INDICES)))
    parts = list(batches.evaluation(CLIPS, INDICES[order], batch_size=4, length_samples=24, bucket_samples=(20, 8)))
    assert [clip for part in parts for clip in heard(part)] == INDICES[order].tolist()
    assert [part["audio"].shape[1] for part in parts] == [8, 48, 72]  # the longest of each: 7, 30, 50 samples
    for part in parts:
        for row, clip in enumerate(heard(part)):
            assert part["length"][row] == len(CLIPS[clip])


def test_prefetch_keeps_order_and_raises_where_it_is_read():
    assert list(batches.prefetch(iter(range(50)))) == list(range(50))

    def breaks():
        yield 1
        raise RuntimeError("the disk is gone")

    stream = batches.prefetch(breaks())
    assert next(stream) == 1
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(stream)


def test_prefetch_ends_its_thread_when_nobody_reads_on():
    stream = batches.prefetch(iter(range(10**9)))
    next(stream)
    stream.close()
    for thread in [t for t in threading.enumerate() if t.name == "prefetch"]:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_a_random_placement_is_drawn_once_a_clip_and_loses_nothing():
    indices = np.arange(len(CLIPS))
    [start] = batches.evaluation(CLIPS, indices, batch_size=13, length_samples=24)
    [drawn] = batches.evaluation(CLIPS, indices, batch_size=13, length_samples=24, placement="random")
    shuffled = batches.gather(CLIPS, indices[::-1], batch_size=20, length_samples=24, placement="random")
    np.testing.assert_array_equal(drawn["audio"], shuffled["audio"][12::-1])
    for index in indices:
        row, length, kept = drawn["audio"][index], drawn["length"][index], min(24, len(CLIPS[index]))
        assert (row[length - kept : length] == index + 1).all() and not row[: length - kept].any()
        assert not row[length:].any() and row.sum() == start["audio"][index].sum()
    assert len(set((drawn["length"] - np.minimum(CLIPS.length, 24)).tolist())) > 4


def test_two_shares_of_the_rows_are_the_whole_batch():
    for make in (
        lambda **rows: batches.Epochs(CLIPS, INDICES, **BUCKETS, **rows, seed=3)(0, 8),
        lambda **rows: batches.evaluation(CLIPS, INDICES, **BUCKETS, **rows),
    ):
        shares = [make(rows=slice(start, start + 2)) for start in (0, 2)]
        for whole, *parts in zip(make(), *shares, strict=True):
            for name, value in whole.items():
                np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value)


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_one_ahead_asks_for_the_next_before_it_gives_one(number):
    asked: list[int] = []
    for given, item in enumerate(batches.one_ahead(asked.append(i) or i for i in range(number))):
        assert item == given and len(asked) == min(given + 2, number)
    assert asked == list(range(number))
