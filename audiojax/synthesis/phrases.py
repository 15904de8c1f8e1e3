"""Synthesises speech without digits: words and sentences in the layout of the source `folder`.

"train" and "test" have different voices, and share function words only.
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

VERSION = 1  # increment it when the same seed yields different sound
PARTS = ("train", "test")
WORDS_PER_VOICE, SENTENCES_PER_VOICE = 32, 8
_LONGEST_SECONDS = 10.0  # longer than any sentence

Phrase = tuple[str, ...]


def write_phrases(folder: Path, *, source: str, part: str, num_voices: int, seed: int, progress: Progress) -> None:
    """Writes 40 clips without digits by each voice, 32 words and 8 sentences, or 40 sequences of letters.

    The files are WORDS/VOICE_nohash_0.wav, 16 kHz, 16 bit; the folder is complete or absent. For "synthetic", the
    voices of "train" are those of the synthetic digits with the same seed, so that the voice does not reveal whether a
    word is a digit. Fifty voices yield 30 to 40 minutes.

    Args:
        folder: The folder to write.
        source: "synthetic" (formant synthesiser), "espeak", or "letters" (espeak-ng spelling letters except O).
        part: "train" or "test".
        num_voices: Number of voices.
        seed: Seed of voices and phrases.
        progress: Called with (done, total).

    Raises:
        InputError: espeak-ng is needed and is not installed, or it fails.
    """
    total = num_voices * (WORDS_PER_VOICE + SENTENCES_PER_VOICE)
    with whole_folder(folder) as partial:
        _WRITERS[source](partial, part, num_voices, seed, lambda voices: progress(voices * total // num_voices, total))


def _with_synthesiser(folder: Path, part: str, num_voices: int, seed: int, done: Callable[[int], None]) -> None:
    with workers.pool(workers.num_cores()) as pool:
        voices = [pool.submit(_synthesise_voice, folder, part, number, seed) for number in range(1, num_voices + 1)]
        for number, voice in enumerate(as_completed(voices), start=1):
            voice.result()
            done(number)


def _synthesise_voice(folder: Path, part: str, number: int, seed: int) -> None:
    """Writes the clips of one voice, a function of (seed, part, number)."""
    rng = np.random.default_rng([seed, number, PARTS.index(part)])
    voice = make_voice(seed, number + 100_000 * PARTS.index(part))
    for phrase in _script([(word,) for word in SPELLINGS[part]], word_salads(part), rng):
        _write(folder, phrase, f"synthetic-{part}-{number:03d}", _synthesise(phrase, part, voice, rng))


def word_salads(part: str) -> list[Phrase]:
    """Returns sixty random sequences of four to eight words without digits of "train" or "test", always the same.

    The formant synthesiser speaks them as sentences: it has no phonemes for most words of SENTENCES.
    """
    rng, words = np.random.default_rng(PARTS.index(part)), list(SPELLINGS[part])
    return [tuple(rng.choice(words, rng.integers(4, 9), replace=False)) for _ in range(60)]


def _synthesise(phrase: Phrase, part: str, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Returns f32[t] in [-1, 1] at 16 kHz: the words in sequence, with short pauses between them."""
    if len(phrase) > 1:
        voice = dataclasses.replace(voice, max_lead_seconds=0.1, knocks=voice.knocks / len(phrase))
    return np.concatenate([synthesise(SPELLINGS[part][word], voice, rng) for word in phrase])


def _with_espeak(folder: Path, part: str, num_voices: int, seed: int, done: Callable[[int], None]) -> None:
    arguments = [str(folder), f"--part={part}", f"--voices={num_voices}", f"--seed={seed}"]
    in_own_process("audiojax.synthesis.phrases", arguments, num_voices, lambda number, _: done(number))


def _with_letters(folder: Path, part: str, num_voices: int, seed: int, done: Callable[[int], None]) -> None:
    arguments = [str(folder), f"--part={part}", f"--voices={num_voices}", f"--seed={seed}", "--letters"]
    in_own_process("audiojax.synthesis.phrases", arguments, num_voices, lambda number, _: done(number))


_WRITERS = {"synthetic": _with_synthesiser, "espeak": _with_espeak, "letters": _with_letters}


def _main() -> None:
    """Runs in the process of espeak-ng: writes all clips in a fixed order, so that a seed gives the same bytes."""
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
            clip = speaker.synthesise(" ".join(phrase), RATE_HZ, _LONGEST_SECONDS)
            _write(args.folder, phrase, f"espeak-{args.part}-{number:03d}", clip)
        print(number, flush=True)


def variants_of(part: str, variants: list[str]) -> list[str]:
    """Returns those of the espeak-ng voices `variants` that speak `part`, "train" or "test".

    Every third family of voices, such as iven, iven2 and iven3, is for "test".
    """
    families = {variant: re.sub(r"\d+$", "", variant).lower() for variant in variants}
    tests = sorted(set(families.values()))[::3]
    return [variant for variant in variants if (families[variant] in tests) == (part == "test")]


def _script(words: Sequence[Phrase], sentences: Sequence[Phrase], rng: np.random.Generator) -> Iterator[Phrase]:
    """Samples the phrases of one voice without replacement."""
    for phrases, number in ((words, WORDS_PER_VOICE), (sentences, SENTENCES_PER_VOICE)):
        for index in rng.choice(len(phrases), number, replace=False):
            yield phrases[index]


def _spelled(rng: np.random.Generator) -> Iterator[Phrase]:
    """Samples different sequences of letters, as many as a script has phrases; without O, a common name of zero."""
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
