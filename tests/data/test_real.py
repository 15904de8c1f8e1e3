"""Real recordings: how they are listed and split, and how the recogniser is scored on them."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import soundfile
from conftest import ROOT, tone

from audiojax import cli
from audiojax.data import loading, real
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.streaming import training_streams
from audiojax.streaming.decoder import Decoder
from audiojax.streaming.report import StreamEvaluator
from audiojax.synthesis.formant import synthesise
from audiojax.synthesis.phonemes import DIGITS
from audiojax.synthesis.voices import NEUTRAL
from experiments.streaming import choose_points, evaluate, real_scenes, real_sound, room_halves
from experiments.streaming.real_scenes import Row

KEYS = (*real.COLUMNS, "seconds", "licence")


def write_list(root, rows):
    with open(root / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, KEYS, restval="")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits and words of the same twelve people, one person's digits, reading, rooms and noise; and judge rows."""
    root, rows = tmp_path_factory.mktemp("real"), []

    def add(source, sound, label, use="train", speaker="", kind="digit", gain=""):
        path = f"{source}/{len(rows):05d}.wav"
        (root / source).mkdir(exist_ok=True)
        soundfile.write(root / path, sound, 16_000)
        row = {
            "file": path,
            "use": use,
            "kind": kind,
            "label": label,
            "speaker": speaker,
            "source": source,
            "gain": gain,
        }
        rows.append(row)

    rng = np.random.default_rng(0)
    spoken = {word: np.pad(0.3 * synthesise(word, NEUTRAL, rng), 800) for word in DIGITS}
    hiss = lambda seconds: 0.01 * rng.standard_normal(int(16_000 * seconds))  # noqa: E731
    for person in range(12):
        add("speech_commands", spoken[DIGITS[person % 10]], DIGITS[person % 10], speaker=f"sc_{person}")
        add("speech_commands_words", hiss(0.5), "word", speaker=f"{person}", kind="speech")
        add("librispeech", hiss(0.5), "reading", speaker=f"reader {person}", kind="speech")
    for word in DIGITS:
        for _ in range(2):
            add("sai004", spoken[word], word, speaker="one")
    for _ in range(6):
        add("rooms", hiss(2.2), "room", kind="noise", gain="10")
        add("esc10", hiss(1), "rain", kind="noise")
    add("class_a", spoken["five"], "five", use="judge", speaker="a")
    said = np.concatenate([spoken["two"], spoken["two"], spoken["zero"]])
    add("phone_numbers", said, "double two oh", use="judge", speaker="b", kind="string")
    add("phone_numbers", hiss(1), "spelled name", use="judge", speaker="b", kind="speech")
    write_list(root, rows)
    return root


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(real_scenes, "NUM_SCENES", 3)
    monkeypatch.setattr(real_scenes, "NUM_STRINGS", 4)


def test_nobody_is_on_both_sides_also_under_two_names(folder):
    parts = [real.load(folder, part, real_sound.cached) for part in real.PARTS]
    people = []
    for part in parts:
        of = [(part.digits, part.digit_indices), (part.speech, part.speech_indices)]
        people.append({str(name).removeprefix("sc_") for clips, indices in of for name in clips.speaker[indices]})
    several = {str(person) for person in range(12)} | {f"reader {person}" for person in range(12)}
    assert people[0] & people[1] == {"one"} and several <= people[0] | people[1]  # "one" is a whole corpus
    assert people[1] & {str(person) for person in range(12)} and people[1] & {
        f"reader {person}" for person in range(12)
    }
    for clips, name in ((parts[0].digits, "digit"), (parts[0].speech, "speech"), (parts[0].noise, "noise")):
        sides = [set(getattr(part, f"{name}_indices").tolist()) for part in parts]
        assert not sides[0] & sides[1] and sides[0] | sides[1] == set(range(len(clips)))


