"""The protocols: which runs there are, in which order, and what they are heard on."""

from collections.abc import Mapping
from typing import NamedTuple

NONE: Mapping[str, object] = {}


class Run(NamedTuple):
    """One run of a protocol."""

    name: str  # within its protocol
    arg: str  # of the config, behind the colon
    seed: int = 0
    overrides: Mapping[str, object] = NONE  # {key of the config: value}
    start: str = ""  # the argument of a run with whose best parameters it begins; its other source's
    heard: str = ""  # the argument of another source, of which it is tested on every clip


class Protocol(NamedTuple):
    """What is asked of a recipe, and how a table says so."""

    about: str
    runs: tuple[Run, ...]


def _folds(number: int, arg: str, **more) -> tuple[Run, ...]:
    return tuple(Run(f"fold {fold}", arg.format(fold), **more) for fold in range(number))


def _seeds(arg: str, **more) -> tuple[Run, ...]:
    return tuple(Run(f"seed {seed}", arg, seed, **more) for seed in range(5))


BECKER = "audiomnist,fold={}"
PROTOCOLS = {
    "folds": Protocol("AudioMNIST, reconstructed: Becker's five folds, speakers never heard", _folds(5, BECKER)),
    "sex": Protocol(
        "AudioMNIST, reconstructed: the speaker's sex, Becker's four folds of 24 speakers",
        _folds(4, BECKER, overrides={"data.target": "sex"}),
    ),
    "fsdd-random": Protocol("FSDD: random 80/20, every speaker on both sides", _seeds("fsdd,split=random")),
    "fsdd-official": Protocol("FSDD: takes 0 to 4, every speaker on both sides", _seeds("fsdd,split=official")),
    "fsdd-speaker": Protocol("FSDD: each of six speakers left out once", _folds(6, "fsdd,split=speaker,fold={}")),
    "fsdd-speaker-transfer": Protocol(
        "FSDD: each of six speakers left out once, after AudioMNIST, reconstructed, was learnt",
        _folds(6, "fsdd,split=speaker,fold={}", start="audiomnist,fold=0"),
    ),
    "fsdd-speaker-both": Protocol(
        "FSDD: each of six speakers left out once, AudioMNIST, reconstructed, is learnt again beside the others",
        _folds(
            6,
            "fsdd,split=speaker,fold={}",
            start="audiomnist,fold=0",
            overrides={
                "data.also": "audiomnist",
                "train.num_epochs": 1,
                "train.bucket_samples": (4000, 5280, 6000, 6800),
                "optimizer.learning_rate": 0.02,
            },
        ),
    ),
    "audiomnist-to-fsdd": Protocol(
        "AudioMNIST, reconstructed, to FSDD unheard: the four speakers whom nobody looked at",
        _folds(5, BECKER, heard="fsdd"),
    ),
    "fsdd-to-audiomnist": Protocol(
        "FSDD (official split) to AudioMNIST, reconstructed, unheard: all 60 speakers",
        _seeds("fsdd,split=official", heard="audiomnist"),
    ),
    "synthetic": Protocol("synthetic, 4 voices never heard", (Run("seed 0", "synthetic"),)),
}
