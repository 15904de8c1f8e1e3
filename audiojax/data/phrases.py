"""Speech that names no digit, by the synthetic voices: a folder of words and sentences as the source `folder` reads it.

"train" and "test" share neither what is said, but for function words, nor who says it. Voices of "train" also say words
that nobody has heard: a listener that learns lists of words learns those words, not that others are none.
"""

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
import soundfile

from audiojax.data import workers
from audiojax.data.disk import whole_folder
from audiojax.data.espeak import Espeak, Speaker, in_own_process
from audiojax.data.phonemes import PHONEMES, PRONUNCIATIONS
from audiojax.data.phrase_lists import SENTENCES, SPELLINGS, WORDS
from audiojax.data.synthetic import RATE_HZ, synthesise
from audiojax.data.voices import Voice, make_voice
from audiojax.types import Progress

VERSION = 2  # raise it when the same seed would give another sound
PARTS = ("train", "test")
WORDS_PER_VOICE, SENTENCES_PER_VOICE = 32, 8
INVENTED_PER_VOICE = {"train": 40, "test": 0}
_LONGEST_SECONDS = 10.0  # far more than any sentence takes

_VOWELS = tuple(name for name, segments in PHONEMES.items() if all(one.voicing == 1 for one in segments))
_CONSONANTS = tuple(name for name in PHONEMES if name not in _VOWELS)
_SYLLABLE = tuple(  # in letters: what it begins with, its vowel, what it ends with
    tuple(part.split())
    for part in (
        "b bl br ch d dr f fl g gl gr h j k kl l m n p pl pr r s sh sk sl sm st str t tr v w y z",
        "a ar ay e ee er i ie o oa oo or ow u",
        "b ck d ft g k l lt m mp n nd ng nk p r rk s sh st t v x",
    )
)

Phrase = tuple[str, ...]


def num_phrases(part: str) -> int:
    """What each voice says."""
    return WORDS_PER_VOICE + SENTENCES_PER_VOICE + INVENTED_PER_VOICE[part]


