"""Every key there is, the grammar of a config's argument, and what configs share.

A run is its config: each section is handed whole to one function, which refuses a key that it does not read.
"""

import functools
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict as ConfigDict

from audiojax import schema
from audiojax.errors import InputError
from audiojax.rules import one_of

GRAMMAR = "[SOURCE][,split=random|official|folds|speaker][,fold=K][,recipe=NAME][,runlocal]"

# Keys that say where files lie on this machine.
PATHS = ("data.root", "data.extra_root", "data.cache", "streams.real", "init_from")

# Keys of networks that saved configs of before them lack, and the values by which those were computed.
LATER_MODEL_KEYS = {"normalise_decay": 0.98, "dtype": "float32", "kernels": "auto"}


class Choice(NamedTuple):
    """A config's argument, taken apart."""

    source: str
    split: str
    fold: int
    recipe: str
    runlocal: bool


def parse_arg(arg: str, recipes: tuple[str, ...] = ()) -> Choice:
    """What follows the colon of `--config configs/NAME.py:...`, by `GRAMMAR`; raises InputError for anything else."""
    source, rest = "synthetic", [word for word in (arg or "").split(",") if word]
    if rest and "=" not in rest[0] and rest[0] != "runlocal":
        source = rest.pop(0)
    one_of("the config's source", source, tuple(schema.SOURCES))
    words = {"split": schema.SOURCES[source].split, "fold": "0", "recipe": "default", "runlocal": ""}
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in words or bool(equals) == (name == "runlocal"):
            raise InputError(f"the config's argument {arg!r} has {word!r}; its form is {GRAMMAR}.")
        words[name] = value or "yes"
    if not words["fold"].isdecimal():
        raise InputError(f"the config's argument {arg!r} has fold={words['fold']}; a fold is a number from 0.")
    one_of("the config's split", words["split"], schema.RULES["split.name"])
    one_of("the config's recipe", words["recipe"], ("default", *recipes))
    return Choice(source, words["split"], int(words["fold"]), words["recipe"], bool(words["runlocal"]))


def is_trial(arg: str) -> bool:
    """Returns whether a config's argument asks for a trial run."""
    return "runlocal" in arg.split(",")


