"""Phoneme inventory of the synthesiser: articulatory segments of each phoneme, and the pronunciations of the digits.

Formant targets are an adult man's, rounded from Tables II and III of Klatt (1980), "Software for a cascade/parallel
formant synthesizer", JASA 67(3), which agree with the averages of Peterson & Barney (1952) for the vowels. Durations,
gains and noise spectra are our own, set by eye and against an independent recogniser.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from audiojax.schema import DIGITS


@dataclass(frozen=True)
class Segment:
    """A part of a phoneme with constant articulation, for the formant synthesiser.

    `formants_hz` are the targets of the first three formants. `voicing`, `aspiration` and `frication` are linear gains
    relative to a stressed vowel.
    """

    formants_hz: tuple[float, float, float]
    seconds: float
    voicing: float = 0.0
    aspiration: float = 0.0  # noise at the glottis, shaped by the whole tract
    frication: float = 0.0  # noise at a constriction, shaped by `noise_hz` alone
    noise_hz: tuple[float, float] = (4000.0, 2000.0)  # centre and width of the frication's spectrum
    nasal: float = 0.0  # opening of the velum, from 0 to 1
    abrupt: bool = False  # whether the segment starts without a fade, as closures and bursts do


def _vowel(seconds: float, *targets: tuple[float, float, float]) -> tuple[Segment, ...]:
    return tuple(Segment(target, seconds / len(targets), voicing=1.0) for target in targets)


def _sonorant(
    seconds: float, target: tuple[float, float, float], gain: float, nasal: float = 0.0
) -> tuple[Segment, ...]:
    return (Segment(target, seconds, voicing=gain, nasal=nasal),)


def _fricative(
    seconds: float, target: tuple[float, float, float], gain: float, noise_hz: tuple[float, float], voicing: float = 0.0
) -> tuple[Segment, ...]:
    return (Segment(target, seconds, voicing=voicing, frication=gain, noise_hz=noise_hz),)


def _stop(
    target: tuple[float, float, float], gain: float, noise_hz: tuple[float, float], *, closure: float, aspirated: float
) -> tuple[Segment, ...]:
    """Returns closure, burst and aspiration of a voiceless stop, or closure with voice bar and burst of a voiced."""
    burst = Segment(target, 0.012, frication=gain, noise_hz=noise_hz, abrupt=True)
    if not aspirated:
        return (Segment(target, closure, voicing=0.25, abrupt=True), replace(burst, voicing=0.3))
    breath = Segment(target, aspirated, aspiration=0.16, frication=0.3 * gain, noise_hz=noise_hz)
    return (Segment(target, closure, abrupt=True), burst, breath)


PHONEMES: Mapping[str, tuple[Segment, ...]] = {
    "IY": _vowel(0.17, (310, 2020, 2960), (290, 2120, 2980)),
    "IH": _vowel(0.11, (400, 1800, 2570), (440, 1690, 2580)),
    "EH": _vowel(0.13, (530, 1680, 2500), (600, 1560, 2520)),
    "AE": _vowel(0.17, (620, 1660, 2430), (650, 1490, 2470)),
    "AA": _vowel(0.18, (700, 1220, 2600)),
    "AH": _vowel(0.15, (620, 1220, 2550)),
    "AX": _vowel(0.07, (490, 1380, 2500)),
    "AO": _vowel(0.18, (600, 990, 2570), (610, 940, 2580)),
    "UH": _vowel(0.12, (450, 1100, 2350), (490, 1160, 2390)),
    "UW": _vowel(0.19, (350, 1200, 2200), (320, 880, 2200)),
    "ER": _vowel(0.17, (470, 1270, 1540), (430, 1310, 1540)),
    "EY": _vowel(0.19, (480, 1800, 2520), (330, 2120, 2650)),
    "AY": _vowel(0.24, (700, 1200, 2550), (660, 1300, 2550), (380, 1980, 2550)),
    "OW": _vowel(0.21, (540, 1080, 2300), (400, 800, 2300)),
    "AW": _vowel(0.23, (680, 1250, 2550), (420, 900, 2350)),
    "OY": _vowel(0.24, (550, 920, 2400), (360, 1880, 2450)),
    "W": _sonorant(0.08, (290, 610, 2150), 0.6),
    "Y": _sonorant(0.07, (260, 2070, 3020), 0.6),
    "R": _sonorant(0.08, (310, 1060, 1380), 0.6),
    "L": _sonorant(0.07, (310, 1050, 2880), 0.6),
    "M": _sonorant(0.08, (300, 1000, 2130), 0.5, nasal=1.0),
    "N": _sonorant(0.08, (300, 1450, 2470), 0.5, nasal=1.0),
    "NG": _sonorant(0.09, (300, 1990, 2700), 0.5, nasal=1.0),
    "HH": (Segment((480, 1400, 2500), 0.07, aspiration=0.2),),
    "F": _fricative(0.11, (340, 1100, 2080), 0.09, (5500, 5000)),
    "V": _fricative(0.07, (220, 1100, 2080), 0.05, (5500, 5000), voicing=0.35),
    "TH": _fricative(0.10, (320, 1290, 2540), 0.08, (6500, 3000)),
    "DH": _fricative(0.05, (270, 1290, 2540), 0.04, (6500, 3000), voicing=0.4),
    "S": _fricative(0.12, (320, 1390, 2530), 0.35, (5300, 1300)),
    "Z": _fricative(0.09, (240, 1390, 2530), 0.22, (5300, 1300), voicing=0.3),
    "SH": _fricative(0.12, (300, 1840, 2750), 0.35, (3000, 800)),
    "ZH": _fricative(0.08, (300, 1840, 2750), 0.2, (3000, 800), voicing=0.3),
    "P": _stop((400, 1100, 2150), 0.2, (900, 1200), closure=0.07, aspirated=0.04),
    "T": _stop((400, 1600, 2600), 0.5, (4300, 1500), closure=0.06, aspirated=0.05),
    "TQ": (Segment((400, 1600, 2600), 0.07, abrupt=True),),  # unreleased
    "K": _stop((300, 1990, 2850), 0.5, (1950, 450), closure=0.06, aspirated=0.05),
    "B": _stop((200, 1100, 2150), 0.15, (700, 1000), closure=0.06, aspirated=0.0),
    "D": _stop((200, 1600, 2600), 0.35, (4000, 1500), closure=0.05, aspirated=0.0),
    "G": _stop((200, 1990, 2850), 0.35, (1900, 450), closure=0.05, aspirated=0.0),
    "CH": _stop((350, 1800, 2820), 0.5, (3100, 900), closure=0.06, aspirated=0.08),
    "JH": _stop((260, 1800, 2820), 0.4, (3000, 900), closure=0.05, aspirated=0.0)
    + _fricative(0.05, (260, 1800, 2820), 0.2, (3000, 900), voicing=0.3),
}  # fmt: skip
VOWELS = tuple(name for name, segments in PHONEMES.items() if segments[0].voicing == 1.0)

PRONUNCIATIONS: Mapping[str, tuple[str, ...]] = {
    "zero": ("Z IH R OW", "Z IY R OW", "S IH R OW"),
    "one": ("W AH N", "W AA N"),
    "two": ("T UW", "T UH UW"),
    "three": ("TH R IY", "F R IY"),
    "four": ("F AO R", "F AO", "F OW R"),
    "five": ("F AY V", "F AY F"),
    "six": ("S IH K S", "S IY K S"),
    "seven": ("S EH V AX N", "S EH B AX N", "S AE V AX N"),
    "eight": ("EY T", "EY TQ", "EH IY T"),
    "nine": ("N AY N", "N AA IY N"),
}


def named(label: str) -> dict[str, int | str]:
    """Returns the JSON fields of a word: its label and, if it is a digit, its digit."""
    return {"digit": DIGITS.index(label), "label": label} if label in DIGITS else {"label": label}
