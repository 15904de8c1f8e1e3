"""Data augmentation on the device, a function of key and batch."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from audiojax.errors import InputError

Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
_Recorder = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (key, white noise, inside) -> noise


def make_augment(
    *,
    max_margin_samples: int,
    tempo: float,
    speed: float,
    max_offset_samples: int,
    gain_db: float,
    noise_snr_db: tuple[float, float],
    recorded_noise: float,
    filter_db: float,
    noises: Sequence[np.ndarray] = (),
) -> Augment:
    """Returns the augmentation of a batch of clips as a function (key, audio, length) -> (audio, length).

    `key` is a random key, `audio` is i16[B, T], or f32[B, T] at int16 scale (-32768 to 32767), zero right-padded, and
    `length` i32[B] is the number of samples of each clip without padding. The result is f32 at the same scale; without
    any augmentation `audio` is returned unchanged. The factors, gains and offsets are sampled for each clip. The
    padding stays silent. An argument of 0, or an empty range, disables its part of the augmentation.

    Args:
        max_margin_samples: Upper bound of the random margins before and after the word, in samples; the clip is
            cropped or zero-padded to these margins.
        tempo: Bound of the tempo perturbation at constant pitch: a factor in [1 / (1 + tempo), 1 + tempo], limited by
            the length of the batch.
        speed: Bound of the speed perturbation by resampling, which also shifts pitch and formants: a factor in
            [1 / (1 + speed), 1 + speed].
        max_offset_samples: Upper bound of the random silence before the clip, in samples.
        gain_db: Bound of the random gain, in dB: [-gain_db, gain_db].
        noise_snr_db: Range of the signal-to-noise ratio of added noise, in dB; none is added for an empty range.
        recorded_noise: Share of the clips whose noise is a random part of a recording; that of the others is white.
        filter_db: Bound of the gains of a random equaliser that simulates another microphone: nine gains in dB, in
            [-filter_db, filter_db], interpolated linearly over the square root of frequency.
        noises: The recordings of noise, i16[t] each; all are chosen with the same probability.

    Raises:
        InputError: `recorded_noise` is above 0 without a recording.
    """
    parts: list[Augment] = []
    if max_margin_samples:
        parts.append(functools.partial(_margins, max_margin_samples=max_margin_samples, speed=speed))
    if gain_db:
        parts.append(functools.partial(_gain, gain_db=gain_db))
    if noise_snr_db[0] < noise_snr_db[1]:
        recorded = _recorder(recorded_noise, noises)
        parts.append(functools.partial(_noise, range_db=noise_snr_db, recorded=recorded))
    if filter_db:
        parts.append(functools.partial(_filter, filter_db=filter_db))
    if tempo:
        parts.append(functools.partial(_tempo, tempo=tempo))
    if speed or max_offset_samples:
        parts.append(functools.partial(_shift_and_speed, speed=speed, max_offset_samples=max_offset_samples))

    def augment(key: jax.Array, audio: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Augments `audio` [B, T] at int16 scale with `length` i32[B]; returns [B, T] and i32[B]."""
        audio = audio.astype(jnp.float32) if parts else audio
        for part, part_key in zip(parts, jax.random.split(key, max(len(parts), 1)), strict=False):
            audio, length = part(part_key, audio, length)
        return audio, length

    return augment


def _factor(key: jax.Array, num_rows: int, change: float) -> jax.Array:
    """Samples f32[num_rows] in [1 / (1 + change), 1 + change], log-uniformly."""
    bound = jnp.log1p(change)
    return jnp.exp(jax.random.uniform(key, (num_rows,), minval=-bound, maxval=bound))


def _new_length(length: jax.Array, factor: jax.Array, num_samples: int) -> jax.Array:
    """Returns i32[B], the length after a change of speed by `factor`, at most `num_samples`."""
    return jnp.clip(jnp.ceil(length.astype(jnp.float32) / factor).astype(jnp.int32), 1, num_samples)