def base(choice: Choice) -> ConfigDict:
    """All keys, with the values that most runs share."""
    config = ConfigDict()
    config.task = "clips"  # one label a clip; or "streams": words as they end, in sound without end
    config.seed = 0  # of the parameters, the order of clips and the augmentation
    config.init_from = ""  # a workdir whose best parameters to start from; with other labels, all but the last layer's
    config.data = dict(
        source=choice.source,
        root="",  # the data set's folder; the synthetic one makes its own; for "hub" also a name, as OWNER/NAME
        revision="",  # of a data set that is named: a commit, a branch or a tag; its newest state for ""
        cache=str(cache_dir()),  # where prepared clips are kept
        rate_hz=8000,
        target="digit",  # what is learnt: the source's own labels; "sex", of who speaks; or what SOURCES name
        on_bad_file="stop",  # or "skip": go on without it, and say so
        extra_source="",  # another source, of which every clip is learnt as well; nothing is scored on it
        extra_root="",
    )
    config.synthetic = dict(num_voices=20, num_takes=15, seed=1)
    config.split = dict(
        name=choice.split,
        fold=choice.fold,
        seed=0,  # of the split "random", and of what the two keys below take
        num_speakers=0,  # to learn from; 0 takes all
        num_clips=0,  # of each part at most, all labels alike; 0 takes all
    )
    config.train = dict(
        batch_size=20,
        length_samples=8000,  # of all clips, or of the longest bucket
        bucket_samples=(),  # the shorter lengths, for a network that takes any
        placement="start",  # of a clip in them; or "random": drawn once a clip
        num_epochs=5,
        label_smoothing=0.0,
        ema_decay=0.0,  # of the average of the parameters that is scored and used; 0 takes them as they are
        log_every_steps=10,  # steps between two rows of metrics.jsonl, for which the host waits for the device
    )
    config.optimizer = dict(
        algorithm="sgd",
        schedule="cosine",
        learning_rate=0.01,
        warmup_steps=50,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.0,
        clip_norm=0.0,
    )
    config.augment = dict(
        max_margin_samples=0,
        tempo=0.0,
        speed=0.0,
        max_offset_samples=0,
        gain_db=0.0,
        noise_snr_db=(0.0, 0.0),
        filter_db=0.0,
    )
    config.streams = dict(  # where task is "streams"
        steps_per_epoch=0,  # of training between two scores; 0 where clips are learnt
        synthetic_sources=(),  # synthetic sources whose words are learnt beside those of config.data.source
        negative_sources=(),  # synthetic voices that speak anything but the words: "synthetic", "espeak", "letters"
        num_strings=0,  # of words, on which an epoch is scored
        real="",  # a folder of real recordings with an index.csv, see `data.real`, to train on besides; "" for none
        real_rooms="train",  # which recordings of rooms to train on: those for training, "none", a half of all
        shares=(0.5525, 0.2975, 0.0525, 0.0975),  # digits, digits and other speech, that alone, no speech
        synthetic_words=0.4,  # the share of scenes with words whose words are of streams.synthetic_sources
        real_words=0.35,  # ... of streams.real
        real_speech=0.75,  # the share of other speech that is of streams.real
        real_noise=0.65,  # the share of scenes with noise of streams.real
        snr_db=(0.0, 30.0),  # of words against noise
        fresh_share=0.0,  # the share of segments that start from the initial state
        repeat_share=0.0,  # the share of words that are the last one once more
        overlap_seconds=0.0,  # by which words without a pause overlap, at most
        connected_share=0.0,  # the share of scenes of digits alone that are read aloud like a telephone number
        word_weight=1.0,  # of the loss of the steps at which a word has just ended
        false_alarm_hours=0.0,  # of silence, noise and other speech, each, by which a finished run is judged
    )
    config.decoder = dict(threshold=0.4, ema_decay=0.6, refractory_steps=7)  # see `decoder.Decoder`
    config.wandb = dict(mode="auto", project="audiojax", name="")
    config.mesh = dict(coordinator="", num_processes=1, process_id=0)  # of several hosts, see `mesh.connect`
    return config


def recurrent_model() -> dict[str, Any]:
    """The model section of a recurrent network, all keys."""
    return dict(
        name="gru",
        frontend="logmel",
        window_samples=200,
        hop_samples=80,
        num_bands=40,
        low_hz=50.0,
        high_hz=4000.0,
        normalise="running",
        normalise_decay=0.98,
        cell="gru",
        features=88,
        num_layers=2,
        memory_frames=0,
        dropout=0.3,
        readout="last_and_mean",
        mask_padding=True,
        stack_frames=1,
        dense=0,
        dtype="float32",
        kernels="auto",
    )


TRIAL_VOICES, TRIAL_TAKES = 8, 3
# How networks for sound of any length hear a clip in training, each time otherwise.
ANY_LENGTH_AUGMENT = dict(tempo=0.5, speed=0.15, gain_db=10.0, noise_snr_db=(10.0, 40.0), filter_db=12.0)


def train_any_length(config: ConfigDict, source: str, num_epochs: int) -> None:
    """How networks for sound of any length are trained: clips of like length together, the parameters averaged."""
    config.train.update(num_epochs=num_epochs, batch_size=20, label_smoothing=0.1, ema_decay=0.999)
    config.train.update(length_samples=8800, bucket_samples=schema.SOURCES[source].bucket_samples)
    config.optimizer.update(learning_rate=0.05, clip_norm=1.0)


def split_reads_seed(config: ConfigDict) -> bool:
    """Returns whether `split.seed` changes the split of `config`; folds and official splits are fixed."""
    return config.split.name == "random" or config.split.num_speakers > 0 or config.split.num_clips > 0


class Renamed(NamedTuple):
    """A key whose name or meaning was another one in earlier versions."""

    old: str
    new: str
    values: tuple[tuple[Any, Any], ...] = ()  # of the old key and the new one, where they differ
    stays: bool = False  # the old key still exists, and gives the new one its value where that is absent


