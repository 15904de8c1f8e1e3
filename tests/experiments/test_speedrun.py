"""The speedrun's augmentation of log-mel frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import speedrun

RECIPE = speedrun.Recipe(num_frames=12, num_bands=8)
STILL = RECIPE._replace(tempo=0.0, warp=0.0, tilt=0.0, noise=60.0)  # the margin alone


@pytest.fixture(autouse=True)
def promotes_ranks():
    """Allows broadcasting between ranks, as outside the tests."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.slow
def test_augmented_frames_fit_their_length_and_padding_changes_nothing():
    frames = np.random.default_rng(0).normal(size=(6, 12, 8)).astype(np.float32)
    length = jnp.asarray([12, 9, 6, 4, 2, 1])
    other = np.where(np.arange(12)[None, :, None] < np.asarray(length)[:, None, None], frames, np.float32(99))
    np.testing.assert_array_equal(*(speedrun.normalised(x, length) for x in (frames, other)))
    x, new_length = speedrun.augmented(jax.random.key(0), frames, length, RECIPE)
    assert x.shape == frames.shape and np.isfinite(x).all()
    assert ((new_length >= 1) & (new_length <= 12)).all() and (new_length != length).any()


def test_augmentation_of_no_strength_is_the_identity_but_for_faint_noise():
    frames = np.random.default_rng(0).normal(size=(3, 12, 8)).astype(np.float32)
    still = STILL._replace(margin=0.0)
    x, length = speedrun.augmented(jax.random.key(0), frames, jnp.full(3, 12), still)
    np.testing.assert_allclose(x, frames, atol=1e-4)
    np.testing.assert_array_equal(length, 12)


def test_both_ends_of_a_clip_move_within_the_margin():
    """Frames that hold their own number show what was cut, and which frames were repeated."""
    length = np.resize(np.asarray([16, 24], np.int32), 200)
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[None, :, None], (200, 40, 8))
    recipe = STILL._replace(num_frames=40, margin=3.0)
    x, new_length = speedrun.augmented(jax.random.key(0), ramp, jnp.asarray(length), recipe)
    cut, repeated = np.zeros((2, 200)), np.zeros((2, 200))
    for row, valid in enumerate(np.asarray(new_length)):
        found = np.asarray(x[row, :valid, 0])
        inside = (found > 0.01) & (found < length[row] - 1.01)
        np.testing.assert_allclose(np.diff(found[inside]), 1.0, atol=1e-3)
        first = np.flatnonzero(inside)[0]
        start = found[first] - first  # where the first frame would be without the clip's end
        cut[0, row], repeated[0, row] = max(start, 0), max(-start, 0)
        end = start + valid - 1 - (length[row] - 1)
        cut[1, row], repeated[1, row] = max(-end, 0), max(end, 0)
    assert (cut[:, length == 16].max(axis=1) <= 2.01).all()
    assert (cut.max(axis=1) > 2).all() and (cut <= 3.01).all()
    assert (repeated[:, length == 16].max(axis=1) > 2.5).all()
    assert (repeated[0] <= 3.01).all() and (repeated[1] <= 4.01).all()  # a length is rounded up


@pytest.mark.slow
def test_scores_do_not_depend_on_padding():
    frames = np.random.default_rng(0).normal(size=(3, 12, 8)).astype(np.float32)
    length = jnp.asarray([12, 7, 1])
    model = speedrun.FrameCNN(channels=(4, 6), dropout=0.0)
    logits = []
    variables = model.init(jax.random.key(0), jnp.zeros((1, 12, 8)), jnp.asarray([12]))
    for padded in (frames, np.pad(frames, ((0, 0), (0, 8), (0, 0)), constant_values=9.0)):
        logits.append(jax.jit(model.apply)(variables, speedrun.normalised(padded, length), length))
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-6)
    assert np.ptp(logits[0], axis=0).max() > 1e-3


def test_the_table_leaves_the_run_that_compiled_out_of_the_median():
    runs = {"audiojax": [(0.98, 30.0), (0.99, 10.0), (0.985, 12.0)], "PyTorch": [(0.98, 31.0)]}
    assert speedrun.table(runs).splitlines()[2:] == [
        "| audiojax | 98.50 ± 0.50 % | 11.0 | 30.0 |",
        "| PyTorch | 98.00 % |  | 31.0 |",
    ]