def write_phrases(folder: Path, *, maker: str, part: str, num_voices: int, seed: int, progress: Progress) -> None:
    """Writes num_voices x num_phrases(part) clips, WORDS_OF_IT/VOICE_nohash_0.wav, 16 kHz PCM_16: all or nothing.

    Voice `number` of part "train" by the maker "synthetic" is that of `write_synthetic` with the same seed: what tells
    its digits from its other words is then nothing but the words. Fifty voices of "test" say 30 to 40 minutes.

    Args:
        maker: "synthetic", the formant synthesiser, or "espeak".
        part: "train" or "test".

    Raises InputError where espeak-ng is wanted and is not installed, or fails.
    """
    total = num_voices * num_phrases(part)
    with whole_folder(folder) as partial:
        _MAKERS[maker](partial, part, num_voices, seed, lambda voices: progress(voices * total // num_voices, total))


def _with_synthesiser(folder: Path, part: str, num_voices: int, seed: int, done: Callable[[int], None]) -> None:
    with workers.pool(workers.num_cores()) as pool:
        voices = [pool.submit(_synthesise_voice, folder, part, number, seed) for number in range(1, num_voices + 1)]
        for number, voice in enumerate(as_completed(voices), start=1):
            voice.result()
            done(number)


def _synthesise_voice(folder: Path, part: str, number: int, seed: int) -> None:
    """Writes what one voice says, a function of (seed, part, number) alone."""
    rng = np.random.default_rng([seed, number, PARTS.index(part)])
    voice = make_voice(seed, number + 100_000 * PARTS.index(part))
    for phrase in _script([(word,) for word in SPELLINGS[part]], word_salads(part), rng):
        _write(folder, phrase, f"synthetic-{part}-{number:03d}", _synthesise(phrase, part, voice, rng))
    for _ in range(INVENTED_PER_VOICE[part]):
        phonemes = invented_phonemes(rng)
        name = "-".join(phonemes).lower()
        _write(folder, (name,), f"synthetic-{part}-{number:03d}", synthesise(phonemes, voice, rng))


def invented_phonemes(rng: np.random.Generator) -> Phrase:
    """One to four syllables drawn from the synthesiser's inventory, in which no digit is said."""
    digits = [f" {spelled} " for variants in PRONUNCIATIONS.values() for spelled in variants]
    while True:
        word: list[str] = []
        for _ in range(rng.choice([1, 2, 3, 4], p=[0.4, 0.35, 0.15, 0.1])):
            word += [str(rng.choice(_CONSONANTS))] * int(rng.random() < 0.85)
            word += [str(rng.choice(_VOWELS))]
            word += [str(rng.choice(_CONSONANTS))] * int(rng.random() < 0.6)
        if len(word) > 1 and not any(digit in f" {' '.join(word)} " for digit in digits):
            return tuple(word)


def invented_letters(rng: np.random.Generator) -> str:
    """Two to four syllables in letters, for a voice that reads."""
    return "".join(str(rng.choice(letters)) for _ in range(rng.integers(2, 5)) for letters in _SYLLABLE)


def word_salads(part: str) -> list[Phrase]:
    """Sixty sentences without sense, the same for every seed: few words of the written sentences are spelled."""
    rng, words = np.random.default_rng(PARTS.index(part)), list(SPELLINGS[part])
    return [tuple(rng.choice(words, rng.integers(4, 9), replace=False)) for _ in range(60)]


def _synthesise(phrase: Phrase, part: str, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """f32[t] in [-1, 1] at 16 kHz: the words one after another, with short pauses if there are several."""
    if len(phrase) > 1:
        voice = dataclasses.replace(voice, max_lead_seconds=0.1, knocks=voice.knocks / len(phrase))
    return np.concatenate([synthesise(SPELLINGS[part][word], voice, rng) for word in phrase])


def _with_espeak(folder: Path, part: str, num_voices: int, seed: int, done: Callable[[int], None]) -> None:
    arguments = [str(folder), f"--part={part}", f"--voices={num_voices}", f"--seed={seed}"]
    in_own_process("audiojax.data.phrases", arguments, num_voices, lambda number, _: done(number))


_MAKERS = {"synthetic": _with_synthesiser, "espeak": _with_espeak}


def _main() -> None:
    """The process that speaks with espeak-ng: everything in one order, so that a seed always gives the same bytes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part")
    parser.add_argument("--voices", type=int)
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    espeak = Espeak(args.seed)
    variants = variants_of(args.part, espeak.variants())
    words = [(word,) for word in WORDS[args.part]]
    for number in range(1, args.voices + 1):
        rng = np.random.default_rng([args.seed, number, PARTS.index(args.part)])
        speaker = Speaker(espeak, variants, rng)
        for phrase in _script(words, SENTENCES[args.part], rng):
            clip = speaker.say(" ".join(phrase), RATE_HZ, _LONGEST_SECONDS)
            _write(args.folder, phrase, f"espeak-{args.part}-{number:03d}", clip)
        for _ in range(INVENTED_PER_VOICE[args.part]):
            word = invented_letters(rng)
            clip = speaker.say(word, RATE_HZ, _LONGEST_SECONDS)
            _write(args.folder, (word,), f"espeak-{args.part}-{number:03d}", clip)
        print(number, flush=True)


def variants_of(part: str, variants: list[str]) -> list[str]:
    """The variants of espeak-ng's that speak in `part`: every third family, as iven, iven2 and iven3, tests."""
    families = {variant: re.sub(r"\d+$", "", variant).lower() for variant in variants}
    tests = sorted(set(families.values()))[::3]
    return [variant for variant in variants if (families[variant] in tests) == (part == "test")]


def _script(words: Sequence[Phrase], sentences: Sequence[Phrase], rng: np.random.Generator) -> Iterator[Phrase]:
    """What one voice says, drawn from all that may be said."""
    for phrases, number in ((words, WORDS_PER_VOICE), (sentences, SENTENCES_PER_VOICE)):
        for index in rng.choice(len(phrases), number, replace=False):
            yield phrases[index]


def _write(folder: Path, phrase: Phrase, voice: str, clip: np.ndarray) -> None:
    path = folder / "_".join(phrase) / f"{voice}_nohash_0.wav"
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, clip, RATE_HZ, subtype="PCM_16")


if __name__ == "__main__":
    _main()
