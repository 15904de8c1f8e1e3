"""Samples texts of connected speech in the phonemes of Kokoro-82M: numbers, spelled names, sentences, other words."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiojax.data.strings import UNSURE
from audiojax.schema import DIGITS
from audiojax.synthesis.espeak import Espeak
from audiojax.synthesis.phrase_lists import SPELLINGS

# Pronunciations in the phonemes of Kokoro; a speaker has the first of a row with a probability of one half.
PRONUNCIATIONS = (
    ("zˈɪɹO", "zˈiɹO", "zˈɪɹəʊ", "zˈɪəɹQ", "ʤˈiɹO"),
    ("wˈʌn", "wˈan", "ʋˈʌn", "wˈɒn"),
    ("tˈu", "ʈˈuː", "tʰˈʊ"),
    ("θɹˈi", "θɹˈiː", "tɹˈi", "ʈɾˈi", "sɹˈi", "fɹˈi"),
    ("fˈɔɹ", "fˈɔː", "fˈOɹ", "fˈoɾ"),
    ("fˈIv", "fˈaɪv", "fˈɑɪf", "fˈæv"),
    ("sˈɪks", "sˈiks", "sˈɪkəs"),
    ("sˈɛvən", "sˈɛvᵊn", "sˈɛbən", "sˈɛʋɛn", "ʃˈɛvən"),
    ("ˈAt", "ˈeːt", "ˈɛɪt", "ˈAɾ"),
    ("nˈIn", "nˈaɪn", "nˈɑɪn"),
)
OH = "ˈO"
COUNTS = {2: "dˈʌbᵊl", 3: "tɹˈɪpᵊl"}  # before a digit that counts several times
_LETTERS = "ˈA bˈi sˈi dˈi ˈi ˈɛf ʤˈi ˈAʧ ˈI ʤˈA kˈA ˈɛl ˈɛm ˈɛn ˈO pˈi kjˈu ˈɑɹ ˈɛs tˈi jˈu vˈi dˈʌbᵊljˌu ˈɛks wˈI zˈi"
LETTERS = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", _LETTERS.split(), strict=True))
BEFORE_NUMBERS = (
    "mI nˈʌmbəɹ ɪz", "ɪts", "kˈɔl mi æt", "ðə nˈʌmbəɹ ɪz", "ˈɛɹiə kˈOd", "mI fˈOn nˈʌmbəɹ ɪz", "ˌOkˈA sO", "pˈɪn kˈOd",
    "jˈɛs", "hˈɪɹ ɪt ɪz", "ðə kˈOd ɪz", "ˈʌm", "plˈʌs", "ðæts",
)  # fmt: skip
AFTER_NUMBERS = ("θˈæŋk ju", "plˈiz", "θˈæŋks", "ənd ðæts ˈɔl", "ˌOkˈA", "ɪkstˈɛnʃən", "ɡˈʊdbI")
BEFORE_NAMES = ("mI nˈAm ɪz", "ðæts", "ɪts spˈɛld", "nˈAm", "lˈæst nˈAm", "fˈɜɹst nˈAm", "ˈʌm", "aɪl spˈɛl ɪt")
_NAMES = """
maria oliver noah john robert thomas sofia chloe anna george joseph omar yusuf mohammed victoria antonio rodriguez
johnson thompson wilson moore taylor jackson white harris martin gonzalez lopez brown davis miller kowalski novak ivanov
popov suzuki tanaka watanabe nguyen tran zhang wang huang singh kumar patel sharma gupta okafor mensah diallo schmidt
mueller fischer weber hoffmann rossi ferrari bianchi silva santos oliveira costa dubois laurent moreau bernard petit
andersson johansson larsen nielsen korhonen papadopoulos yilmaz kaya demir cohen levi hassan ali khan ahmed hussain lee
kim park choi jung smith jones williams evans roberts walker hughes edwards green hall wood harrison cook bailey cooper
"""
NAMES = tuple(_NAMES.split())
_SENTENCES = """
we went to the market to buy a present for my aunt; it is too late to call her now; i would like to go to the park;
thank you for waiting for me; she gave it to the woman at the desk; this is for you and that is for him; they ate
lunch before the meeting; he wants to know what to do; there is nothing to see here; it is too far to walk to the
station; we have to leave for the airport soon; what are you looking for; i have been here for ages; go to the end of
the street and turn left; they came to help us to move; ask for a table near the window; it was too cold to swim; she
won the race again; he has been here since monday; nobody knows who won; can i have a large coffee with milk please; i
would like a cappuccino to go; that is too sweet for me; could you make it stronger; is there anything else; no that
is all for today; i am fine thanks; the weather is very nice today; turn the light off please; play some music in the
kitchen; what time is it now; set an alarm for the morning; remind me to water the plants; how do i get to the museum;
the sea was calm and the sky was blue; he never saw the house again; once upon a time there lived a king; the old man
sat down by the fire and began to speak; she sighed and looked out of the window; it seemed to him that the night
would never end; there was a knock at the door; they had forgotten to bring the key; we are going to be late for the
show; do you mind if i open the window; i do not know whether they will come; her eyes were full of tears; the ship
sailed on into the fog; see you later then; wait a minute i am coming; oh no not again; oh i see what you mean; oh
really that is great; so he told me to wait outside; before long it began to rain; some of these are for sale; what a
lovely evening; the answer is no; yes of course you can; stop it at once; let me think about it; the phone is ringing;
please hold the line; sorry i did not catch that; good morning how are you
"""
SENTENCES = tuple(" ".join(sentence.split()) for sentence in _SENTENCES.split(";"))
_ARPABET = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AX": "ə", "AY": "I", "EH": "ɛ", "ER": "əɹ", "EY": "A",
    "IH": "ɪ", "IY": "i", "OW": "O", "OY": "Y", "UH": "ʊ", "UW": "u", "B": "b", "CH": "ʧ", "D": "d", "DH": "ð",
    "F": "f", "G": "ɡ", "HH": "h", "JH": "ʤ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ",
    "S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "V": "v", "W": "w", "Y": "j", "Z": "z",
}  # fmt: skip
_IPA = (  # of espeak-ng, and what Kokoro writes instead
    ("eɪ", "A"), ("aɪ", "I"), ("ɔɪ", "Y"), ("oʊ", "O"), ("əʊ", "Q"), ("aʊ", "W"), ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("ɚ", "əɹ"),
    ("ɜː", "ɜɹ"), ("ː", ""), ("g", "ɡ"),
)  # fmt: skip

# The symbols that the model knows, and their numbers in its configuration.
SYMBOLS = (
    ';:,.!?—…"()“” \u0303ʣʥʦʨᵝꭧAIOQSTWYᵊabcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɚɛɜɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔˈˌː'
    "ʰʲ↓→↗↘ᵻ"
)
_SYMBOL_NUMBERS = (
    *range(1, 7), *range(9, 26), 31, 33, 35, 36, 39, *range(41, 49), *range(50, 73), *range(75, 79), *range(80, 84),
    *range(85, 88), 90, 92, 99, *range(101, 104), *range(110, 117), 118, 119, 120, 123, 125, 126, *range(128, 134), 135,
    136, *range(138, 141), 142, 143, 147, 148, *range(156, 159), 162, 164, 169, *range(171, 174), 177,
)  # fmt: skip
VOCABULARY = dict(zip(SYMBOLS, _SYMBOL_NUMBERS, strict=True))


@dataclass(frozen=True)
class Utterance:
    """A text: pieces of phonemes and punctuation, each with a label of `data.strings`, or "" for no word."""

    pieces: tuple[tuple[str, str], ...]


def number(rng: np.random.Generator, digits: Sequence[str]) -> Utterance:
    """Samples a number read aloud, in groups, sometimes with "oh", "double", "triple" and words around it."""
    groups = _groups(rng)
    with_oh, with_counts = rng.random() < 0.45, rng.random() < 0.3
    pause = str(rng.choice([", ", "; ", " — ", ". "], p=[0.6, 0.15, 0.15, 0.1]))
    pieces: list[tuple[str, str]] = []
    if rng.random() < 0.3:
        pieces.append((f"{rng.choice(BEFORE_NUMBERS)}{rng.choice([' ', ', '])}", ""))
    counted = 0
    for group, size in enumerate(groups):
        if group:
            pieces.append((pause if rng.random() < 0.8 else " ", ""))
        at = 0
        while at < size:
            digit, count = int(rng.integers(10)), 1
            if with_counts and rng.random() < 0.4:
                count = min(size - at, int(rng.choice([2, 3], p=[0.8, 0.2])))
            label, sound = DIGITS[digit], digits[digit]
            if digit == 0 and with_oh:
                sound = OH
                if not counted:
                    label, count = UNSURE, 1  # nothing tells yet that a number follows
            if count > 1:
                pieces.append((f"{COUNTS[count]} ", ""))
                label += f"*{count}"
            pieces.append((sound, label))
            counted, at = counted + count, at + count
            if at < size:
                pieces.append((" ", ""))
    if rng.random() < 0.15:
        pieces.append((f"{rng.choice([' ', ', '])}{rng.choice(AFTER_NUMBERS)}", ""))
    return Utterance((*pieces, (".", "")))


def _groups(rng: np.random.Generator) -> list[int]:
    """Samples the sizes of the groups of a number."""
    kind = rng.random()
    if kind < 0.4:
        return [3, 3, 4]
    if kind < 0.5:
        return [3, 4]
    if kind < 0.6:
        return [5, 6] if rng.random() < 0.5 else [4, 3, 4]
    if kind < 0.7:
        return [2] * int(rng.integers(2, 6))
    if kind < 0.8:
        return [1] * int(rng.integers(1, 4))
    return [int(rng.integers(2, 9))]


def spelled(rng: np.random.Generator, _: Sequence[str]) -> Utterance:
    """Samples a name that is spelled, or a sequence of letters."""
    letters = str(rng.choice(NAMES)) if rng.random() < 0.7 else "".join(rng.choice(list(LETTERS), rng.integers(2, 8)))
    pieces = [f"{rng.choice(BEFORE_NAMES)}{rng.choice([' ', ', '])}"] if rng.random() < 0.4 else []
    between, skip = str(rng.choice([" ", ", ", " — "], p=[0.6, 0.25, 0.15])), False
    for index, letter in enumerate(letters.upper()):
        if skip:
            skip = False
            continue
        skip = letters[index + 1 : index + 2].upper() == letter and rng.random() < 0.4
        pieces.append((f"{COUNTS[2]} " if skip else "") + LETTERS[letter] + between)
    return Utterance(tuple((piece, "") for piece in (*pieces, ".")))


def other_words(rng: np.random.Generator, _: Sequence[str]) -> Utterance:
    """Samples words without digits, many of which resemble one."""
    spellings = [("".join(_ARPABET[sound] for sound in word)) for word in SPELLINGS["train"].values()]
    chosen = rng.choice(spellings, rng.integers(2, 8), replace=False)
    return Utterance(tuple((f"{word}{rng.choice([' ', ', '], p=[0.7, 0.3])}", "") for word in (*chosen, "")))


def single(rng: np.random.Generator, digits: Sequence[str]) -> Utterance:
    """Samples one digit."""
    digit = int(rng.integers(10))
    return Utterance(((digits[digit], DIGITS[digit]), (str(rng.choice([".", "!", "?", ","])), "")))


def sentence(rng: np.random.Generator, _: Sequence[str]) -> Utterance:
    """Samples one to three sentences without digits, with unstressed "to" and "for", and with "oh"."""
    chosen = rng.choice(SENTENCES, rng.integers(1, 4), replace=False)
    return Utterance(tuple((f"{phonemes(str(text))}{rng.choice(['. ', ', ', '? '])}", "") for text in chosen))


@functools.cache
def phonemes(text: str) -> str:
    """Returns an English text in the phonemes of Kokoro, by espeak-ng."""
    ipa = _espeak().phonemes(text, "en-us")
    for symbols, symbol in _IPA:
        ipa = ipa.replace(symbols, symbol)
    return "".join(symbol for symbol in ipa if symbol in VOCABULARY)


_espeak = functools.cache(lambda: Espeak(0))

KINDS = ((number, 0.4), (spelled, 0.2), (sentence, 0.2), (other_words, 0.05), (single, 0.15))
