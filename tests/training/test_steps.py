"""Metrics, augmentation, the optimizer and the step, one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from audiojax import config as configs
from audiojax import models
from audiojax.data.clips import Batch
from audiojax.errors import InputError
from audiojax.training.augment import make_augment
from audiojax.training.metrics import Metrics
from audiojax.training.optimizer import make_optimizer
from audiojax.training.sharding import check_divisible, make_mesh, replicate, shard_batch
from audiojax.training.state import create_state
from audiojax.training.steps import clip_loss, make_augment_step, make_eval_step, make_train_step

OPTIMIZER = dict(
    algorithm="sgd",
    schedule="cosine",
    learning_rate=0.1,
    warmup_steps=4,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    clip_norm=0.0,
)
QUIET = configs.base(configs.parse_arg("")).augment.to_dict()  # a config that augments nothing
LOUD = dict(
    max_margin_samples=40,
    tempo=0.2,
    speed=0.2,
    max_offset_samples=100,
    gain_db=6.0,
    noise_snr_db=(5.0, 20.0),
    recorded_noise=0.5,
    filter_db=6.0,
    noises=(np.random.default_rng(1).integers(-900, 900, 700).astype(np.int16),),
)


def batch_of(batch_size, num_samples=256, seed=0) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(
        audio=rng.integers(-9000, 9000, (batch_size, num_samples)).astype(np.int16),
        length=np.full(batch_size, num_samples, np.int32),
        label=(np.arange(batch_size) % 10).astype(np.int32),
        mask=np.ones(batch_size, np.float32),
    )


def augmented(audio, length, **how):
    """Sounds of some lengths after a part of the augmentation, which is one program, not one for each operation."""
    return jax.jit(make_augment(**{**QUIET, **how}))(jax.random.key(0), audio, length)


@pytest.mark.slow
def test_metrics_add_sums_and_divide_once():
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(7, 4)).astype(np.float32), rng.integers(0, 4, 7).astype(np.int32)
    mask = np.asarray([1, 1, 1, 0, 1, 1, 1], np.float32)
    parts = [Metrics.of(logits[part], label[part], mask[part]) for part in (slice(0, 2), slice(2, 7))]
    summary = (Metrics.zero(4) + parts[0] + parts[1]).summary()
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = -np.log(probability[np.arange(7), label])
    kept = mask == 1
    np.testing.assert_allclose(summary["loss"], loss[kept].mean(), rtol=1e-5)
    np.testing.assert_allclose(summary["accuracy"], (logits.argmax(1) == label)[kept].mean())


@pytest.mark.slow
def test_the_confusion_is_true_by_predicted():
    logits = jnp.eye(3)[jnp.asarray([2, 2, 0])]
    confusion = Metrics.of(logits, jnp.asarray([0, 2, 0]), jnp.ones(3)).confusion
    assert np.asarray(confusion).tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]


def test_a_mask_of_another_shape_raises():
    with pytest.raises(ValueError, match="mask has shape"):
        Metrics.of(jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32), jnp.ones((4, 1)))


@pytest.mark.slow
def test_augmentation_is_an_address_and_off_is_the_identity():
    batch = batch_of(3)
    for _ in range(2):
        audio, length = augmented(batch["audio"], batch["length"])
        np.testing.assert_array_equal(audio, batch["audio"].astype(np.float32))
        np.testing.assert_array_equal(length, batch["length"])
    augment = jax.jit(make_augment(**LOUD))
    first, again, other = (augment(jax.random.key(k), batch["audio"], batch["length"])[0] for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.slow
def test_offset_moves_a_clip_inside_its_padding():
    audio = np.zeros((200, 50), np.int16)
    audio[:, :10] = np.arange(1, 11)
    length = np.full(200, 10, np.int32)
    moved, new_length = augmented(audio, length, max_offset_samples=30)
    starts = np.asarray(new_length) - 10
    assert starts.min() == 0 and starts.max() == 30 and len(set(starts)) > 25
    for row, start in zip(np.asarray(moved), starts, strict=True):
        np.testing.assert_array_equal(row, np.roll(audio[0], start))


def test_margins_are_made_anew_around_the_word():
    audio = np.zeros((200, 2000), np.int16)
    audio[:, :960] = 10  # 46 dB below the word, which begins and ends with a block of 80
    audio[:, 400:720] = 2000 + np.arange(320)
    length = np.full(200, 960, np.int32)
    made, new_length = augmented(audio, length, max_margin_samples=600)
    made, new_length = np.asarray(made), np.asarray(new_length)
    before = (made >= 2000).argmax(axis=1)
    behind = new_length - before - 320
    for margin in (before, behind):
        assert margin.min() >= 0 and margin.min() < 20 and 580 < margin.max() <= 600 and len(set(margin)) > 100
    assert abs(np.corrcoef(before, behind)[0, 1]) < 0.3
    for row, start, end in zip(made, before, new_length, strict=True):
        np.testing.assert_array_equal(row[start : start + 320], audio[0, 400:720])
        own = np.pad(row[:start][-400:], (max(0, 400 - start), 0), constant_values=10)
        assert (own == 10).all() and not row[: max(0, start - 400)].any()  # its own sound as far as there is some
        assert not row[end:].any() and not row[start + 560 : end].any()


@pytest.mark.slow
def test_margins_keep_within_the_batch_and_leave_silence_silent():
    audio, length = np.zeros((50, 400), np.int16), np.full(50, 330, np.int32)
    audio[:25, 80:320] = 3000 + np.arange(240)
    made, new_length = augmented(audio, length, max_margin_samples=600)
    before = (np.asarray(made[:25]) > 0).argmax(axis=1)
    assert before.min() < 40 and before.max() > 120 and 398 <= new_length.max() <= 400
    for row, start in zip(np.asarray(made), before, strict=False):
        np.testing.assert_array_equal(row[start : start + 240], audio[0, 80:320])  # the whole word
    assert not made[25:].any() and np.isfinite(made).all()


@pytest.mark.slow
def test_speed_changes_pitch_and_length_together():
    t = np.arange(4000)
    audio = np.zeros((64, 8000), np.int16)
    audio[:, :4000] = (8000 * np.sin(2 * np.pi * 0.05 * t)).astype(np.int16)
    played, length = augmented(audio, np.full(64, 4000, np.int32), speed=0.25)
    factor = 4000 / np.asarray(length)
    assert 0.79 < factor.min() < 0.85 and 1.18 < factor.max() < 1.26
    peak = np.abs(np.fft.rfft(np.asarray(played), axis=1)).argmax(axis=1) / 8000
    np.testing.assert_allclose(peak, 0.05 * factor, rtol=0.01)


def test_tempo_changes_the_time_and_not_the_pitch():
    audio = np.zeros((64, 6000), np.int16)  # half a second: a tone, then one an octave above it
    tone = np.where(np.arange(4000) < 2000, 0.1, 0.2).cumsum()
    audio[:, :4000] = (8000 * np.sin(2 * np.pi * tone)).astype(np.int16)
    spoken, length = augmented(audio, np.full(64, 4000, np.int32), tempo=0.6)
    spoken, length = np.asarray(spoken), np.asarray(length)
    factor = 4000 / length
    assert 4000 / 6000 <= factor.min() < 0.68 and 1.5 < factor.max() < 1.61  # as slow as there is room for
    for row, end in zip(spoken, length, strict=True):
        for part, pitch in ((row[130 : end // 2 - 130], 0.1), (row[end // 2 + 130 : end - 130], 0.2)):
            spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2
            mean = (spectrum * np.fft.rfftfreq(len(part))).sum() / spectrum.sum()
            assert abs(mean / pitch - 1) < 0.04
        assert row[end - 200 : end].std() > 3000 and not row[end:].any()


def test_gain_and_noise_keep_to_their_ranges():
    t = np.arange(8000)
    audio = np.tile((3000 * np.sin(0.3 * t)).astype(np.int16), (50, 1))
    length = np.full(50, 8000, np.int32)
    louder, _ = augmented(audio, length, gain_db=6.0)
    gain_db = 20 * np.log10(np.asarray(louder).std(1) / audio.std(1))
    assert -6 <= gain_db.min() < -4 and 4 < gain_db.max() <= 6.001
    noisy, _ = augmented(audio, length, noise_snr_db=(10.0, 20.0))
    snr_db = 20 * np.log10(audio.std(1) / (np.asarray(noisy) - audio).std(1))
    assert 9.8 < snr_db.min() < 12 and 18 < snr_db.max() < 20.2


def test_recorded_noise_is_a_part_of_a_recording_at_the_asked_ratio():
    rng = np.random.default_rng(0)
    noises = [rng.integers(-peak, peak, size).astype(np.int16) for peak, size in ((30, 500), (9000, 1300))]
    noises += [np.zeros(0, np.int16)]  # an empty file is no noise
    audio, length = np.tile(rng.integers(-3000, 3000, 800).astype(np.int16), (200, 1)), np.full(200, 700, np.int32)
    audio[:, 700:] = 0
    how = dict(noise_snr_db=(10.0, 20.0), noises=noises)
    noisy, _ = augmented(audio, length, recorded_noise=0.8, **how)
    added = np.asarray(noisy, np.float64) - audio
    assert not added[:, 700:].any()
    snr_db = 20 * np.log10(audio[0, :700].std() / np.sqrt(np.mean(added[:, :700] ** 2, axis=1)))
    assert 9.5 < snr_db.min() < 11 and 19 < snr_db.max() < 20.5
    starts, found = [], np.zeros(200)
    for number, noise in enumerate(noises[:2]):
        parts = np.stack([np.resize(np.roll(noise, -start), 700) for start in range(len(noise))]).astype(np.float64)
        like = added[:, :700] @ (parts / np.linalg.norm(parts, axis=1, keepdims=True)).T
        like /= np.linalg.norm(added, axis=1, keepdims=True)
        is_part = like.max(axis=1) > 0.999
        found += is_part
        starts += [(number, start) for start in like.argmax(axis=1)[is_part].tolist()]
    assert snr_db[found == 1].min() > 9.99 and snr_db[found == 1].max() < 20.01
    assert 140 <= found.sum() <= 180 and found.max() == 1 and len(set(starts)) > 0.8 * len(starts)
    assert 50 < sum(number for number, _ in starts) < 110  # both recordings
    for share in (0.0, 0.8):
        silent, _ = augmented(audio, length, **(how | {"recorded_noise": share, "noises": [np.zeros(9, np.int16)]}))
        unchanged = (np.asarray(silent) == audio).all(axis=1)
        assert unchanged.mean() == pytest.approx(share, abs=0.1)
    with pytest.raises(InputError, match=r"recorded_noise is 0\.8, but the data has no recordings.*speech_commands"):
        make_augment(**{**QUIET, "recorded_noise": 0.8, "noise_snr_db": (10.0, 20.0)})


def test_the_filter_keeps_to_its_range_and_bends_the_spectrum():
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 3000, (40, 4096)).astype(np.int16)
    filtered, _ = augmented(audio, np.full(40, 4096, np.int32), filter_db=12.0)
    spectra = [np.abs(np.fft.rfft(np.asarray(x, np.float64), axis=1))[:, 1:-1] for x in (filtered, audio)]
    response_db = 20 * np.log10(spectra[0] / spectra[1])
    assert -12.1 < response_db.min() < -9 and 9 < response_db.max() < 12.1
    assert np.abs(np.diff(response_db, axis=1)).max() < 2  # smooth
    assert np.ptp(response_db, axis=1).min() > 4  # not a gain
    assert np.ptp(response_db[:, 1000], axis=0) > 15  # another one each clip


@pytest.mark.slow
def test_augmentation_leaves_the_padding_silent():
    batch = batch_of(20)
    batch["audio"][:, 150:], batch["length"][:] = 0, 150
    noisy, _ = augmented(batch["audio"], batch["length"], noise_snr_db=(5.0, 20.0))
    assert not np.asarray(noisy)[:, 150:].any() and (np.asarray(noisy)[:, :150] != batch["audio"][:, :150]).all()
    audio, length = augmented(batch["audio"], batch["length"], **LOUD)
    after = np.arange(256)[None, :] >= np.asarray(length)[:, None]
    assert not np.asarray(audio)[after].any() and after.any(axis=1).sum() > 10


def test_the_learning_rate_warms_up_and_comes_down():
    _, rate = make_optimizer(**OPTIMIZER, total_steps=20)
    rates = np.asarray([rate(step) for step in range(21)])
    assert (np.diff(rates[:5]) > 0).all() and rates[4] == rates.max() == np.float32(0.1)
    assert (np.diff(rates[4:]) < 0).all() and rates[20] < 1e-8
    _, constant = make_optimizer(**{**OPTIMIZER, "schedule": "constant", "warmup_steps": 0}, total_steps=20)
    assert constant(0) == constant(19) == np.float32(0.1)
    with pytest.raises(InputError, match=r"cosine.*constant.*halving"):
        make_optimizer(**{**OPTIMIZER, "schedule": "linear"}, total_steps=20)


def test_clipping_and_decay():
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}
    changes = {**OPTIMIZER, "schedule": "constant", "warmup_steps": 0, "learning_rate": 1.0, "momentum": 0.0}
    gradient = jax.tree.map(lambda x: jnp.full_like(x, 100.0), params)
    optimizer, _ = make_optimizer(**{**changes, "clip_norm": 1.0}, total_steps=1)
    update, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(np.sqrt(sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(update))), 1.0, rtol=1e-5)
    optimizer, _ = make_optimizer(**{**changes, "weight_decay": 0.1}, total_steps=1)
    update, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(update["kernel"], -0.3, rtol=1e-6)
    assert not update["bias"].any()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("name, more", [("gru", {"channels": (4,), "dense": 4}), ("melcnn", {}), ("audionet", {})])
def test_decay_spares_biases_and_scales_of_every_shape(name, more, algorithm):
    model = models.build(name=name, num_labels=10, rate_hz=8000, **more)
    audio = jnp.zeros((1, 256), jnp.int16)
    shapes = jax.eval_shape(model.init, jax.random.key(0), audio, jnp.full(1, 256, jnp.int32))["params"]
    params = jax.tree.map(lambda x: np.ones((1,) * (x.ndim - 1) + x.shape[-1:], np.float32), shapes)
    changes = {**OPTIMIZER, "schedule": "constant", "warmup_steps": 0, "learning_rate": 0.01, "weight_decay": 0.1}
    optimizer, _ = make_optimizer(**{**changes, "algorithm": algorithm}, total_steps=1)

    @jax.jit  # one program, not one for each operation
    def update_of(params):
        return optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)[0]

    with jax.numpy_dtype_promotion("standard"):
        update = update_of(params)
    names = set()
    for path, change in jax.tree_util.tree_leaves_with_path(update):
        names.add(path[-1].key)
        assert bool(change.any()) == (path[-1].key not in ("bias", "scale")), path
    assert {"bias", "kernel"} <= names


def test_adamw_is_optax_adamw_and_adam_is_not():
    params, gradient = {"kernel": jnp.full((2, 2), 3.0)}, {"kernel": jnp.full((2, 2), 5.0)}
    changes = {**OPTIMIZER, "schedule": "constant", "warmup_steps": 0, "learning_rate": 0.01, "weight_decay": 0.1}
    updates = {}
    with jax.numpy_dtype_promotion("standard"):
        for algorithm in ("adam", "adamw"):
            optimizer, _ = make_optimizer(**{**changes, "algorithm": algorithm}, total_steps=1)
            updates[algorithm] = optimizer.update(gradient, optimizer.init(params), params)[0]["kernel"]
        theirs = optax.adamw(0.01, b1=0.9, weight_decay=0.1)
        expected = theirs.update(gradient, theirs.init(params), params)[0]["kernel"]
    np.testing.assert_allclose(updates["adamw"], expected, rtol=1e-6)
    np.testing.assert_allclose(updates["adamw"], -0.01 - 0.01 * 0.1 * 3, rtol=1e-5)
    np.testing.assert_allclose(updates["adam"], -0.01, rtol=1e-5)  # the decay is scaled away with the gradient


def five_steps(num_devices, augment=QUIET, batch_size=8, decay=0.0, seen=None):
    mesh = make_mesh(num_devices)
    model = models.build(name="audionet", num_labels=10, rate_hz=8000)
    optimizer, schedule = make_optimizer(**{**OPTIMIZER, "learning_rate": 0.01}, total_steps=20)
    step = make_train_step(model, optimizer, schedule, loss=clip_loss(0.1), ema_decay=decay)
    augment_step, key = make_augment_step(make_augment(**augment)), jax.random.key(0)
    fresh = dict(seed=0, length_samples=256, num_outputs=10, averaged=decay > 0)
    state = replicate(create_state(model, optimizer, **fresh), mesh)
    for k in range(5):
        if seen is not None:
            seen.append(np.asarray(state.params["conv_0"]["kernel"]))
        batch = augment_step(shard_batch(batch_of(batch_size, seed=k), mesh), key, k)
        state, report = step(state, batch, key)
    evaluated = make_eval_step(model)(state.variables, shard_batch(batch_of(batch_size), mesh))
    return state, report, evaluated


@pytest.mark.slow
def test_one_device_and_two_agree():
    assert len(jax.devices()) == 2
    (one, report_one, eval_one), (two, report_two, eval_two) = five_steps(1, LOUD), five_steps(2, LOUD)
    assert len(jax.tree.leaves(two.params)[0].sharding.device_set) == 2
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves((two, report_two, eval_two)))  # each can save
    np.testing.assert_allclose(report_one.metrics.loss_sum, report_two.metrics.loss_sum, rtol=1e-5)
    np.testing.assert_allclose(eval_one.loss_sum, eval_two.loss_sum, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one.params, two.params)


@pytest.mark.slow
def test_the_average_of_the_parameters_is_what_is_used_and_changes_no_step():
    seen: list[np.ndarray] = []
    last = np.asarray(five_steps(1, seen=seen)[0].params["conv_0"]["kernel"])
    average, *later = [*seen, last]
    for done, params in enumerate(later):
        share = max(0.3, 9 / (10 + done))
        average = (1 - share) * average + share * params
    state = five_steps(1, decay=0.7)[0]
    np.testing.assert_array_equal(state.params["conv_0"]["kernel"], last)
    np.testing.assert_allclose(state.variables["params"]["conv_0"]["kernel"], average, rtol=1e-4, atol=1e-7)
    assert not np.allclose(average, last, rtol=1e-3)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="multiple of 2"):
        check_divisible(5, make_mesh(2))


@pytest.mark.slow
def test_eight_clips_are_learnt_by_heart():
    model = models.build(name="audionet", num_labels=10, rate_hz=8000)
    optimizer, schedule = make_optimizer(**{**OPTIMIZER, "learning_rate": 0.02}, total_steps=60)
    step = make_train_step(model, optimizer, schedule, loss=clip_loss(0.0), ema_decay=0.0)
    fresh = dict(seed=0, length_samples=256, num_outputs=10, averaged=False)
    state, batch = create_state(model, optimizer, **fresh), batch_of(8)
    for _ in range(60):
        state, report = step(state, batch, jax.random.key(0))
    assert report.metrics.summary()["accuracy"] == 1.0 and report.metrics.summary()["loss"] < 0.1


@pytest.mark.slow
def test_rows_of_mask_0_teach_nothing_and_count_nothing():
    model = models.build(name="audionet", num_labels=10, rate_hz=8000, batch_norm=False)
    optimizer, schedule = make_optimizer(**OPTIMIZER, total_steps=20)
    step = make_train_step(model, optimizer, schedule, loss=clip_loss(0.1), ema_decay=0.0)
    batch = batch_of(6)
    filled = {name: np.concatenate([value, value[:2]]) for name, value in batch.items()}
    filled["mask"][6:] = 0
    filled["label"][6:] = 7
    fresh = dict(seed=0, length_samples=256, num_outputs=10, averaged=False)
    results = [
        step(create_state(model, optimizer, **fresh), given, jax.random.key(0)) for given in (batch, Batch(**filled))
    ]
    (plain, report), (masked, masked_report) = results
    np.testing.assert_allclose(report.metrics.loss_sum, masked_report.metrics.loss_sum, rtol=1e-5)
    np.testing.assert_array_equal(report.metrics.confusion, masked_report.metrics.confusion)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain.params, masked.params)
