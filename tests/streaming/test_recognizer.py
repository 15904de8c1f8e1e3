"""The recogniser: the same sound gives the same events for any chunking, rate and company, and for ever."""

import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import models
from audiojax.audio import resample
from audiojax.audio.lead import LEAD_STEPS, lead
from audiojax.audio.resample import Resampler
from audiojax.audio.signal import mono_samples
from audiojax.errors import InputError
from audiojax.inference import PACKAGED, Trained
from audiojax.streaming import operating_points, recognizer, scoring
from audiojax.streaming.decoder import Decoder, Event
from audiojax.streaming.operating_points import NAMES as NAMES_OF_POINTS
from audiojax.streaming.operating_points import Point
from audiojax.streaming.recognizer import Recognizer, Recognizers

NAMES = ("x", "y", "z")
EAGER = Decoder(threshold=0.34, ema_decay=0.5)  # so that a network that learnt nothing says something


@pytest.fixture(scope="module")
def net():
    model = models.build(
        name="gru", num_labels=3, rate_hz=8000, features=16, num_layers=2, normalise="running", readout="last",
        stack_frames=2, channels=(4, 5), dense=12, task="streams",
    )  # fmt: skip
    audio = np.random.default_rng(0).normal(0, 3000, (2, 8000)).astype(np.int16)
    variables = jax.jit(model.init)(jax.random.key(0), audio, np.full(2, 8000, np.int32))
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    _, moved = apply(variables, audio, np.full(2, 8000, np.int32))
    params = variables["params"]
    louder = {**params, "logits": jax.tree.map(lambda x: 40 * x, params["logits"])}
    return model, {"params": louder, **moved}


@functools.cache
def sound(seconds: float = 6.0, seed: int = 1) -> np.ndarray:
    """i16[t]: bursts of coloured noise, by which even a network that learnt nothing changes its mind."""
    rng = np.random.default_rng(seed)
    parts = [
        rng.normal(0, 10 ** rng.uniform(0, 4), 2400) if rng.random() < 0.5 else np.cumsum(rng.normal(0, 99, 2400))
        for _ in range(round(seconds / 0.3))
    ]
    made = np.clip(np.concatenate(parts), -32768, 32767).astype(np.int16)
    made.setflags(write=False)  # the tests share it
    return made


def recognizers(net, num_streams: int = 1) -> Recognizers:
    return Recognizers(*net, NAMES, num_streams, rate_hz=8000, decoder=EAGER)


def alike(heard: list[Event], expected: list[Event]) -> bool:
    """The same words at the same steps; probabilities and times to the order of float32 sums."""
    assert [event[:1] + event[3:4] for event in heard] == [event[:1] + event[3:4] for event in expected]
    np.testing.assert_allclose([event[1:] for event in heard], [event[1:] for event in expected], atol=2e-3)
    return True


def whole(net, audio: np.ndarray, rate_hz: int = 8000) -> list[Event]:
    one = Recognizer(recognizers(net))
    return one.feed(audio, rate_hz) + one.flush()


@pytest.mark.parametrize("chunk_samples", [1, 7, 80, 441, 8000])
@pytest.mark.slow
def test_chunks_of_any_size_give_the_same_events(net, chunk_samples):
    audio = sound(2.4)
    expected, one, heard = whole(net, audio), Recognizer(recognizers(net)), []
    assert len(expected) >= 3
    for start in range(0, len(audio), chunk_samples):
        heard += one.feed(audio[start : start + chunk_samples])
    assert heard + one.flush() == expected


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.slow
def test_other_rates_give_the_same_events_however_they_are_cut(net, rate_hz):
    audio = Resampler(8000, rate_hz).feed(sound().astype(np.float32) / 32768)
    expected, one, heard, rng, at = (
        whole(net, audio, rate_hz),
        Recognizer(recognizers(net)),
        [],
        np.random.default_rng(0),
        0,
    )
    assert len(expected) >= 3
    while at < len(audio):
        size = int(rng.integers(1, 3000))
        heard += one.feed(audio[at : at + size], rate_hz)
        at += size
    assert heard + one.flush() == expected