RENAMED = (
    Renamed("train.average_decay", "train.ema_decay"),
    Renamed("decoder.keep", "decoder.ema_decay"),
    Renamed("decoder.apart_steps", "decoder.refractory_steps"),
    Renamed("model.listens", "task", ((False, "clips"), (True, "streams"))),
    Renamed("data.also", "data.extra_source"),
    Renamed("data.also_root", "data.extra_root"),
    Renamed("streams.voices", "streams.synthetic_sources"),
    Renamed("streams.phrases", "streams.negative_sources"),
    Renamed("streams.alarm_hours", "streams.false_alarm_hours"),
    Renamed("seed", "split.seed", stays=True),  # one seed decided the split too
)


def migrate(config: dict[str, Any]) -> None:
    """Gives the keys of an older config.json their present names; prints one notice about them."""
    found = []
    for key in RENAMED:
        (section, _, old), (new_section, _, new) = key.old.rpartition("."), key.new.rpartition(".")
        theirs = config.get(section, {}) if section else config
        if old in theirs:
            value = theirs[old] if key.stays else theirs.pop(old)
            ours = config.setdefault(new_section, {}) if new_section else config
            ours.setdefault(new, dict(key.values)[value] if key.values else value)
            found.append(key)
    _notice(key for key in found if not key.stays)


def with_new_names(flags: Sequence[str]) -> list[str]:
    """Returns `--config.KEY=VALUE` flags with the present names of keys; prints one notice about those replaced."""
    renamed = {key.old: key for key in RENAMED if not key.stays}
    found, replaced = [], list(flags)
    for i, flag in enumerate(flags):
        match = re.match(r"--(?P<no>no)?config\.(?P<key>[\w.]+)(?P<value>=.*)?$", flag, re.DOTALL)
        if match and (key := renamed.get(match["key"])):
            value = match["value"] or ""
            if key.values:
                value = f"={dict(key.values)[not match['no'] and value.lower() in ('', '=true', '=1')]}"
            replaced[i] = f"--config.{key.new}{value}"
            found.append(key)
    _notice(found)
    return replaced


def _notice(found: Iterable[Renamed]) -> None:
    if names := ", ".join(f"config.{key.old} is now config.{key.new}" for key in found):
        _print_once(f"audiojax: notice: {names}.")


@functools.cache
def _print_once(text: str) -> None:
    print(text, file=sys.stderr)


def batch_shape(config: ConfigDict) -> dict[str, Any]:
    """What all of a run's batches share."""
    return {key: config.train[key] for key in ("batch_size", "length_samples", "bucket_samples", "placement")}


def shrink(config: ConfigDict) -> ConfigDict:
    """The same config for a trial run in about a minute: few epochs on few clips, of its own source."""
    config.synthetic.update(num_voices=TRIAL_VOICES, num_takes=TRIAL_TAKES)
    if not schema.SOURCES[config.data.source].synthesiser:
        config.split.num_clips = 10 * TRIAL_VOICES * TRIAL_TAKES
    num_epochs = 20 if config.train.bucket_samples else 8  # networks for any length take the shorter steps
    config.train.update(batch_size=20, num_epochs=num_epochs, log_every_steps=1)
    config.train.bucket_samples = config.train.bucket_samples[-1:]  # each length is compiled
    return config


def cache_dir() -> Path:
    """Where audiojax keeps what it can make again: $AUDIOJAX_CACHE, or audiojax in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("AUDIOJAX_CACHE") or Path(home) / "audiojax").expanduser().resolve()


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"section.key": value} of nested dicts, tuples as the lists that JSON has."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def check(config: ConfigDict) -> None:
    """Raises InputError for the first key whose value is out of its range, see `schema`."""
    flat = flatten(config.to_dict())
    if renamed := [key for key in RENAMED if key.old in flat and not key.stays]:
        raise InputError(f"config.{renamed[0].old} is now config.{renamed[0].new}; give that name in the config.")
    schema.check(flat)
