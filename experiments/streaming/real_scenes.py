"""Composes the sounds by which the recogniser is scored on real recordings, with the digits in them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audiojax.audio import noise as corrupt
from audiojax.audio.time_scale import time_scaled
from audiojax.data import real
from audiojax.data.clips import Clips
from audiojax.data.real import RealSound
from audiojax.data.strings import UNSURE, StringRecordings
from audiojax.errors import InputError
from audiojax.streaming import scenes as streams
from audiojax.streaming.decoder import FLUSH_SECONDS
from audiojax.streaming.pools import FLOOR_DB
from audiojax.streaming.scenes import Word
from audiojax.synthesis.phonemes import DIGITS

RATE_HZ = 8000
SCENE_SECONDS, FADE_SECONDS = 4.0, 0.05
WEAK_SECONDS = (0.12, 0.15)  # of weak consonants, before and after the loud part of a word
SNRS_DB = (20, 10, 5)
NUM_SCENES, NUM_STRINGS = 200, 100
NAMES = {"speech_commands_words": "words", "librispeech": "reading"}  # of corpora in the table
MANNERS = ("fast", "gapless", "spaced", "grouped")  # the timing of the words of a string
_REPEATS = {"double": 2, "triple": 3}

Words = tuple[Clips, np.ndarray]  # clips, and the indices of the held-out ones
Named = list[tuple[str, np.ndarray]]  # sounds i16[t] and their names


class Row(NamedTuple):
    """A row of the table: sounds, each of which starts from the initial state, and the digits in them.

    Its `kind` is what is counted: "first" and "exact" count the sounds whose first or only event is correct, "errors"
    wrong digits, "events" all events, each of which is a false alarm.
    """

    name: str
    kind: str
    sounds: list[np.ndarray]  # i16[t]
    digits: list[tuple[int, ...]]
    clips: list[tuple[str, float]]  # name and seconds of the clips that the sounds consist of, in order


def validation(sound: RealSound, audiomnist: Words | None = None) -> list[Row]:
    """Returns the rows of the validation part; `audiomnist` adds held-out words to scenes and strings."""
    digits = real.by_corpus(sound.digits, sound.digit_indices)
    noise = real.by_corpus(sound.noise, sound.noise_indices)
    for corpora, name in ((digits, "speech_commands"), (digits, "sai004"), (noise, "rooms")):
        if name not in corpora:
            raise InputError(f"there is no {name} among the recordings for validation; restore it in index.csv.")
    words = [(sound.digits, digits[name]) for name in ("speech_commands", "sai004")]
    strings = {"sai004": words[1]} | ({"audiomnist": audiomnist} if audiomnist else {})
    rooms = [sound.noise[index] for index in noise["rooms"]]
    rows = [_alone(name, sound.digits, indices) for name, indices in digits.items()]
    words += [audiomnist] if audiomnist else []
    rows += [at_once(words), *scenes(words, rooms)]
    rows += without_words("rooms", recorded(sound, sound.noise, noise.pop("rooms")))
    for name, indices in real.by_corpus(sound.speech, sound.speech_indices).items():
        rows += without_words(NAMES.get(name, name), recorded(sound, sound.speech, indices))
    others = [clip for indices in noise.values() for clip in recorded(sound, sound.noise, indices)]
    rows += without_words("noise", others) if others else []
    return rows + [telephone(name, of, rooms) for name, of in strings.items()]


def judge(root: Path, clips_of: dict[str, Clips]) -> list[Row]:
    """Returns the rows of the judge part; `clips_of` has its clips of each kind."""
    texts = {row["file"]: row["label"] for row in real.rows(root)}
    rows = [
        _alone(name, clips_of["digit"], of)
        for name, of in real.by_corpus(clips_of["digit"], np.arange(len(clips_of["digit"]))).items()
    ]
    strings = clips_of["string"]
    digits = [digits_of(texts[path], path) for path in strings.path]
    rows.append(_row("telephone numbers", "errors", _named(strings), digits))
    return rows + without_words("spelled names", _named(clips_of["speech"]))


def synthetic(strings: StringRecordings) -> list[Row]:
    """Returns the rows of synthetic strings: numbers, single digits, and speech without digits."""
    answers = {}
    for path in strings.clips.path:  # an "oh" that begins a number counts, as in the telephone numbers
        labels = [("zero" if label == UNSURE else label, count) for label, *_, count in strings.words[path]]
        answers[path] = tuple(DIGITS.index(label) for label, count in labels for _ in range(count))
    named = _named(strings.clips)
    kinds = {"numbers": ("errors", range(2, 100)), "digits": ("first", range(1, 2))}
    rows = []
    for name, (kind, lengths) in kinds.items():
        mine = [(path, clip) for path, clip in named if len(answers[path]) in lengths]
        rows.append(_row(f"{name} synthetic", kind, mine, [answers[path] for path, _ in mine]))
    return rows + without_words("other synthetic", [(path, clip) for path, clip in named if not answers[path]])


def digits_of(text: str, path: str = "a string") -> tuple[int, ...]:
    """Returns the digits of a label, which has figures or names, "oh" for zero, and "double" and "triple"."""
    found: list[int] = []
    times = 1
    for token in re.findall(r"[a-z]+|\S", re.sub(r"[,.\-]", " ", text.lower())):
        if token in _REPEATS:
            times *= _REPEATS[token]
            continue
        if token in ("oh", "o"):
            token = "zero"
        if token not in DIGITS and not re.fullmatch("[0-9]", token):
            raise InputError(f"the label of {path} has {token!r}; a digit is 0 to 9, zero to nine or oh.")
        found += times * [DIGITS.index(token) if token in DIGITS else int(token)]
        times = 1
    if times > 1 or not found:
        raise InputError(f"the label of {path} is {text!r}; give the digits of the recording.")
    return tuple(found)


def at_once(words: Sequence[Words]) -> Row:
    """Returns a row of streams that begin with a word, at most `NUM_SCENES` of each item of `words`, evenly chosen."""
    clips, digits = [], []
    for of, indices in words:
        for index in indices[np.linspace(0, len(indices) - 1, min(NUM_SCENES, len(indices))).astype(int)]:
            clips.append((of.path[index], of[index][span(of[index])[0] :]))
            digits.append((int(of.label[index]),))
    return _row("digits at once", "first", clips, digits)


def scenes(words: Sequence[Words], rooms: Sequence[np.ndarray]) -> list[Row]:
    """Returns a row for each noise level: one word in `SCENE_SECONDS` of two rooms; the rows differ in level only."""
    sounds, digits = {snr_db: list[np.ndarray]() for snr_db in SNRS_DB}, []
    for count in range(NUM_SCENES):
        rng = np.random.default_rng([0, count])
        clips, indices = words[count % len(words)]
        index = int(rng.choice(indices))
        clip, num_samples = _faded(clips[index]), round(SCENE_SECONDS * RATE_HZ)
        start, end = span(clips[index])
        first, last = RATE_HZ // 2 - start, num_samples - RATE_HZ // 2 - end  # half a second around the word
        at = int(rng.integers(max(0, first), max(0, first, last) + 1))
        spoken = [Word(int(clips.label[index]), at + start, at + end)]
        dry = streams.levelled(streams.laid_out([(at, clip)], num_samples), spoken, rng.uniform(-35, -10))
        chosen = rng.choice(len(rooms), 2, replace=len(rooms) < 2)
        noise = joined([rooms[room] for room in chosen], num_samples)
        for snr_db in SNRS_DB:
            wet = corrupt.mixed(dry, noise, streams.speech_power(dry, spoken), snr_db)
            sounds[snr_db].append(streams.quantised(wet, np.random.default_rng([1, count])))
        digits.append((spoken[0].label,))
    lengths = [(f"scene {count}", SCENE_SECONDS) for count in range(NUM_SCENES)]
    return [Row(f"scenes {snr_db} dB", "exact", of, digits, lengths) for snr_db, of in sounds.items()]


def telephone(name: str, words: Words, rooms: Sequence[np.ndarray]) -> Row:
    """Returns a row of strings of 7 to 10 words of one speaker, with four kinds of timing, in one room at 20 dB."""
    clips, indices = words
    speakers, sounds, digits = streams.by_speaker(clips, indices), [], []
    for count in range(NUM_STRINGS):
        rng = np.random.default_rng([2, count])
        mine = rng.choice(speakers[rng.integers(len(speakers))], int(rng.integers(7, 11)))
        parts, spoken, at = [], [], round(rng.uniform(0.1, 1.0) * RATE_HZ)
        tempo = rng.uniform(*((1.15, 1.4), (1.0, 1.2), (1.0, 1.1), (1.0, 1.2))[count % 4])
        for place, index in enumerate(mine):
            clip = clips[index].astype(np.float32)
            start, end = span(clips[index])
            clip = clip[max(0, start - RATE_HZ // 100) : end + RATE_HZ // 100]
            sound, _ = time_scaled(_faded(clip, 0.005), 1.0, tempo * np.exp(rng.normal(0, 0.05)), (0, len(clip)))
            sound *= np.float32(10 ** (rng.normal(0, 2) / 20) / np.sqrt(corrupt.power(sound)))
            at += round(_pause(rng, count % 4, place, len(mine)) * RATE_HZ)
            parts.append((at, sound))
            spoken.append(Word(int(clips.label[index]), at, at + len(sound)))
            at += len(sound)
        dry = streams.laid_out(parts, at + round(0.6 * RATE_HZ))
        dry = streams.levelled(dry, spoken, rng.uniform(-30, -6))
        noise = joined([rooms[rng.integers(len(rooms))]], len(dry))
        wet = corrupt.mixed(dry, noise, streams.speech_power(dry, spoken), 20)
        sounds.append(streams.quantised(wet, rng))
        digits.append(tuple(word.label for word in spoken))
    lengths = [(f"{MANNERS[count % 4]} {count}", len(sound) / RATE_HZ) for count, sound in enumerate(sounds)]
    return Row(f"strings {name}", "errors", sounds, digits, lengths)


def span(clip: np.ndarray) -> tuple[int, int]:
    """Returns where the word in a clip i16[t] begins and ends, in samples.

    These are the bounds of its loudest stretch, extended by `WEAK_SECONDS` for weak consonants.
    """
    first, last = streams.span(clip, RATE_HZ, FLOOR_DB)
    start, end = streams.spoken_span(clip, RATE_HZ)
    before, after = (round(seconds * RATE_HZ) for seconds in WEAK_SECONDS)
    return max(first, start - before), min(last, end + after)


def _pause(rng: np.random.Generator, manner: int, place: int, number: int) -> float:
    """Returns the seconds before word `place` of a string: fast and overlapping, gapless, with gaps, or in groups."""
    if place == 0:
        return 0.0
    if manner == 3:
        group = place in (3, 6) if number > 7 else place == 3
        return rng.uniform(0.3, 0.8) if group else rng.uniform(-0.02, 0.06)
    return (rng.uniform(-0.03, 0.02), 0.0, rng.uniform(0.05, 0.2))[manner]


def joined(rooms: Sequence[np.ndarray], num_samples: int) -> np.ndarray:
    """Returns f32[num_samples] of mean power 1: rooms i16[t] of equal power in turn, joined by cross-fades."""
    fade = round(FADE_SECONDS * RATE_HZ)
    sound, at, place = np.zeros(num_samples, np.float32), 0, 0
    while at < num_samples:
        room = rooms[place % len(rooms)].astype(np.float32)
        room = _faded(room / np.sqrt(corrupt.power(room)), FADE_SECONDS, opens=at > 0)
        sound += streams.laid_out([(at, room)], num_samples)
        at, place = at + max(len(room) - fade, 1), place + 1
    return sound / np.float32(np.sqrt(corrupt.power(sound)))


def _faded(sound: np.ndarray, seconds: float = 0.02, opens: bool = True) -> np.ndarray:
    return streams.faded(sound.astype(np.float32), round(seconds * RATE_HZ), opens=opens)


def _named(clips: Clips, indices: Sequence[int] | np.ndarray | None = None) -> Named:
    return [(clips.path[index], clips[index]) for index in (range(len(clips)) if indices is None else indices)]


def recorded(sound: RealSound, clips: Clips, indices: np.ndarray) -> Named:
    """Returns the clips at `indices` at the level at which they were recorded."""
    return [(clips.path[index], real.recorded_level(sound, clips, index)) for index in indices]


def _alone(name: str, clips: Clips, indices: np.ndarray) -> Row:
    digits = [(int(clips.label[index]),) for index in indices]
    return _row(f"digits {name}", "first", _named(clips, indices), digits)


def without_words(name: str, clips: Named) -> list[Row]:
    """Returns two rows: all clips as one stream, and each clip from the initial state."""
    fresh = _row(f"{name}, fresh", "events", clips, [()] * len(clips))
    stream = _flushed(np.concatenate([clip for _, clip in clips]))
    return [fresh._replace(name=f"{name}, stream", sounds=[stream], digits=[()]), fresh]


def _row(name: str, kind: str, clips: Named, digits: list[tuple[int, ...]]) -> Row:
    """Returns a row of clips, each alone and followed by silence."""
    lengths = [(path, len(clip) / RATE_HZ) for path, clip in clips]
    return Row(name, kind, [_flushed(clip) for _, clip in clips], digits, lengths)


def _flushed(sound: np.ndarray) -> np.ndarray:
    return np.concatenate([sound, np.zeros(round(FLUSH_SECONDS * RATE_HZ), np.int16)])
