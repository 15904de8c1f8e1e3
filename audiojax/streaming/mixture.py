"""The composition of training streams."""

from typing import NamedTuple


class Mixture(NamedTuple):
    """The composition of training streams; all shares are in [0, 1]. The fields are keys of `config.streams`.

    Attributes:
        shares: Shares of the scenes with words, with words and other speech, with other speech, and with neither.
        real_words: Share of the scenes whose words are real recordings.
        synthetic_words: Share of the other scenes with words by synthetic voices; the rest use the training clips.
        real_speech, real_noise: Share of the other speech that is recorded; share of the scenes with recorded noise.
        snr_db: Range of the signal-to-noise ratio in dB.
        fresh_share: Share of segments that begin with the state at the start of a stream.
        onset_share: Share of these segments that are cropped to begin with a word, if the scene has one; the segment
            after such a segment begins with that state, too.
        repeat_share: Share of words that repeat the previous word.
        overlap_seconds: Maximum overlap of words without a pause between them.
        connected_share: Share of the scenes without other speech that imitate a telephone number read aloud: one voice,
            fast, in groups with pauses.
        strings_share: Share of the scenes whose speech is from recordings of several words.
        coded_share: Share of the scenes that are compressed by a lossy codec.
        word_weight: Weight in the loss of steps at which a word has just ended.
    """

    shares: tuple[float, ...] = (0.5525, 0.2975, 0.0525, 0.0975)
    synthetic_words: float = 0.4
    real_words: float = 0.35
    real_speech: float = 0.75
    real_noise: float = 0.65
    snr_db: tuple[float, float] = (0.0, 30.0)
    fresh_share: float = 0.0
    onset_share: float = 0.0
    repeat_share: float = 0.0
    overlap_seconds: float = 0.0
    connected_share: float = 0.0
    strings_share: float = 0.0
    coded_share: float = 0.0
    word_weight: float = 1.0


SYNTHETIC_ONLY = Mixture()  # without real recordings; the default of `config.base`
