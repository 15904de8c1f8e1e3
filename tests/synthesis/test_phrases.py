"""Speech that names no digit: the lists hold none, and the folders are what the source `folder` reads."""

import ctypes
import hashlib
import re

import numpy as np
import pytest
import soundfile

from audiojax.data import sources
from audiojax.errors import InputError
from audiojax.synthesis import espeak, phrases
from audiojax.synthesis.phonemes import DIGITS, PHONEMES, PRONUNCIATIONS
from audiojax.synthesis.phrase_lists import SENTENCES, SPELLINGS, WORDS

FUNCTION_WORDS = """
a above an and around at be can he her his i in is its made most my of on our over that the they this was we with
"""
HOMOPHONES = "won wan to too for fore ate ait sicks seeks free tree fife nein oh once"


def vocabulary(part: str) -> set[str]:
    return set(WORDS[part]) | {word for sentence in SENTENCES[part] for word in sentence}


@pytest.mark.parametrize("part", phrases.PARTS)
def test_the_lists_are_long_and_no_word_of_theirs_is_a_digit(part):
    few_words, few_spellings = {"train": (250, 120), "test": (120, 40)}[part]
    assert len(WORDS[part]) == len(set(WORDS[part])) >= few_words
    assert len(set(SENTENCES[part])) == 60 and all(4 <= len(sentence) <= 12 for sentence in SENTENCES[part])
    assert few_spellings <= len(SPELLINGS[part]) and set(SPELLINGS[part]) <= set(WORDS[part])
    assert all(re.fullmatch("[a-z]+", word) for word in vocabulary(part))
    assert not vocabulary(part) & {*DIGITS, *HOMOPHONES.split()}
    syllable = re.compile(rf"^({'|'.join(DIGITS)}|for|to)|(?<!w)({'|'.join(DIGITS)}|fore|to)$")
    unlike = {"stone", "phone", "done", "toy", "zone", "tool"}  # spelled with a digit, and said as one other syllable
    assert {word for word in vocabulary(part) if syllable.search(word)} <= unlike


@pytest.mark.parametrize("part", phrases.PARTS)
def test_nothing_that_is_spelled_sounds_like_a_digit(part):
    said = {variant for variants in PRONUNCIATIONS.values() for variant in variants}
    assert {name for word in SPELLINGS[part].values() for name in word} <= set(PHONEMES)
    assert not {" ".join(word) for word in SPELLINGS[part].values()} & said
    for sentence in phrases.word_salads(part):
        spelled = [f" {' '.join(SPELLINGS[part][word])} " for word in sentence]
        whole = " ".join(spelled).replace("  ", " ")
        for digit in said:  # none comes about where two words meet
            assert whole.count(f" {digit} ") == sum(word.count(f" {digit} ") for word in spelled), (digit, sentence)


def test_train_and_test_share_function_words_alone():
    assert vocabulary("train") & vocabulary("test") <= set(FUNCTION_WORDS.split())


def test_no_accent_says_a_word_as_a_digit():
    """By the rules of espeak-ng, in each of its accents, and where two words of a sentence meet."""
    pytest.importorskip("espeakng_loader", reason="the extra [tts] is not installed")
    library = espeak.Espeak(0)._library
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def sounds(text: str) -> str:
        buffer = ctypes.create_string_buffer(text.encode())
        at = ctypes.c_void_p(ctypes.addressof(buffer))
        return re.sub(r"[',_|:%=]", "", library.espeak_TextToPhonemes(ctypes.byref(at), 1, 0).decode()).strip()

    for accent in espeak.LANGUAGES:
        assert library.espeak_SetVoiceByName(accent.encode()) == 0
        digits = {sounds(digit) for digit in DIGITS}
        assert len(digits) == 10 and {sounds("ate"), sounds("too")} <= digits
        for part in phrases.PARTS:
            assert not {word for word in vocabulary(part) if sounds(word) in digits}, accent
            for sentence in SENTENCES[part]:
                words = sounds(" ".join(sentence)).split()
                for digit in digits:
                    assert "".join(words).count(digit) == sum(word.count(digit) for word in words), (accent, sentence)