def test_a_corpus_of_one_speaker_or_none_holds_out_its_last_files(folder):
    of = real.load(folder, "validation", real_sound.cached)
    one = [of.digits.path[i] for i in of.digit_indices if of.digits.path[i].startswith("sai004")]
    assert len(one) == 10 and {DIGITS[of.digits.label[of.digits.path.index(path)]] for path in one} == set(DIGITS)
    rooms = [of.noise.path[i] for i in of.noise_indices if of.noise.path[i].startswith("rooms")]
    assert rooms == sorted(path for path in of.noise.path if path.startswith("rooms"))[-2:]
    index = of.noise.path.index(rooms[0])
    quiet = real.recorded_level(of, of.noise, index)
    assert np.abs(quiet - of.noise[index] / 10).max() <= 0.5


def test_a_file_without_a_word_is_in_neither_part(folder, monkeypatch, tmp_path):
    def digits() -> list[set[str]]:
        parts = [real.load(folder, part, real_sound.cached) for part in real.PARTS]
        return [{of.digits.path[i] for i in of.digit_indices} for of in parts]

    before = digits()
    listed = {sorted(part)[0]: "a click" for part in before}
    (tmp_path / "without.json").write_text(json.dumps(listed))
    monkeypatch.setattr(real, "WITHOUT_WORD", tmp_path / "without.json")
    assert len(listed) == 2 and digits() == [part - set(listed) for part in before]


def test_each_half_of_the_rooms_is_held_out_from_training_on_the_other(folder):
    def rooms(part: str, which: str) -> set[str]:
        of = real.load(folder, part, real_sound.cached, which)
        return {of.noise.path[i] for i in of.noise_indices if of.noise.path[i].startswith("rooms")}

    every = rooms("train", "train") | rooms("validation", "train")
    assert rooms("train", "none") == set() and rooms("validation", "none") == every
    assert rooms("train", "first") == rooms("validation", "second") == set(sorted(every)[:3])
    assert rooms("train", "second") == rooms("validation", "first") == set(sorted(every)[3:])


@pytest.mark.slow
def test_rooms_by_halves_score_every_file_once_by_a_run_of_the_other_half(folder, trained_run):
    runs = [Trained.packaged() for _ in room_halves.HALVES]
    for run, half in zip(runs, room_halves.HALVES, strict=True):
        run.config.streams.real_rooms = half
    result = room_halves.score(runs, folder)
    for name in ("rooms, stream", "rooms, fresh"):
        assert result[name]["clips"] == 6 and result[name]["minutes"] == pytest.approx(6 * 2.2 / 60)
    with pytest.raises(InputError, match="real_rooms train; give one with each of first, second"):
        room_halves.halves([trained_run])


def test_the_streams_of_own_words_have_real_negatives_and_no_label_of_a_digit(folder, tmp_path):
    for word in ("left", "up"):
        (tmp_path / word).mkdir()
        for take in range(10):
            soundfile.write(tmp_path / word / f"a_nohash_{take}.wav", tone(3, 1, take), 8000)
    keys = {"data.root": tmp_path, "streams.real": folder, "streams.real_words": 1.0, "streams.negative_sources": "()"}
    keys |= {"train.batch_size": 4, "streams.real_speech": 1.0}
    arguments = [f"--config={ROOT}/configs/listen.py:folder", *(f"--config.{k}={v}" for k, v in keys.items())]
    _, config = cli.parse_with_config(cli.parser("test", ""), arguments)
    clips = loading.load_clips(config)
    batches = training_streams.stream_batches(config, clips, np.arange(len(clips)), slice(None))(0, 6)
    labels = np.unique(np.concatenate([batch["label"].ravel() for batch in batches]))
    assert labels.tolist() == [0, 1, 2]  # 2 is no word
    words = training_streams.load_real(config, clips.label_names)
    rng = np.random.default_rng(0)
    assert words.words is None and max(np.abs(words.speech(rng)).max() for _ in range(50)) > 5000  # a digit; not hiss


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "sai004/none.wav"}, "sai004/none.wav"),
        ({"label": "eleven"}, "eleven"),
        ({"gain": "loud"}, "loud"),
        ({"gain": "0"}, "0"),
        ({"gain": "nan"}, "nan"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, change, said):
    row = {"file": "sai004/0.wav", "use": "train", "kind": "digit", "label": "one", "speaker": "x", "source": "sai004"}
    (tmp_path / "sai004").mkdir()
    soundfile.write(tmp_path / "sai004" / "0.wav", tone(1, 1, 1), 8000)
    write_list(tmp_path, [row | {"gain": "1"}])
    assert len(real.recordings(tmp_path, "digit").files) == 1
    write_list(tmp_path, [row | {"gain": "1"} | change])
    with pytest.raises(InputError, match=said):
        real.recordings(tmp_path, "digit")