@pytest.mark.slow
def test_each_stream_has_the_sensitivity_that_was_set_until_it_ends(net):
    points = {"low": Point(1.0, 0.0, 1.0), "normal": Point(0.34, 1.0, 0.5), "high": Point(0.3, 9.0, 0.1)}
    many = Recognizers(*net, NAMES, 2, rate_hz=8000, decoder=EAGER, points=points)
    usual, strict = many.connect(), many.connect()
    many.set_sensitivity(strict, "low")
    many.reset(strict)  # which begins another sound of the same stream
    for slot in (usual, strict):
        many.push(slot, sound(3.0))
    assert {slot for slot, _ in many.advance()} == {usual}
    many.leave(strict)
    many.push(many.connect(), sound(3.0))
    assert {slot for slot, _ in many.advance()} == {strict}
    with pytest.raises(InputError, match="the sensitivity is 'loud'; choose one of low, normal, high"):
        many.set_sensitivity(usual, "loud")
    with pytest.raises(InputError, match=r"operating_points\.json.* 0\.34"):
        recognizers(net, 2).set_sensitivity(0, "low")


@pytest.mark.slow
def test_operating_points_are_of_the_parameters_that_they_were_measured_with(net, tmp_path):
    points = {name: Point(0.3 + place / 10, 10.0 / (1 + place), 0.1) for place, name in enumerate(NAMES_OF_POINTS)}
    operating_points.write(tmp_path, net[1], points, "a test")
    assert operating_points.read(tmp_path, net[1]) == points == operating_points.read(tmp_path)
    other = jax.tree.map(lambda x: x + 1, net[1])
    assert operating_points.read(tmp_path, other) == operating_points.read(tmp_path / "none", net[1]) == {}
    (tmp_path / operating_points.FILE).write_text('{"points": {"low": {}}}')
    with pytest.raises(InputError, match=r"operating_points\.json is damaged"):
        operating_points.read(tmp_path, net[1])


def test_the_packaged_points_lie_on_a_curve_and_are_of_the_packaged_parameters():
    run = Trained.packaged()
    points = operating_points.read(PACKAGED, run.variables)
    low, normal, high = (points[name] for name in NAMES_OF_POINTS)
    assert low.threshold > normal.threshold > high.threshold
    assert run.config.decoder.threshold in {point.threshold for point in points.values()}
    assert low.false_events_per_hour < normal.false_events_per_hour < high.false_events_per_hour
    assert low.digit_error_rate > high.digit_error_rate


