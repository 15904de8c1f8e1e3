"""The tables of data sources, config keys and networks; `check` validates a config. It does not import jax."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from audiojax.errors import InputError
from audiojax.rules import Items, Range, Rule, Text, check_together, number, one_of

ANY_TEXT = Text(r"(?s).*", "text")
BOOLEAN = (True, False)
SEED = Range(0, 2**31 - 1)
SHARE = Range(0, 1)
BELOW_ONE = Range(0, 1, open_high=True)
COUNT = Range(1, 1_000_000)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLIT_NAMES = ("random", "official", "folds", "speaker")


class Source(NamedTuple):
    """A source of clips, such as a data set: how to read, label, and download or synthesise it.

    Functions and modules are given by name, so that they are imported when they are used.
    """

    reader: str  # "module:function" of (root, on_bad_file, **keys), which returns `data.sources.Recordings`
    split: str = "random"  # the default split
    bucket_samples: tuple[int, ...] = (4400,)  # lengths of batches, except the longest, for networks of any length
    labels: tuple[str, ...] = ()  # in their order; () if they are found in the files
    download: str = ""  # "module:function" of (root, url), which fetches it; "" where there is nothing to fetch
    keys: tuple[str, ...] = ()  # keys of config.data that the reader takes, too
    targets: str = ""  # "module:function" of (clips, target), which labels them; "" where they have their own labels
    synthesiser: str = ""  # a module with `write` and `VERSION`, which synthesises the files; "" for recordings


SOURCES = {
    "synthetic": Source(
        "audiojax.data.sources:audiomnist",
        split="folds",
        bucket_samples=(5200, 6400, 7600),
        labels=DIGITS,
        synthesiser="audiojax.synthesis.formant",
    ),
    "audiomnist": Source(
        "audiojax.data.sources:audiomnist",
        split="folds",
        bucket_samples=(5280, 6000, 6800),
        labels=DIGITS,
        download="audiojax.data.download:audiomnist",
    ),
    "fsdd": Source(
        "audiojax.data.sources:fsdd",
        bucket_samples=(3200, 4000, 5200),
        labels=DIGITS,
        download="audiojax.data.download:fsdd",
    ),
    "folder": Source("audiojax.data.sources:folder"),
    "speech_commands": Source(
        "audiojax.data.speech_commands:read",
        split="official",
        download="audiojax.data.speech_commands:download",
        targets="audiojax.data.speech_commands:choose",
    ),
    "hub": Source(
        "audiojax.data.hub:read",
        split="official",
        bucket_samples=(5280, 6000, 6800),
        labels=DIGITS,
        download="audiojax.data.hub:download",
        keys=("revision",),
    ),
    "espeak": Source(
        "audiojax.data.sources:audiomnist", split="folds", labels=DIGITS, synthesiser="audiojax.synthesis.espeak"
    ),
}
SYNTHETIC_SOURCES = tuple(name for name, source in SOURCES.items() if source.synthesiser)

PLACEMENTS = ("start", "random")

DTYPES, KERNELS = ("float32", "bfloat16"), ("auto", "plain")

TARGETS = ("digit", "sex", "words35", "words12")

STREAM_SHARES = (
    "synthetic_words", "real_words", "real_speech", "real_noise", "fresh_share", "onset_share", "repeat_share",
    "connected_share", "strings_share", "coded_share",
)  # fmt: skip

RULES: dict[str, Rule] = {
    "task": ("clips", "streams"),
    "seed": SEED,
    "init_from": ANY_TEXT,
    "init_checkpoint": ("best", "last"),
    "data.source": tuple(SOURCES),
    "data.root": ANY_TEXT,
    "data.revision": ANY_TEXT,
    "data.cache": Text(r"(?s).+", "the path of a folder"),
    "data.rate_hz": Range(1000, 96_000),
    "data.target": TARGETS,
    "data.on_bad_file": ("stop", "skip"),
    "data.extra_source": ("", *SOURCES),
    "data.extra_root": ANY_TEXT,
    "synthetic.num_voices": Range(1, 99),
    "synthetic.num_takes": Range(1, 1000),
    "synthetic.seed": SEED,
    "split.name": SPLIT_NAMES,
    "split.fold": Range(0, 1_000_000),
    "split.seed": SEED,
    "split.num_speakers": Range(0, 1_000_000),
    "split.num_clips": Range(0, 1_000_000_000),
    "train.batch_size": COUNT,
    "train.length_samples": Range(128, 10_000_000),
    "train.bucket_samples": Items(Range(1, 10_000_000)),
    "train.placement": PLACEMENTS,
    "train.num_epochs": COUNT,
    "train.label_smoothing": BELOW_ONE,
    "train.ema_decay": BELOW_ONE,
    "train.log_every_steps": Range(1),
    "optimizer.algorithm": ("sgd", "adam", "adamw"),
    "optimizer.schedule": ("cosine", "constant", "halving"),
    "optimizer.learning_rate": Range(0, 1e30, open_low=True),
    "optimizer.warmup_steps": Range(0),
    "optimizer.momentum": BELOW_ONE,
    "optimizer.nesterov": BOOLEAN,
    "optimizer.weight_decay": SHARE,
    "optimizer.clip_norm": Range(0),
    "augment.max_margin_samples": Range(0, 10_000_000),
    "augment.tempo": SHARE,
    "augment.speed": SHARE,
    "augment.max_offset_samples": Range(0, 10_000_000),
    "augment.gain_db": Range(0, 60),
    "augment.noise_snr_db": Items(Range(-200, 200), 2),
    "augment.recorded_noise": SHARE,
    "augment.filter_db": Range(0, 60),
    "streams.steps_per_epoch": Range(0, 1_000_000),
    "streams.synthetic_sources": Items(SYNTHETIC_SOURCES),
    "streams.negative_sources": Items((*SYNTHETIC_SOURCES, "letters")),
    "streams.real": ANY_TEXT,
    "streams.real_rooms": ("train", "none", "first", "second"),
    "streams.shares": Items(SHARE, 4),
    **{f"streams.{name}": SHARE for name in STREAM_SHARES},
    "streams.snr_db": Items(Range(-200, 200), 2),
    "streams.overlap_seconds": Range(0, 0.2),
    "streams.strings": ANY_TEXT,
    "streams.word_weight": Range(0.1, 10),
    "streams.num_strings": Range(0, 100_000),
    "streams.false_alarm_hours": Range(0, 1000),
    "decoder.threshold": SHARE,
    "decoder.ema_decay": BELOW_ONE,
    "decoder.refractory_steps": Range(1, 1000),
    "wandb.mode": ("auto", "online", "offline", "disabled"),
    "wandb.project": ANY_TEXT,
    "wandb.name": ANY_TEXT,
    "mesh.coordinator": Text(r"|auto|\S+:\d+", "HOST:PORT, auto, or nothing for one process"),
    "mesh.num_processes": COUNT,
    "mesh.process_id": Range(0, 999_999),
}

_FRAMES: dict[str, Rule] = {
    "window_samples": Range(1, 100_000),
    "hop_samples": Range(1, 100_000),
    "num_bands": Range(1, 4096),
    "low_hz": Range(0, 48_000),
    "high_hz": Range(0, 48_000, open_low=True),
}
_CHANNELS = Range(1, 16_384)


class Network(NamedTuple):
    """A network: its class, a config that trains it, its settings, and what it supports.

    Modules are given by name, so that they are imported when they are used.
    """

    module: str  # "package.module:Class", a flax.linen.Module
    config: str  # a config that trains it
    fields: dict[str, Rule]  # the keys of the config's section `model`
    streams: bool = False  # whether config.task may be "streams"
    lrp: str = ""  # "package.module:function", the network as layers, for `explain`; "" if there are none
    onnx: str = ""  # "package.module", the network as an ONNX graph, for `export`; "" if there is none


NETWORKS = {
    "audionet": Network(
        "audiojax.models.audionet:AudioNet",
        "configs/cnn.py",
        {
            "variant": ("batch_norm", "becker"),
            "scale": ("rms", "percentile", "none"),
            "batch_norm": BOOLEAN,
            "dropout": BELOW_ONE,
            "relu_on_logits": BOOLEAN,
            "dtype": DTYPES,
            "kernels": KERNELS,
        },
        lrp="audiojax.attribution.lrp_layers.audionet:audionet_seam",
        onnx="audiojax.exporting.onnx_graphs.audionet",
    ),
    "gru": Network(
        "audiojax.models.gru:GRU",
        "configs/gru.py",
        _FRAMES
        | {
            "frontend": ("logmel", "filterbank", "learned", "raw"),
            "normalise": ("none", "fixed", "running"),
            "normalise_decay": BELOW_ONE,
            "mask_bands": Range(0, 1000),
            "cell": ("gru", "min_gru"),
            "features": _CHANNELS,
            "num_layers": Range(1, 100),
            "memory_frames": Range(0, 1_000_000),
            "dropout": BELOW_ONE,
            "readout": ("last", "mean", "running", "last_and_mean"),
            "mask_padding": BOOLEAN,
            "stack_frames": Range(1, 1000),
            "channels": Items(_CHANNELS),
            "dense": Range(0, 16_384),
            "counts": BOOLEAN,
            "dtype": DTYPES,
            "kernels": KERNELS,
        },
        streams=True,
        lrp="audiojax.attribution.lrp_layers.gru:gru_seam",
        onnx="audiojax.exporting.onnx_graphs.gru",
    ),
    "melcnn": Network(
        "audiojax.models.melcnn:MelCNN",
        "configs/spectrogram.py",
        _FRAMES
        | {
            "frontend": ("logmel", "filterbank", "learned"),
            "silence_samples": Range(0, 10_000_000),
            "normalise": ("none", "fixed", "clip"),
            "channels": Items(_CHANNELS, 1),
            "dropout": BELOW_ONE,
            "dtype": DTYPES,
            "kernels": KERNELS,
        },
        lrp="audiojax.attribution.lrp_layers.melcnn:melcnn_seam",
        onnx="audiojax.exporting.onnx_graphs.melcnn",
    ),
    "resnet1d": Network(
        "audiojax.models.resnet1d:ResNet1D",
        "configs/cnn.py:recipe=residual",
        {
            "scale": ("rms", "percentile", "none"),
            "window_samples": Range(1, 100_000),
            "hop_samples": Range(1, 100_000),
            "channels": Items(_CHANNELS, 1),
            "dropout": BELOW_ONE,
            "dtype": DTYPES,
        },
        lrp="audiojax.attribution.lrp_layers.audionet:resnet_seam",
        onnx="audiojax.exporting.onnx_graphs.resnet1d",
    ),
    "alexnet": Network(
        "audiojax.models.alexnet:AlexNet",
        "configs/spectrogram.py:recipe=alexnet",
        {"dropout": BELOW_ONE, "dtype": DTYPES, "kernels": KERNELS},
        lrp="audiojax.attribution.lrp_layers.melcnn:alexnet_seam",
    ),
}


def check(flat: Mapping[str, Any]) -> None:
    """Raises InputError for the first key of a config {"section.key": value} that is unknown or has an invalid value.

    If there is none, it raises InputError for the first value that contradicts another one.
    """
    rules = RULES | _rules_of_model(flat)
    for name, value in flat.items():
        if name not in rules:
            raise InputError(f"there is no key config.{name}.")
        rule = rules[name]
        if isinstance(rule, tuple) and not isinstance(rule, Range | Items | Text):
            one_of(f"config.{name}", value, rule)
        elif value not in rule:
            shown = number(value) if isinstance(value, float) else repr(value)
            raise InputError(f"config.{name} is {shown}; choose {rule}.")
    able = [name for name, row in NETWORKS.items() if row.streams]
    if flat["task"] == "streams" and (network := flat.get("model.name")) not in able:
        fix = f"choose clips, or {', '.join(able)}"
        raise InputError(f"config.task is 'streams', but {network} cannot be trained for streams; {fix}.")
    check_together(flat)


def _rules_of_model(flat: Mapping[str, Any]) -> dict[str, Rule]:
    """Returns the rules of the network named by `model.name`; none if the config has no section `model`."""
    given = [name.partition(".")[2] for name in flat if name.startswith("model.")]
    if not given:
        return {}
    network = flat.get("model.name")
    one_of("config.model.name", network, tuple(NETWORKS))
    row = NETWORKS[str(network)]
    if unknown := sorted(set(given) - {"name", *row.fields}):
        raise InputError(
            f"config.model.name is {network!r}, whose keys are {', '.join(row.fields)}, but this config has "
            f"config.model.{unknown[0]}; use --config {row.config}."
        )
    return {f"model.{name}": rule for name, rule in (row.fields | {"name": (network,)}).items()}
