"""All config keys with their defaults, the grammar of a config's argument, and settings that several configs share.

A config describes a run completely. Each section is passed to one function as its keyword arguments.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict as ConfigDict

from audiojax import schema
from audiojax.errors import InputError
from audiojax.renamed import RENAMED
from audiojax.rules import one_of

GRAMMAR = "[SOURCE][,split=random|official|folds|speaker][,fold=K][,recipe=NAME][,runlocal]"

# Keys whose values are paths on this machine.
PATHS = ("data.root", "data.extra_root", "data.cache", "streams.real", "streams.strings", "init_from")

# Keys of folders of training recordings: while a run is interrupted, a folder may move, but not appear or disappear.
TRAINING_FOLDERS = ("streams.real", "streams.strings")

# Keys of networks that older saved configs lack, with the values that reproduce those runs.
LATER_MODEL_KEYS = {"normalise_decay": 0.98, "dtype": "float32", "kernels": "auto", "counts": False, "mask_bands": 0}


class Choice(NamedTuple):
    """The parsed argument of a config, which is the text after the colon in `--config FILE.py:ARGUMENT`.

    It has the data source, the split, the number of the fold or test speaker, the recipe (a named variant of the
    config), and whether a trial run is requested.
    """

    source: str
    split: str
    fold: int
    recipe: str
    runlocal: bool


def parse_arg(arg: str, recipes: tuple[str, ...] = ()) -> Choice:
    """Parses a config's argument, the text after the colon in `--config configs/NAME.py:...`; its form is `GRAMMAR`.

    `recipes` are the recipes that the config has besides "default". Raises InputError for an invalid argument.
    """
    source, rest = "synthetic", [word for word in (arg or "").split(",") if word]
    if rest and "=" not in rest[0] and rest[0] != "runlocal":
        source = rest.pop(0)
    one_of("the config's source", source, tuple(schema.SOURCES))
    words = {"split": schema.SOURCES[source].split, "fold": "0", "recipe": "default", "runlocal": ""}
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in words or bool(equals) == (name == "runlocal"):
            raise InputError(f"the config's argument {arg!r} contains {word!r}; its form is {GRAMMAR}.")
        words[name] = value or "yes"
    if not words["fold"].isdecimal():
        raise InputError(f"the config's argument {arg!r} has fold={words['fold']}; give a whole number, 0 or above.")
    one_of("the config's split", words["split"], schema.RULES["split.name"])
    one_of("the config's recipe", words["recipe"], ("default", *recipes))
    return Choice(source, words["split"], int(words["fold"]), words["recipe"], bool(words["runlocal"]))


def is_trial(arg: str) -> bool:
    """Returns whether a config's argument has the word "runlocal", which asks for a trial run of about a minute."""
    return "runlocal" in arg.split(",")


def base(choice: Choice) -> ConfigDict:
    """Returns a config for the source and split of `choice`: all keys but those of the network, with their defaults."""
    config = ConfigDict()
    config.task = "clips"  # the task: "clips", one label per clip, or "streams", an event for each word in a stream
    config.seed = 0  # seed of the initial parameters, the order of clips and the augmentation
    config.init_from = ""  # workdir of a run to start from, with its parameters but not its last layer if labels differ
    config.init_checkpoint = "best"  # its checkpoint to start from, "best" or "last"
    config.data = dict(
        source=choice.source,  # the source of the clips
        root="",  # folder of the data set; unused by synthetic sources; for "hub" also a name, OWNER/NAME
        revision="",  # for "hub", the commit, branch or tag; '' for the newest
        cache=str(cache_dir()),  # folder for prepared clips
        rate_hz=8000,  # sampling rate to which all sound is converted
        target="digit",  # labels: "digit" (those of the source), "sex", or "words35" and "words12" of Speech Commands
        on_bad_file="stop",  # "stop" ends the command at an unreadable file, "skip" leaves it out with a message
        extra_source="",  # another source, whose clips are all added to the training clips; '' for none
        extra_root="",  # folder of the extra source
    )
    config.synthetic = dict(  # the clips of synthetic sources
        num_voices=20,  # number of voices
        num_takes=15,  # clips of each digit by each voice
        seed=1,  # seed of the voices and clips
    )
    config.split = dict(  # how clips are divided into training, validation and test clips
        name=choice.split,  # "random" over clips, "official" lists, "folds" over speakers, "speaker" to test on one
        fold=choice.fold,  # number of the fold or test speaker, from 0
        seed=0,  # seed of the split "random", and of the selections by the two keys below
        num_speakers=0,  # number of speakers to train on; 0 for all
        num_clips=0,  # maximum number of clips of each part, balanced over labels; 0 for all
    )
    _add_training(config)
    _add_streams(config)
    _add_environment(config)
    return config