@pytest.mark.parametrize("text", ["", "file,use\na,train\n", ",".join(KEYS) + "\nsai004/0.wav,train,digit\n"])
def test_a_list_that_is_no_list_is_named(tmp_path, text):
    for make in (lambda: None, lambda: (tmp_path / "index.csv").write_text(text)):  # missing, then damaged
        make()
        with pytest.raises(InputError, match=r"index\.csv"):
            real.recordings(tmp_path, "digit")


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("9 1 0", (9, 1, 0)),
        ("910", (9, 1, 0)),
        ("oh two-four", (0, 2, 4)),
        ("double 3, triple oh", (3, 3, 0, 0, 0)),
        ("Six double seven", (6, 7, 7)),
    ],
)
def test_every_form_of_a_number_is_read(text, digits):
    assert real_scenes.digits_of(text) == digits


@pytest.mark.parametrize("text", ["", "double", "1 double", "eleven", "2 x 4"])
def test_a_number_that_cannot_be_read_is_refused(text):
    with pytest.raises(InputError, match="label"):
        real_scenes.digits_of(text)


def outputs_of(*digits: int) -> np.ndarray:
    """f32[steps, 13]: logits of a network that is sure of `digits`, one after the other with pauses."""
    outputs = np.zeros((30 * len(digits) + 10, 13), np.float32)
    outputs[:, 10] = 10
    for place, digit in enumerate(digits):
        outputs[30 * place + 10 : 30 * place + 18, [digit, 10]] = 20, 0
    return outputs


def test_each_kind_of_row_counts_what_it_says():
    quiet, hour = np.zeros(8000, np.int16), [("a", 1800.0), ("b", 1800.0)]
    rows = [
        Row("first", "first", [quiet] * 3, [(1,), (2,), (3,)], hour),
        Row("exact", "exact", [quiet] * 3, [(1,), (2,), (3,)], hour),
        Row("errors", "errors", [quiet] * 2, [(1, 2, 2), (3, 4)], hour),
        Row("some", "events", [quiet] * 2, [(), ()], hour),
        Row("none", "events", [quiet], [()], hour),
    ]
    outputs = [
        [outputs_of(1, 5), outputs_of(2), outputs_of()],
        [outputs_of(1, 5), outputs_of(2), outputs_of()],
        [outputs_of(1, 2), outputs_of(3, 4)],
        [outputs_of(7), outputs_of(8, 9, 8)],
        [outputs_of()],
    ]
    result = real_sound.score(StreamEvaluator(Trained.packaged()), rows, outputs, Decoder())
    assert [result[name]["count"] for name in ("first", "exact", "errors", "some", "none")] == [2, 1, 1, 4, 0]
    assert result["first"]["none"] == 1 and result["first"]["rate"] == pytest.approx(2 / 3)
    assert result["exact"]["low"] == pytest.approx(0.0615, abs=1e-3)  # Wilson, 1 of 3
    assert result["exact"]["high"] == pytest.approx(0.7923, abs=1e-3)
    errors = result["errors"]
    assert (errors["deletions"], errors["words"], errors["exact"]) == (1, 5, 1)
    assert (result["some"]["low"], result["some"]["high"]) == pytest.approx((1.09, 10.24), abs=0.01)  # Poisson, 4
    assert (result["none"]["low"], result["none"]["high"]) == pytest.approx((0, 3.69), abs=0.01)
    assert [(path, label) for path, _, label, _ in result["some"]["events"]] == [
        ("a", "seven"), ("b", "eight"), ("b", "nine"), ("b", "eight"),
    ]  # fmt: skip


