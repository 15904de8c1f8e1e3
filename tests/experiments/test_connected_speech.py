"""Texts of connected speech: their labels are the digits in them, in symbols that the model knows."""

import numpy as np
import pytest

from audiojax.data.strings import UNSURE
from audiojax.schema import DIGITS
from experiments.streaming import connected_speech, connected_text
from experiments.streaming.connected_text import COUNTS, OH, PRONUNCIATIONS


@pytest.fixture(scope="module")
def digits():
    return [row[0] for row in PRONUNCIATIONS]


def test_a_number_has_the_label_of_each_digit_it_says(digits):
    unsure, several = 0, {2: 0, 3: 0}
    for seed in range(400):
        utterance = connected_text.number(np.random.default_rng(seed), digits)
        labels = [label for _, label in utterance.pieces if label]
        for index, (piece, label) in enumerate(utterance.pieces):
            name, _, copies = label.partition("*")
            if name in DIGITS:
                assert piece == digits[DIGITS.index(name)] or (name == "zero" and piece == OH)
            if label == UNSURE:
                assert piece == OH and labels[0] == UNSURE and labels.count(UNSURE) == 1
                unsure += 1
            before = utterance.pieces[index - 1][0].strip() if index else ""
            assert (before in COUNTS.values()) == bool(copies)
            if copies:
                assert before == COUNTS[int(copies)]
                several[int(copies)] += 1
    assert unsure > 5 and min(several.values()) > 20


def test_other_speech_has_no_label_and_every_symbol_is_known(digits):
    for sample, _ in connected_text.KINDS:
        for seed in range(200):
            utterance = sample(np.random.default_rng(seed), digits)
            assert set("".join(piece for piece, _ in utterance.pieces)) <= connected_text.VOCABULARY.keys()
            if sample in (connected_text.spelled, connected_text.sentence, connected_text.other_words):
                assert not any(label for _, label in utterance.pieces)
    assert {symbol for row in PRONUNCIATIONS for way in row for symbol in way} <= connected_text.VOCABULARY.keys()


def test_a_word_ends_where_it_is_no_longer_heard(digits):
    class Tone:
        def synthesise(self, phonemes, style, speed):
            begins = 0.25 * np.arange(len(phonemes) + 1)  # seconds
            sound = np.zeros(6000 * len(phonemes), np.float32)
            sound[: 6000 * len(phonemes) - 9600] = 0.5  # its last 0.4 s are silent
            return sound, begins

    utterance = connected_text.Utterance(((digits[2], "two*2"), (" ", ""), (digits[2], "two")))
    sound, words = connected_speech.synthesise(Tone(), utterance, np.zeros((510, 256), np.float32), 1.0)
    assert len(sound) == 7 * 4000
    assert [(label, round(start, 2), round(end, 2)) for label, start, end in words] == [
        ("two*2", 0.0, 0.75),
        ("two", 1.0, 1.35),
    ]