def _add_training(config: ConfigDict) -> None:
    config.train = dict(
        batch_size=20,  # clips per training step, or streams if task is "streams"
        length_samples=8000,  # length to which clips are padded or cropped; if task is "streams", length of a segment
        bucket_samples=(),  # shorter lengths, for networks that take any length: clips of similar length share a batch
        placement="start",  # position of a clip in its row: "start", or "random", sampled once for each clip
        num_epochs=5,  # number of epochs
        label_smoothing=0.0,  # share of the target probability that is spread over all labels
        ema_decay=0.0,  # decay of the moving average of the parameters, which is evaluated; 0 for no average
        log_every_steps=10,  # steps between two rows of metrics.jsonl, for each of which the host waits for the device
    )
    config.optimizer = dict(
        algorithm="sgd",  # "sgd" with momentum, "adam", or "adamw" with decoupled weight decay
        schedule="cosine",  # learning rate after the warm-up: "cosine" to 0, "constant", or "halving" every quarter
        learning_rate=0.01,  # peak learning rate
        warmup_steps=50,  # steps of the linear warm-up, at most half of the run
        momentum=0.9,  # decay of the momentum, or of Adam's first moment
        nesterov=False,  # whether the momentum is Nesterov's
        weight_decay=0.0,  # factor of the weight decay, which spares biases and scales
        clip_norm=0.0,  # maximum global norm of the gradient; 0 for no limit
    )
    config.augment = dict(  # random augmentation of training clips; 0, or an empty range, disables a part
        max_margin_samples=0,  # upper bound of the random margins around the word: crops or zero-pads the clip
        tempo=0.0,  # tempo perturbation at constant pitch, by a factor from 1 / (1 + tempo) to 1 + tempo
        speed=0.0,  # speed perturbation, with pitch and formants, by a factor from 1 / (1 + speed) to 1 + speed
        max_offset_samples=0,  # upper bound of the random silence before the clip, in samples
        gain_db=0.0,  # maximum gain or attenuation, in dB
        noise_snr_db=(0.0, 0.0),  # range of the signal-to-noise ratio of added noise, in dB
        recorded_noise=0.0,  # share of clips to which recorded instead of white noise is added, for speech_commands
        filter_db=0.0,  # maximum gain of a random equaliser that simulates another microphone, in dB
    )


def _add_streams(config: ConfigDict) -> None:
    config.streams = dict(  # the training streams, if task is "streams"
        steps_per_epoch=0,  # training steps between two evaluations; 0 if task is "clips"
        synthetic_sources=(),  # synthetic sources whose words are added to those of data.source
        negative_sources=(),  # synthetic speech without the words to recognise: "synthetic", "espeak", "letters"
        num_strings=0,  # number of word strings on which each epoch is evaluated
        real="",  # folder of real recordings to add, with an index.csv, see `audiojax.data.real`; '' for none
        shares=(0.5525, 0.2975, 0.0525, 0.0975),  # shares of scenes: words; words, other speech; other speech; neither
        synthetic_words=0.4,  # share of the scenes with words that take them from streams.synthetic_sources
        real_words=0.35,  # share of the scenes with words that take them from streams.real
        real_speech=0.75,  # share of the other speech that is from streams.real
        real_noise=0.65,  # share of the scenes with noise that take it from streams.real
        real_rooms="train",  # recordings of rooms without speech to train on, see `audiojax.data.real.split`
        snr_db=(0.0, 30.0),  # range of the signal-to-noise ratio, in dB
        fresh_share=0.0,  # share of segments that begin with the network's initial state, as a new stream does
        onset_share=0.0,  # share of the segments of streams.fresh_share that are cropped to begin with a word
        repeat_share=0.0,  # share of words that repeat the previous word
        overlap_seconds=0.0,  # maximum overlap of words without a pause between them
        connected_share=0.0,  # share of the scenes with words only that imitate a telephone number read aloud
        strings="",  # folder of recordings of several words to add, see `audiojax.data.strings`; '' for none
        strings_share=0.0,  # share of the scenes that take their speech from streams.strings
        coded_share=0.0,  # share of the scenes that are compressed as GSM, Opus, Vorbis or MP3
        word_weight=1.0,  # weight in the loss of steps at which a word has just ended
        false_alarm_hours=0.0,  # hours each of silence, noise and other speech on which the finished run is tested
    )
    config.decoder = dict(  # how events are found in a streaming network's outputs, see `audiojax.streaming.decoder`
        threshold=0.4,  # threshold of the averaged probability of a word, above which an event is emitted
        ema_decay=0.6,  # decay of the moving average of the probabilities, per step
        refractory_steps=7,  # refractory period: minimum steps between the events of two words without a pause
    )


