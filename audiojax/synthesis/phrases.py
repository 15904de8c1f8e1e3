"""Speech that names no digit, by the synthetic voices: a folder of words and sentences as the source `folder` reads it.

"train" and "test" share neither what is said, but for function words, nor who says it.
"""

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np

from audiojax.audio.signal import wav_file
from audiojax.io import workers
from audiojax.io.files import whole_folder, write_bytes
from audiojax.io.progress import Progress
from audiojax.synthesis.espeak import Espeak, Speaker, in_own_process, run_own_process
from audiojax.synthesis.formant import RATE_HZ, synthesise
from audiojax.synthesis.phrase_lists import SENTENCES, SPELLINGS, WORDS
from audiojax.synthesis.voices import Voice, make_voice

VERSION = 1  # raise it when the same seed would give another sound
PARTS = ("train", "test")
WORDS_PER_VOICE, SENTENCES_PER_VOICE = 32, 8
_LONGEST_SECONDS = 10.0  # far more than any sentence takes

Phrase = tuple[str, ...]


def write_phrases(folder: Path, *, maker: str, part: str, num_voices: int, seed: int, progress: Progress) -> None:
    """Writes num_voices x 40 clips, WORDS_OF_IT/VOICE_nohash_0.wav, 16 kHz PCM_16. It appears whole or not at all.

    Voice `number` of part "train" by the maker "synthetic" is that of `formant.write` with the same seed: what tells
    its digits from its other words is then nothing but the words. Fifty voices say 30 to 40 minutes.

    Args:
        maker: "synthetic", the formant synthesiser, "espeak", or "letters": espeak-ng, which spells names without O.
        part: "train" or "test".

    Raises InputError where espeak-ng is wanted and is not installed, or fails.
    """
    total = num_voices * (WORDS_PER_VOICE + SENTENCES_PER_VOICE)
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
    in_own_process("audiojax.synthesis.phrases", arguments, num_voices, lambda number, _: done(number))


def _with_letters(folder: Path, part: str, num_voices: int, seed: int, done: Callable[[int], None]) -> None:
    arguments = [str(folder), f"--part={part}", f"--voices={num_voices}", f"--seed={seed}", "--letters"]
    in_own_process("audiojax.synthesis.phrases", arguments, num_voices, lambda number, _: done(number))


_MAKERS = {"synthetic": _with_synthesiser, "espeak": _with_espeak, "letters": _with_letters}


def _main() -> None:
    """The process that speaks with espeak-ng: everything in one order, so that a seed always gives the same bytes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part")
    parser.add_argument("--voices", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--letters", action="store_true")
    args = parser.parse_args()
    espeak = Espeak(args.seed)
    variants = variants_of(args.part, espeak.variants())
    words = [(word,) for word in WORDS[args.part]]
    for number in range(1, args.voices + 1):
        rng = np.random.default_rng([args.seed, number, PARTS.index(args.part)])
        speaker = Speaker(espeak, variants, rng)
        script = _spelled(rng) if args.letters else _script(words, SENTENCES[args.part], rng)
        for phrase in script:
            clip = speaker.say(" ".join(phrase), RATE_HZ, _LONGEST_SECONDS)
            _write(args.folder, phrase, f"espeak-{args.part}-{number:03d}", clip)
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


def _spelled(rng: np.random.Generator) -> Iterator[Phrase]:
    """Returns sequences of letters, as many as a script has phrases. O is left out: it is a common name of zero."""
    letters = list("ABCDEFGHIJKLMNPQRSTUVWXYZ")
    found: set[Phrase] = set()
    while len(found) < WORDS_PER_VOICE + SENTENCES_PER_VOICE:
        phrase = tuple(str(letter) for letter in rng.choice(letters, rng.integers(1, 7)))
        if phrase not in found:
            found.add(phrase)
            yield phrase


def _write(folder: Path, phrase: Phrase, voice: str, clip: np.ndarray) -> None:
    path = folder / "_".join(phrase) / f"{voice}_nohash_0.wav"
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, wav_file(clip, RATE_HZ))


if __name__ == "__main__":
    run_own_process(_main)
