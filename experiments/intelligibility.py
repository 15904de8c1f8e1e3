"""Whether a recogniser that knows nothing of our synthesiser understands it: pocketsphinx with a ten-word grammar.

  pip install pocketsphinx && python -m experiments.intelligibility

Twenty takes of each digit by the neutral voice, at pocketsphinx's 16 kHz, with a fifth of a second of faint noise
before and after.
"""

import numpy as np
import pocketsphinx

from audiojax.synthesis import formant
from audiojax.synthesis.phonemes import DIGITS
from audiojax.synthesis.voices import NEUTRAL

NUM_TAKES = 20


def main() -> None:
    decoder = pocketsphinx.Decoder(lm=None, samprate=formant.RATE_HZ, loglevel="FATAL")
    decoder.add_jsgf_string("digits", f"#JSGF V1.0; grammar digits; public <word> = {' | '.join(DIGITS)};")
    decoder.activate_search("digits")
    heard = np.zeros((len(DIGITS), len(DIGITS) + 1), int)
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
            heard[label, DIGITS.index(guess) if guess in DIGITS else -1] += 1
    print(f"understood: {np.trace(heard[:, :-1]) / heard.sum():.1%} of {heard.sum()} clips of the neutral voice")
    for label, word in enumerate(DIGITS):
        others = ", ".join(f"{[*DIGITS, 'nothing'][k]} {n}" for k, n in enumerate(heard[label]) if n and k != label)
        print(f"  {word:<6} {heard[label, label]:>3} of {NUM_TAKES}   {others}")


if __name__ == "__main__":
    main()
