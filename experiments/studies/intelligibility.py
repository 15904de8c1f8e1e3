"""Intelligibility of the synthesiser: word accuracy of an independent recogniser, pocketsphinx, with ten words.

  pip install pocketsphinx && python -m experiments.studies.intelligibility

The sound has twenty takes of each digit by the neutral voice, at 16 kHz, with 0.2 s of faint noise before and after.
"""

import numpy as np
import pocketsphinx

from audiojax.synthesis import formant
from audiojax.synthesis.phonemes import DIGITS
from audiojax.synthesis.voices import NEUTRAL

NUM_TAKES = 20


def main() -> None:
    """Prints word accuracy and the confusions of each digit."""
    decoder = pocketsphinx.Decoder(lm=None, samprate=formant.RATE_HZ, loglevel="FATAL")
    decoder.add_jsgf_string("digits", f"#JSGF V1.0; grammar digits; public <word> = {' | '.join(DIGITS)};")
    decoder.activate_search("digits")
    counts = np.zeros((len(DIGITS), len(DIGITS) + 1), int)
    for label, word in enumerate(DIGITS):
        for take in range(NUM_TAKES):
            rng = np.random.default_rng([0, 0, label, take])
            sound = formant.synthesise(word, NEUTRAL, rng)
            faint = rng.normal(0, 1e-3, (2, formant.RATE_HZ // 5))
            samples = np.clip(np.concatenate([faint[0], sound, faint[1]]), -1, 1) * 32767
            decoder.start_utt()
            decoder.process_raw(samples.astype(np.int16).tobytes(), full_utt=True)
            decoder.end_utt()
            guess = decoder.hyp().hypstr.strip() if decoder.hyp() else ""
            counts[label, DIGITS.index(guess) if guess in DIGITS else -1] += 1
    print(f"recognised: {np.trace(counts[:, :-1]) / counts.sum():.1%} of {counts.sum()} clips of the neutral voice")
    for label, word in enumerate(DIGITS):
        others = ", ".join(f"{[*DIGITS, 'nothing'][k]} {n}" for k, n in enumerate(counts[label]) if n and k != label)
        print(f"  {word:<6} {counts[label, label]:>3} of {NUM_TAKES}   {others}")


if __name__ == "__main__":
    main()