def _margins(
    key: jax.Array, audio: jax.Array, length: jax.Array, *, max_margin_samples: int, speed: float
) -> tuple[jax.Array, jax.Array]:
    """Samples the margins before and after the word.

    The word extends over all blocks of 80 samples within 30 dB of the loudest. The margins are limited so that the clip
    fits into the batch also at the lowest speed.
    """
    num_rows, num_samples = audio.shape
    blocks = jnp.pad(audio, ((0, 0), (0, -num_samples % 80))).reshape(num_rows, -1, 80)
    power = jnp.mean(jnp.square(blocks), axis=2)
    loud = power >= 1e-3 * jnp.max(power, axis=1, keepdims=True)
    first = 80 * jnp.argmax(loud, axis=1).astype(jnp.int32)
    end = jnp.minimum(80 * (loud.shape[1] - jnp.argmax(loud[:, ::-1], axis=1).astype(jnp.int32)), length)
    margins = jax.random.uniform(key, (2, num_rows), maxval=float(max_margin_samples))
    room = jnp.maximum(int(num_samples / (1 + speed)) - (end - first), 0).astype(jnp.float32)
    fits = jnp.minimum(1.0, room / jnp.maximum(margins.sum(axis=0), 1.0))
    margins = jnp.floor(margins * fits[None, :])
    before, behind = margins.astype(jnp.int32)
    begin, time = first - before, jnp.arange(num_samples, dtype=jnp.int32)[None, :]
    new_length = end + behind - begin
    return jnp.where(time < new_length[:, None], _at(time + begin[:, None], audio, length), 0.0), new_length