def test_an_event_of_a_stream_is_listed_with_its_clip():
    rows = [Row("stream", "events", [np.zeros(8000, np.int16)], [()], [("a", 0.6), ("b", 0.6), ("c", 0.6)])]
    result = real_sound.score(StreamEvaluator(Trained.packaged()), rows, [[outputs_of(1, 2)]], Decoder())
    places = [(path, label, round(seconds, 1)) for path, seconds, label, _ in result["stream"]["events"]]
    assert [place[:2] for place in places] == [("a", "one"), ("b", "two")]
    assert all(0 <= seconds <= 0.6 for _, _, seconds in places)


def test_scenes_of_a_seed_are_the_same_and_differ_in_noise_alone(folder):
    of = real.load(folder, "validation", real_sound.cached)
    rooms = [of.noise[index] for index in of.noise_indices]
    scenes = real_scenes.scenes([(of.digits, of.digit_indices)], rooms)
    again = real_scenes.scenes([(of.digits, of.digit_indices)], rooms)
    assert all(
        np.array_equal(a, b)
        for row, same in zip(scenes, again, strict=True)
        for a, b in zip(row.sounds, same.sounds, strict=True)
    )
    assert {len(sound) for row in scenes for sound in row.sounds} == {32_000} and scenes[0].digits == scenes[2].digits
    power = [np.mean([np.mean(np.square(sound / 1.0)) for sound in row.sounds]) for row in scenes]
    assert power[0] < power[1] < power[2]  # 20, 10 and 5 dB


def test_joined_rooms_have_unit_power_and_no_gap():
    rng = np.random.default_rng(0)
    loud, soft = (rng.normal(0, level, 17_600).astype(np.int16) for level in (3000, 100))
    sound = real_scenes.joined([loud, soft], 32_000)
    assert np.mean(np.square(sound)) == pytest.approx(1, abs=1e-3)
    parts = [np.mean(np.square(part)) for part in np.split(sound, 80)]
    assert min(parts) > 0.3 and max(parts) < 1.5