@pytest.mark.slow
def test_events_are_those_of_the_whole_sound_at_once(net):
    audio = sound()
    audio = audio[: len(audio) // 160 * 160]
    said = scoring.network_outputs(*net, [audio, audio[: 160 * 40]])
    expected = scoring.events(EAGER, said, NAMES, 0.02)
    heard = Recognizer(recognizers(net)).feed(audio)
    assert len(heard) >= 3 and alike(heard, expected[0])
    assert all(event.start_seconds <= event.end_seconds <= event.emitted_seconds for event in heard)


@pytest.mark.slow
def test_streams_do_not_hear_each_other_and_come_and_go_without_compiling(net):
    many, sounds = recognizers(net, 4), [sound(3.0, seed) for seed in range(6)]
    expected = [whole(net, audio) for audio in sounds]
    programs = recognizer._advance._cache_size()
    first, second = many.connect(), many.connect()
    heard: dict[int, list[Event]] = {first: [], second: []}
    for start in range(0, 24_000, 700):
        many.push(first, sounds[0][start : start + 700])
        many.push(second, sounds[1][start : start + 700])
        for slot, event in many.advance():
            heard[slot].append(event)
    assert alike(heard[first] + many.flush(first), expected[0])
    many.leave(first)
    third, fourth, fifth = many.connect(), many.connect(), many.connect()
    assert many.connect() is None and third == first
    for slot, audio in zip((third, fourth, fifth), sounds[2:5], strict=True):
        many.push(slot, audio)
    late = many.advance()
    for slot, answer in zip((third, fourth, fifth), expected[2:5], strict=True):
        assert alike([event for of, event in late if of == slot] + many.flush(slot), answer)
    assert alike(heard[second] + many.flush(second), expected[1])
    assert recognizer._advance._cache_size() == programs


@pytest.mark.slow
def test_the_end_of_one_stream_loses_no_word_of_another(net):
    many, sounds = recognizers(net, 2), [sound(3.0, seed) for seed in (0, 1)]
    first, second = many.connect(), many.connect()
    for slot, audio in zip((first, second), sounds, strict=True):
        many.push(slot, audio)
    assert alike(many.flush(first), whole(net, sounds[0]))
    assert alike([event for _, event in many.advance()] + many.flush(second), whole(net, sounds[1]))


@pytest.mark.slow
def test_the_probabilities_are_those_of_the_last_step(net):
    many, one, block = recognizers(net, 2), Recognizer(recognizers(net)), 160 * recognizer.STEPS
    slot = many.connect()
    for start in range(0, 30 * block, block):
        audio = sound()[start : start + block]
        many.push(slot, audio)
        many.advance()
        one.feed(audio)
        np.testing.assert_allclose(many.probabilities[slot], one.probabilities, atol=2e-3)
    assert many.seconds(slot) == one.seconds == 3


@pytest.mark.slow
def test_a_reset_forgets_all(net):
    one, audio = Recognizer(recognizers(net)), sound()
    first = one.feed(audio) + one.flush()
    one.reset()
    assert one.seconds == 0
    assert one.feed(audio) + one.flush() == first


@pytest.mark.slow
def test_memory_does_not_grow(net):
    many = recognizers(net)
    slot = many.connect()
    for _ in range(50):
        many.push(slot, np.zeros(12_345, np.int16), 44_100)
        many.advance()
    held = many._stream(slot)
    assert held.num_waiting < 160 and len(held.waiting) == 1 and len(held.resampler._kept) < 2000


@pytest.mark.slow
def test_what_cannot_be_heard_is_refused_or_made_harmless(net):
    one = Recognizer(recognizers(net))
    with pytest.raises(InputError, match=r"\b5 Hz.*\b1000\b.*\b768000\b"):
        one.feed(np.zeros(9, np.int16), 5)
    one.feed(np.asarray([np.nan, np.inf, -np.inf, 2.0] * 200, np.float32), 16_000)
    assert np.isfinite(one.probabilities).all()
    with pytest.raises(InputError, match=r"\b16000 Hz.*\b8000 Hz"):
        one.feed(np.zeros(9, np.int16), 8000)


def same(net, chunks, expected, rate_hz=None) -> None:
    one = Recognizer(recognizers(net))
    assert [event for chunk in chunks for event in one.feed(chunk, rate_hz)] + one.flush() == expected


@pytest.mark.slow
def test_a_buffer_that_the_caller_fills_again_is_not_kept(net):
    audio = sound(2.4)
    expected = whole(net, audio)
    assert len(expected) >= 3

    def filled(dtype, channels):
        buffer = np.empty((250, channels) if channels else 250, dtype)
        for start in range(0, len(audio) - 249, 250):
            chunk = audio[start : start + 250]
            buffer.T[...] = chunk if dtype == np.int16 else chunk / np.float32(32768)
            yield buffer
            buffer[...] = 0
        yield audio[start + 250 :]

    for dtype, channels in ((np.int16, 0), (np.int16, 1), (np.float32, 0)):
        same(net, filled(dtype, channels), expected)


@pytest.mark.slow
def test_probabilities_that_are_kept_do_not_change(net):
    one = Recognizer(recognizers(net))
    kept = one.probabilities
    one.feed(sound(1.2))
    assert kept[-1] == 1 and not np.array_equal(kept, one.probabilities)


@pytest.mark.parametrize("leave", [True, False])
@pytest.mark.slow
def test_the_next_user_of_a_slot_gets_no_event_of_the_one_before(net, leave):
    many = recognizers(net, 2)
    first, second = many.connect(), many.connect()
    for slot in (first, second):
        many.push(slot, sound(3.0))
    assert many.flush(first)  # which hears the second one's sound too
    if leave:
        many.leave(second)
        assert many.connect() == second
    else:
        many.reset(second)
    assert many.advance() == []


@pytest.mark.slow
def test_recognizers_of_several_streams_do_not_take_each_others_events(net):
    many, sounds = recognizers(net, 2), [sound(3.0, seed) for seed in (0, 1)]
    pair = [Recognizer(many), Recognizer(many)]
    many.push(pair[1]._slot, sounds[1])
    heard = [one.feed(audio) for one, audio in zip(pair, (sounds[0], sounds[1][:0]), strict=True)]
    for one, events, audio in zip(pair, heard, sounds, strict=True):
        assert alike(events + one.flush(), whole(net, audio))


FORMS = {
    "column": lambda x: x[:, None],
    "stereo": lambda x: np.stack([x, x], 1),
    "fortran": lambda x: np.asfortranarray(np.stack([x] * 3, 1)),
    "two channels, of which one is silent": lambda x: np.stack([x / 16384, 0 * x], 1),
    "stereo of floats": lambda x: np.stack([x, x], 1) / np.float32(32768),
    ">i2": lambda x: x.astype(">i2"),
    ">f4": lambda x: (x / 32768).astype(">f4"),
    "float64": lambda x: x / 32768,
    "int32": lambda x: x.astype(np.int32) << 16,
    ">i4": lambda x: (x.astype(np.int32) << 16).astype(">i4"),
    "uint16": lambda x: (x.astype(np.int32) + 32768).astype(np.uint16),
    "uint32": lambda x: (x.astype(np.int64) + 32768 << 16).astype(np.uint32),
    "int64": lambda x: x.astype(np.int64) << 48,
    "list": lambda x: (x / 32768).tolist(),
    "list of frames": lambda x: (np.stack([x, x], 1) / 32768).tolist(),
    "every other one": lambda x: np.repeat(x, 2)[::2],
    "jax": lambda x: jax.numpy.asarray(x),
    "read only": lambda x: np.frombuffer(x.tobytes(), np.int16),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
def test_sound_of_any_shape_and_type_gives_the_same_events(net, form):
    audio = sound(2.4)
    expected = whole(net, audio)
    same(net, [FORMS[form](audio[start : start + 1000]) for start in range(0, len(audio), 1000)], expected)


def test_coarse_types_are_scaled_by_their_range():
    loud = np.asarray([-128, -64, 0, 64, 127])
    expected = loud.astype(np.float32) / 128
    for audio in (loud.astype(np.int8), (loud + 128).astype(np.uint8), expected.astype(np.float16)):
        np.testing.assert_array_equal(mono_samples(audio), expected)


@pytest.mark.parametrize("rate_hz", [8000.0, np.int16(8000), np.float32(8000), np.asarray(8000), np.uint64(8000)])
@pytest.mark.slow
def test_a_whole_rate_of_any_type_is_taken(net, rate_hz):
    audio = sound(2.4)
    same(net, [audio[:999], audio[999:]], whole(net, audio), rate_hz)


BAD_RATES = [0, 0.0, -8000, float("nan"), float("inf"), 44_100.5, True, np.True_, "8000", b"8000", 10**30, 999, 768_001,
             8000j, [8000], (), {}, np.asarray([8000]), np.datetime64(1, "s"), object()]  # fmt: skip
BAD_SAMPLES = [
    b"\0\0" * 9, bytearray(8), memoryview(bytes(8)), "sound", None, {}, 0.5, np.float32(0.5), [[1.0], [1.0, 2.0]],
    [None], ["1"], object(), np.zeros(9, bool), np.zeros(9, complex), np.zeros(9, object), np.zeros((2, 4410)),
    np.zeros((9, 0)), np.zeros((9, 2, 1)), np.zeros((), np.int16), np.zeros(9, "datetime64[s]"), np.zeros(9, "i2,i2"),
    np.full(9, 3000, np.float32), np.full((9, 2), -9.0), np.full(9, 1e300),
    np.full(9, 3000, np.int64), [0, 3000, -3000],
]  # fmt: skip


@pytest.mark.slow
def test_what_is_no_sound_or_rate_is_one_sentence_and_leaves_the_stream_as_it_was(net):
    audio, one = sound(2.4), Recognizer(recognizers(net))
    expected = whole(net, audio)
    for rate_hz in BAD_RATES:
        with pytest.raises(InputError, match=r" Hz.*\b1000\b"):
            one.feed(audio, rate_hz)
    for samples in BAD_SAMPLES:
        with pytest.raises(InputError, match=r"\bsamples\b.*\.$"):
            one.feed(samples, 44_100)  # nor is the rate kept
    heard = one.feed(audio[:1234])
    for samples in BAD_SAMPLES:
        with pytest.raises(InputError):
            one.feed(samples)
    assert heard + one.feed(audio[1234:]) + one.flush() == expected


@pytest.mark.slow
def test_no_rate_takes_much_memory_or_a_filter_of_its_own(net):
    resample._kernel.cache_clear()
    one = Recognizer(recognizers(net))
    tracemalloc.start()
    for rate_hz in (44_101, 767_999, 44_101, 1009, 47_999, 8001, 767_999, 44_101):
        one.feed(np.zeros(1 + rate_hz // 100, np.int16), rate_hz)
        one.reset()
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()
    assert resample._kernel.cache_info()[:2] == (3, 5)  # hits, misses
    for rate_hz in range(1000, 768_001, 7919):
        taps = resample._kernel(*(int(x) for x in np.asarray([8000, rate_hz]) // np.gcd(8000, rate_hz))).taps
        assert taps.size <= resample.Resampler.MAX_TAPS


def test_a_run_that_does_not_listen_is_refused(trained_run):
    with pytest.raises(InputError, match=r"config\.model\.name.*'audionet'.*--config configs/listen\.py"):
        Recognizers.from_workdir(trained_run)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [160, 999, 48_000])
def test_a_stream_begins_as_after_half_a_second_of_faint_noise(net, chunk):
    """A sound that begins at once has the events that it has later."""
    model, variables = net
    audio = sound()
    with_lead = jnp.asarray(np.concatenate([lead(LEAD_STEPS * model.step_samples), audio[:32_000]]))[None]
    carry = model.apply(variables, 1, method="initial_carry")
    _, expected = jax.jit(functools.partial(model.apply, method="listen"))(variables, carry, with_lead)
    [outputs] = scoring.network_outputs(model, variables, [audio[:32_000]])
    np.testing.assert_allclose(outputs, expected[0, LEAD_STEPS:], atol=1e-3)
    [events] = scoring.events(EAGER, [outputs], NAMES, 0.02)
    one = Recognizer(recognizers(net))
    found = [event for at in range(0, 32_000, chunk) for event in one.feed(audio[at : min(at + chunk, 32_000)])]
    assert len(found) > 3 and alike(found, events)


@pytest.mark.slow
def test_a_network_that_counts_gives_as_many_events(net):
    """The same in batches and in a stream; apart from their number, the events are those without counts."""
    model, variables = net
    one = scoring.events(EAGER, scoring.network_outputs(model, variables, [sound()]), NAMES, 0.02)[0]
    counting, params = model.clone(counts=True), variables["params"]
    wish = {"kernel": np.zeros((16, 2), np.float32), "bias": np.float32([3, -3])}  # two, never three
    variables = {**variables, "params": {**params, "more": wish}}
    outputs = scoring.network_outputs(counting, variables, [sound()])
    [twice] = scoring.events(EAGER, outputs, NAMES, 0.02)
    assert len(one) > 3 and [event.label for event in twice] == [event.label for event in one for _ in range(2)]
    stream = Recognizer(Recognizers(counting, variables, NAMES, 2, rate_hz=8000, decoder=EAGER))
    assert alike(stream.feed(sound()), twice)
    three = {**variables, "params": {**params, "more": wish | {"bias": np.float32([3, 3])}}}
    [thrice] = scoring.events(EAGER, scoring.network_outputs(counting, three, [sound()]), NAMES, 0.02)
    assert len(thrice) == 3 * len(one)


def said_of(*labels: int) -> np.ndarray:
    """f32[1, n, 6]: what a network says that is sure at each step of one of NAMES, or of none (3)."""
    said = np.full((1, len(labels), 6), -9.0, np.float32)
    said[0, np.arange(len(labels)), labels] = 9.0
    said[..., -2:] = (0.5, 0.1)
    return said


@pytest.mark.parametrize(
    "labels, expected",
    [
        ([3] * 5 + [1] * 8 + [3] * 9, "y"),
        ([3] * 5 + [1] * 8 + [3] * 9 + [1] * 8 + [3] * 3, "yy"),
        ([3] * 5 + [1] * 4 + [3] + [1] * 4 + [3] * 9, "y"),  # a moment's doubt is no second word
        ([3] * 5 + [1] * 3 + [2] * 4 + [3] * 9, "y"),  # nor is a change of mind
        ([3] * 5 + [1] + [3] * 9, ""),
        ([3] * 20, ""),
    ],
)
def test_a_word_is_said_once(labels, expected):
    [found] = scoring.events(Decoder(), list(said_of(*labels)), NAMES, 0.02)
    assert "".join(event.label for event in found) == expected
    for event in found:
        assert event.end_seconds == pytest.approx(event.emitted_seconds - 0.1, abs=1e-3)
        assert event.start_seconds == pytest.approx(max(0, event.emitted_seconds - 0.5), abs=1e-3)