def write(folder, source, part="train", num_voices=2, seed=3):
    done = []
    phrases.write_phrases(
        folder,
        source=source,
        part=part,
        num_voices=num_voices,
        seed=seed,
        progress=lambda *numbers: done.append(numbers),
    )
    assert done == [(40 * number, 40 * num_voices) for number in range(1, num_voices + 1)]
    return folder


def hashes(folder):
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*.wav")}


@pytest.mark.parametrize("source", ["synthetic", "espeak"])
@pytest.mark.slow
def test_a_folder_holds_words_and_sentences_of_every_voice_and_is_a_function_of_the_seed(source, tmp_path):
    if source == "espeak":
        pytest.importorskip("espeakng_loader", reason="the extra [tts] is not installed")
    folder = write(tmp_path / "a", source)
    recordings = sources.folder(folder)
    assert set(recordings.speakers) == {f"{source}-train-001", f"{source}-train-002"} and len(recordings.files) == 80
    sentences = {"_".join(sentence) for sentence in (*SENTENCES["train"], *phrases.word_salads("train"))}
    assert set(recordings.label_names) <= set(WORDS["train"]) | sentences
    for speaker in recordings.speakers:
        said = [recordings.label_names[file.label] for file in recordings.files if file.speaker == speaker]
        assert len(set(said)) == 40 and sum(phrase in sentences for phrase in said) == phrases.SENTENCES_PER_VOICE
    for file in recordings.files:
        sound, rate_hz = soundfile.read(folder / file.path)
        assert (rate_hz, soundfile.info(folder / file.path).subtype) == (16000, "PCM_16")
        long = "_" in recordings.label_names[file.label]
        assert (0.8 if long else 0.2) < len(sound) / rate_hz < (9 if long else 1.6) and 0.01 < np.abs(sound).max() < 1
    first, other = (hashes(write(tmp_path / str(seed), source, num_voices=1, seed=seed)) for seed in (3, 4))
    both = hashes(folder)  # of which the first voice is the same alone
    assert first == {name: both[name] for name in both if "-001_" in name}
    assert len(first) == 40 and len(set(both.values())) == 80 and not set(both.values()) & set(other.values())


@pytest.mark.slow
def test_train_and_test_have_other_voices(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the extra [tts] is not installed")
    variants = espeak.Espeak(0).variants()
    train, test = (phrases.variants_of(part, variants) for part in phrases.PARTS)
    assert sorted(train + test) == variants and len(train) > len(test) > 25
    assert not {re.sub(r"\d+$", "", name).lower() for name in train} & {
        re.sub(r"\d+$", "", name).lower() for name in test
    }
    for source in ("synthetic", "espeak"):
        recordings = sources.folder(write(tmp_path / source, source, part="test", num_voices=1))
        assert set(recordings.speakers) == {f"{source}-test-001"}
        sentences = {"_".join(sentence) for sentence in (*SENTENCES["test"], *phrases.word_salads("test"))}
        assert set(recordings.label_names) <= set(WORDS["test"]) | sentences


def test_synthetic_voices_of_train_say_digits_too_and_those_of_test_do_not(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(phrases, "synthesise", lambda _, voice, rng: heard.append(voice.formant_scale) or np.zeros(9))
    for part in phrases.PARTS:
        (tmp_path / part).mkdir()
        phrases._synthesise_voice(tmp_path / part, part, 7, 1)
    scales = {part: set(heard[slot]) for part, slot in (("train", slice(0, 32)), ("test", slice(-8, None)))}
    assert scales["train"] == {phrases.make_voice(1, 7).formant_scale} and not scales["train"] & scales["test"]


def test_without_the_extra_espeak_is_one_sentence_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[tts\]'"):
        phrases.write_phrases(
            tmp_path / "a", source="espeak", part="test", num_voices=1, seed=0, progress=lambda done, total: None
        )
    assert list(tmp_path.iterdir()) == []
