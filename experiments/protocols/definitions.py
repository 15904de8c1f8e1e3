"""The evaluation protocols: their runs, in order, and the data that each is tested on."""

from collections.abc import Mapping
from typing import NamedTuple

NONE: Mapping[str, object] = {}


class Run(NamedTuple):
    """One run of a protocol."""

    name: str  # within its protocol
    arg: str  # argument of the config, after the colon
    seed: int = 0
    overrides: Mapping[str, object] = NONE  # {key of the config: value}
    start: str = ""  # argument of the pretraining run, whose best parameters initialise this one
    tested_on: str = ""  # argument of another source; the run is tested on all of its clips


class Protocol(NamedTuple):
    """A protocol and its heading in tables."""

    about: str
    runs: tuple[Run, ...]


def _folds(number: int, arg: str, **more) -> tuple[Run, ...]:
    return tuple(Run(f"fold {fold}", arg.format(fold), **more) for fold in range(number))


def _seeds(arg: str, number: int = 5, **more) -> tuple[Run, ...]:
    return tuple(Run(f"seed {seed}", arg, seed, **more) for seed in range(number))


BECKER = "audiomnist,fold={}"
PROTOCOLS = {
    "folds": Protocol("AudioMNIST, reconstructed: Becker's five folds, speaker-disjoint", _folds(5, BECKER)),
    "sex": Protocol(
        "AudioMNIST, reconstructed: the speaker's sex, Becker's four folds of 24 speakers",
        _folds(4, BECKER, overrides={"data.target": "sex"}),
    ),
    "fsdd-random": Protocol("FSDD: random 80/20, all speakers in training and test set", _seeds("fsdd,split=random")),
    "fsdd-official": Protocol(
        "FSDD: takes 0 to 4, all speakers in training and test set", _seeds("fsdd,split=official")
    ),
    "fsdd-speaker": Protocol("FSDD: each of six speakers left out once", _folds(6, "fsdd,split=speaker,fold={}")),
    "fsdd-speaker-transfer": Protocol(
        "FSDD: each of six speakers left out once, pretrained on AudioMNIST, reconstructed",
        _folds(6, "fsdd,split=speaker,fold={}", start="audiomnist,fold=0"),
    ),
    "fsdd-speaker-both": Protocol(
        "FSDD: each of six speakers left out once, pretrained on AudioMNIST, reconstructed, then trained on both",
        _folds(
            6,
            "fsdd,split=speaker,fold={}",
            start="audiomnist,fold=0",
            overrides={
                "data.extra_source": "audiomnist",
                "train.num_epochs": 1,
                "train.bucket_samples": (4000, 5280, 6000, 6800),
                "optimizer.learning_rate": 0.02,
            },
        ),
    ),
    "audiomnist-to-fsdd": Protocol(
        "AudioMNIST, reconstructed, to FSDD, zero-shot: the four speakers that are not development speakers",
        _folds(5, BECKER, tested_on="fsdd"),
    ),
    "fsdd-to-audiomnist": Protocol(
        "FSDD (official split) to AudioMNIST, reconstructed, zero-shot: all 60 speakers",
        _seeds("fsdd,split=official", tested_on="audiomnist"),
    ),
    "synthetic": Protocol("synthetic, 4 held-out voices", _seeds("synthetic", 3)),
}