def _add_environment(config: ConfigDict) -> None:
    config.wandb = dict(  # logging to Weights & Biases
        mode="auto",  # "auto" is online with an API key and offline without one; $WANDB_MODE takes precedence
        project="audiojax",  # name of the project
        name="",  # name of the run; '' for the workdir's
    )
    config.mesh = dict(  # runs of several processes, see `audiojax.training.sharding`
        coordinator="",  # address of process 0; "auto" asks the cluster; '' for one process
        num_processes=1,  # number of processes
        process_id=0,  # number of this process, from 0
    )


# The functions that fill a config, whose comments are the text of the config reference, see `reference`.
SECTIONS = (base, _add_training, _add_streams, _add_environment)


def recurrent_model() -> dict[str, Any]:
    """Returns the settings {key: value} of a GRU network on log-mel frames, for the section `model` of a config."""
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
        mask_bands=0,
        cell="gru",
        features=88,
        num_layers=2,
        memory_frames=0,
        dropout=0.3,
        readout="last_and_mean",
        mask_padding=True,
        stack_frames=1,
        dense=0,
        counts=False,
        dtype="float32",
        kernels="auto",
    )


TRIAL_VOICES, TRIAL_TAKES = 8, 3
# The augmentation of clips for networks for sound of any length.
ANY_LENGTH_AUGMENT = dict(tempo=0.5, speed=0.15, gain_db=10.0, noise_snr_db=(10.0, 40.0), filter_db=12.0)


def train_any_length(config: ConfigDict, source: str, num_epochs: int) -> None:
    """Sets the keys of `config` for training a network that takes sound of any length, for `num_epochs` epochs.

    Each batch has clips of similar length, by the bucket lengths of `source`; the parameters are averaged over steps.
    """
    config.train.update(num_epochs=num_epochs, batch_size=20, label_smoothing=0.1, ema_decay=0.999)
    config.train.update(length_samples=8800, bucket_samples=schema.SOURCES[source].bucket_samples)
    config.optimizer.update(learning_rate=0.05, clip_norm=1.0)


def split_reads_seed(config: ConfigDict) -> bool:
    """Returns whether `split.seed` changes the split of `config`; folds and official splits are fixed."""
    return config.split.name == "random" or config.split.num_speakers > 0 or config.split.num_clips > 0


def batch_shape(config: ConfigDict) -> dict[str, Any]:
    """Returns the values of `config.train` that set the shape of batches, as keyword arguments of `data.batches`."""
    return {key: config.train[key] for key in ("batch_size", "length_samples", "bucket_samples", "placement")}


def shrink(config: ConfigDict) -> ConfigDict:
    """Changes a config to a trial run of about a minute: few epochs on few clips of the same source. Returns it."""
    config.synthetic.update(num_voices=TRIAL_VOICES, num_takes=TRIAL_TAKES)
    if not schema.SOURCES[config.data.source].synthesiser:
        config.split.num_clips = 10 * TRIAL_VOICES * TRIAL_TAKES
    num_epochs = 20 if config.train.bucket_samples else 8  # networks for any length have faster steps
    config.train.update(batch_size=20, num_epochs=num_epochs, log_every_steps=1)
    config.train.bucket_samples = config.train.bucket_samples[-1:]  # each length is compiled
    return config


def cache_dir() -> Path:
    """Returns the cache folder: $AUDIOJAX_CACHE, or audiojax in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("AUDIOJAX_CACHE") or Path(home) / "audiojax").expanduser().resolve()


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts to {"section.key": value}, with lists in the place of tuples, as in JSON.

    Each name in the result starts with `prefix`.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def check(config: ConfigDict) -> None:
    """Raises InputError for the first key of `config` that is unknown or renamed, or whose value is invalid."""
    flat = flatten(config.to_dict())
    if renamed := [key for key in RENAMED if key.old in flat and not key.stays]:
        raise InputError(f"config.{renamed[0].old} is now config.{renamed[0].new}; give that name in the config.")
    schema.check(flat)