def _tempo(key: jax.Array, audio: jax.Array, length: jax.Array, *, tempo: float) -> tuple[jax.Array, jax.Array]:
    """Changes the tempo by overlap-add of windows of 256 samples (32 ms at 8 kHz)."""
    num_rows, num_samples = audio.shape
    factor = jnp.maximum(_factor(key, num_rows, tempo), length.astype(jnp.float32) / num_samples)
    new_length, hop = _new_length(length, factor, num_samples), 128
    time = jnp.arange(num_samples, dtype=jnp.int32)[None, :]
    fade = jnp.square(jnp.sin(jnp.pi / 2 / hop * (time % hop).astype(jnp.float32)))

    def window(number: jax.Array) -> jax.Array:
        shift = jnp.round((factor[:, None] - 1) * (hop * number).astype(jnp.float32)).astype(jnp.int32)
        return _at(time + shift, audio, length)

    mixed = window(time // hop) * (1 - fade) + window(time // hop + 1) * fade
    return jnp.where(time < new_length[:, None], mixed, 0.0), new_length


def _at(index: jax.Array, audio: jax.Array, length: jax.Array) -> jax.Array:
    """Returns the samples of each row at `index` i32[B, T], 0 outside the clip."""
    inside = (index >= 0) & (index < length[:, None])
    return jnp.where(inside, jnp.take_along_axis(audio, jnp.clip(index, 0, audio.shape[1] - 1), axis=1), 0.0)


def _shift_and_speed(
    key: jax.Array, audio: jax.Array, length: jax.Array, *, speed: float, max_offset_samples: int
) -> tuple[jax.Array, jax.Array]:
    """Changes speed and offset by linear interpolation."""
    num_rows, num_samples = audio.shape
    speed_key, offset_key = jax.random.split(key)
    factor = _factor(speed_key, num_rows, speed)
    new_length = _new_length(length, factor, num_samples)
    room = jnp.minimum(num_samples - new_length, max_offset_samples)
    start = jax.random.randint(offset_key, (num_rows,), 0, room + 1)
    position = (jnp.arange(num_samples)[None, :] - start[:, None]).astype(jnp.float32) * factor[:, None]
    left = jnp.floor(position).astype(jnp.int32)
    fraction = position - left.astype(jnp.float32)
    # The length of a shifted clip includes the silence before it.
    return _at(left, audio, length) * (1 - fraction) + _at(left + 1, audio, length) * fraction, start + new_length


def _gain(key: jax.Array, audio: jax.Array, length: jax.Array, *, gain_db: float) -> tuple[jax.Array, jax.Array]:
    gain = jax.random.uniform(key, (audio.shape[0], 1), minval=-gain_db, maxval=gain_db)
    return audio * 10.0 ** (gain / 20.0), length


def _noise(
    key: jax.Array,
    audio: jax.Array,
    length: jax.Array,
    *,
    range_db: tuple[float, float],
    recorded: _Recorder | None,
) -> tuple[jax.Array, jax.Array]:
    """Adds noise at a random ratio to the mean power of the clip: white, or in some rows a recording, by `recorded`.

    The padding stays silent as in evaluation; noise there would change the statistics of BatchNorm.
    """
    snr_key, noise_key = jax.random.split(key)
    snr_db = jax.random.uniform(snr_key, (audio.shape[0], 1), minval=range_db[0], maxval=range_db[1])
    power = jnp.sum(audio**2, axis=1, keepdims=True) / length[:, None].astype(jnp.float32)
    noise, inside = jax.random.normal(noise_key, audio.shape), jnp.arange(audio.shape[1])[None, :] < length[:, None]
    if recorded:
        noise = recorded(jax.random.fold_in(key, 2), noise, inside)
    noise = noise * jnp.sqrt(power) * 10.0 ** (-snr_db / 20.0)
    return jnp.where(inside, audio + noise, audio), length


def _recorder(share: float, noises: Sequence[np.ndarray]) -> _Recorder | None:
    """Returns `_recorded` of a share of the rows, None for a share of 0; raises InputError without recordings."""
    noises = [noise for noise in noises if len(noise)]
    if share and not noises:
        raise InputError(
            f"config.augment.recorded_noise is {share:g}, but the data has no recordings of background noise; "
            "choose 0, or a source that has them, such as speech_commands."
        )
    return functools.partial(_recorded, noises=noises, share=share) if share else None


def _recorded(
    key: jax.Array, white: jax.Array, inside: jax.Array, *, noises: Sequence[np.ndarray], share: float
) -> jax.Array:
    """Replaces a share of the rows of `white` f32[B, T] by random parts of `noises`, i16[t] each.

    Each part is scaled to a mean power of 1 over the samples where `inside` bool[B, T] is true; a part that is digital
    silence stays silent. A recording that ends within a part is repeated from its start.
    """
    num_rows, num_samples = white.shape
    which_key, start_key, share_key = jax.random.split(key, 3)
    samples, sizes = jnp.asarray(np.concatenate(noises)), np.asarray([len(noise) for noise in noises], np.int32)
    starts = np.cumsum(sizes, dtype=np.int32) - sizes
    which = jax.random.randint(which_key, (num_rows,), 0, len(noises))
    size, first = jnp.asarray(sizes)[which][:, None], jnp.asarray(starts)[which][:, None]
    start = jax.random.randint(start_key, (num_rows, 1), 0, size)
    sound = samples[first + (start + jnp.arange(num_samples)[None, :]) % size].astype(jnp.float32)
    inside = inside.astype(jnp.float32)
    power = jnp.sum(sound**2 * inside, axis=1, keepdims=True) / jnp.sum(inside, axis=1, keepdims=True)
    sound = sound / jnp.sqrt(jnp.maximum(power, 1e-3))
    return jnp.where(jax.random.uniform(share_key, (num_rows, 1)) < share, sound, white)


def _filter(key: jax.Array, audio: jax.Array, length: jax.Array, *, filter_db: float) -> tuple[jax.Array, jax.Array]:
    """Applies a zero-phase filter; its nine frequencies are denser at low frequencies."""
    num_rows, num_samples = audio.shape
    response_db = jax.random.uniform(key, (num_rows, 9), minval=-filter_db, maxval=filter_db)
    place = 8 * jnp.sqrt(jnp.linspace(0.0, 1.0, num_samples // 2 + 1))
    # Weights of linear interpolation between the nine frequencies.
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(jnp.arange(9.0)[:, None] - place[None, :]))
    response = jax.lax.complex(10.0 ** (response_db @ weights / 20.0), 0.0)
    filtered = jnp.fft.irfft(jnp.fft.rfft(audio) * response, num_samples)
    return jnp.where(jnp.arange(num_samples)[None, :] < length[:, None], filtered, 0.0), length