@pytest.mark.slow
def test_the_validation_table_has_every_row_and_its_numbers(folder, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    arguments = ["real", "--root", str(folder), "--json", str(out), "--decoder", "threshold=0.5", "ema_decay=0.7"]
    evaluate.main(arguments)
    shown = capsys.readouterr().out
    first, second = json.loads(out.read_text())
    assert first["decoder"]["threshold"] == 0.5 and second["decoder"]["ema_decay"] == 0.7
    expected = {
        "digits sai004",
        "digits speech_commands",
        "digits at once",
        "scenes 20 dB",
        "scenes 10 dB",
        "scenes 5 dB",
        "strings sai004",
    }
    expected |= {f"{name}, {start}" for name in ("rooms", "words", "reading", "noise") for start in ("fresh", "stream")}
    assert set(first["rows"]) == expected and all(f"| {name} |" in shown for name in expected)
    digits = first["rows"]["digits sai004"]
    assert digits["clips"] == 10 and digits["count"] >= 8  # the packaged recogniser knows these voices
    assert first["rows"]["rooms, fresh"]["minutes"] == pytest.approx(2 * 2.2 / 60)

    evaluate.main(["real", "--root", str(folder), "--curve"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 0.")]
    assert len(lines) == len(real_sound.THRESHOLDS)


def test_operating_points_have_a_half_and_an_eighth_of_the_false_events_and_one_is_the_default():
    rates = {0.3: (90, 7), 0.4: (64, 6), 0.5: (40, 7), 0.6: (32, 8), 0.7: (9, 9), 0.8: (8, 12), 0.9: (0, 50)}
    curve = {
        threshold: {
            "words, stream": {"minutes": 60, "count": events},
            "words, fresh": {"minutes": 60, "count": 999},
            "digits x": {"of": 50, "count": 50 - errors // 2, "minutes": 1},  # the correct ones
            "strings x": {"of": 50, "count": errors - errors // 2, "words": 50, "minutes": 1},  # the errors
        }
        for threshold, (events, errors) in rates.items()
    }
    low, normal = (0.8, 8, 0.12), (0.6, 32, 0.08)
    assert choose_points.choose(curve, 0.4) == {"low": low, "normal": normal, "high": (0.4, 64, 0.06)}
    low, normal = (0.7, 9, 0.09), (0.5, 40, 0.07)
    assert choose_points.choose(curve, 0.3) == {"low": low, "normal": normal, "high": (0.3, 90, 0.07)}
    with pytest.raises(InputError, match=r"config\.decoder\.threshold, 0\.45"):
        choose_points.choose(curve, 0.45)


def test_the_judge_part_is_logged_with_its_number_and_refuses_a_curve(folder, tmp_path, capsys):
    log = tmp_path / "judge.md"
    arguments = ["real", "--root", str(folder), "--part", "judge", "--log", str(log)]
    for _ in range(2):
        evaluate.main(arguments)
    text, shown = log.read_text(), capsys.readouterr().out
    assert "## 1:" in text and "## 2:" in text and "threshold 0.4" in text and "Revision " in text
    for name in ("digits class_a", "telephone numbers", "spelled names, stream", "spelled names, fresh"):
        assert text.count(f"| {name} |") == 2 and f"| {name} |" in shown
    assert "of 3 (" in text  # "double two oh" are three digits
    with pytest.raises(InputError, match="--curve"):
        evaluate.main([*arguments, "--curve"])


@pytest.mark.parametrize("text", ["threshold", "threshold=high", "_fields=3", "speed=2"])
def test_a_setting_that_the_decoder_lacks_is_refused(text):
    with pytest.raises(InputError, match="threshold, ema_decay"):
        real_sound.decoder_of(Decoder(), text)
    assert real_sound.decoder_of(Decoder(), "refractory_steps=5,ema_decay=0.7") == Decoder(
        ema_decay=0.7, refractory_steps=5
    )


def test_where_a_digit_may_be_spoken_is_listed_from_a_warm_state(tmp_path):
    rng = np.random.default_rng(0)
    word = (0.3 * 32768 * synthesise("seven", NEUTRAL, rng)[::2]).astype(np.int16)
    sounds = [np.concatenate([np.zeros(16_000, np.int16), word, np.zeros(8_000, np.int16)]), np.zeros(24_000, np.int16)]
    clips = dataclasses.replace(
        Clips.unlabelled(sounds, 8000), path=("librispeech/a", "librispeech/b"), label_names=("librispeech",)
    )
    found = real_sound.unsure(StreamEvaluator(Trained.packaged()), clips)
    [(start, end)] = found["librispeech/a"]
    assert "librispeech/b" not in found and start < 2.2 < end
    with pytest.raises(InputError, match="librispeech"):
        real_sound.unsure(StreamEvaluator(Trained.packaged()), dataclasses.replace(clips, label_names=("coffee",)))


def test_streams_that_begin_at_once_begin_with_the_word(monkeypatch):
    monkeypatch.setattr(real_scenes, "NUM_SCENES", 200)
    rng = np.random.default_rng(0)
    tone = 8000 * np.sin(2 * np.pi * 500 * np.arange(2400) / 8000)
    parts = [part for _ in range(300) for part in (rng.normal(0, 5, 3000), tone, rng.normal(0, 5, 2000))]
    labels, none = np.arange(300, dtype=np.int32) % 10, np.zeros(300, np.int32)
    offsets = 7400 * np.arange(301)
    paths = tuple(f"{index}.wav" for index in range(300))
    samples = np.concatenate(parts).astype(np.int16)
    clips = Clips("c", 8000, samples, offsets, labels, none.astype(str), none, paths, DIGITS, {}, "k")
    row = real_scenes.at_once([(clips, np.arange(300)), (clips, np.arange(20))])
    assert len(row.sounds) == len(row.digits) == 220 and row.digits[-1] == (9,)
    assert {len(set(row.digits[:200])), row.kind} == {10, "first"}
    for sound in row.sounds:
        [loud] = np.nonzero(np.abs(sound) > 4000)
        assert loud[0] < 0.13 * 8000 and len(loud) > 1000
