"""Loads the data of a config: clips from the cache, which is built if needed, and their split."""

import dataclasses
import hashlib
import importlib
import itertools
import json
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from audiojax.audio.sound_files import shortened
from audiojax.data import cache, labels, sources, splits
from audiojax.data.clips import Clips, Speaker, copies
from audiojax.data.listing import without_suffix
from audiojax.errors import InputError
from audiojax.io import console
from audiojax.rules import one_of
from audiojax.schema import SOURCES, SYNTHETIC_SOURCES


class Data(NamedTuple):
    """The data of a run: the clips of its source, their split, and additional training clips, if there are any."""

    clips: Clips
    split: splits.Split
    extra: Clips | None  # of `config.data.extra_source`: additional training clips

    def training(self) -> tuple[Clips, np.ndarray]:
        """Returns all clips, with those of the extra source, and the indices i64[n] of the training clips in them."""
        if self.extra is None:
            return self.clips, self.split.train
        every = len(self.clips) + np.arange(len(self.extra))
        return self.clips.joined(self.extra), np.concatenate([self.split.train, every])

    @property
    def noises(self) -> tuple[np.ndarray, ...]:
        """Returns the recordings of background noise of both sources, i16[t] each, for augmentation."""
        return self.clips.noises + (() if self.extra is None else self.extra.noises)

    def record(self) -> dict[str, Any]:
        """Returns what config.json records of the data: the source, hashes of the clips and the names of labels."""
        kept = {"source": self.clips.source, "key": self.clips.key, "label_names": list(self.clips.label_names)}
        return kept | ({} if self.extra is None else {"also_key": self.extra.key})

    def describe(self) -> str:
        """Returns the parts of the split with their numbers of clips and speakers, as text."""
        parts = []
        for name, indices in self.split._asdict().items():
            num_speakers = len(np.unique(self.clips.speaker[indices]))
            parts.append(f"{name} {len(indices):,} clips of {num_speakers} speaker{'s' * (num_speakers > 1)}")
        if self.extra:
            parts[0] += f" and {len(self.extra):,} of {self.extra.source}"
        return ", ".join(parts)


def load(config: ConfigDict) -> Data:
    """Returns the clips of a config, their split, and its additional training clips. Raises InputError on failure."""
    clips, split = load_split(config)
    return Data(clips, split, load_extra(config, clips, splits.held_out(split)))


def load_clips(config: ConfigDict) -> Clips:
    """Returns the clips of `config.data` with labels for `config.data.target`; builds their cache if needed."""
    return _chosen(config, _recordings(config, "source", "root"))


def load_split(config: ConfigDict) -> tuple[Clips, splits.Split]:
    """Returns the clips of `config.data` and their split by `config.split`.

    An impossible split raises InputError before any file is read. Training clips that are copies of validation or test
    clips are counted on stderr, and left out unless the split is a published one, used to compare results.
    """
    recordings = _source(config)
    clips = _chosen(config, recordings)
    split = chosen = _choose_split(config, clips)
    if splits.is_published(clips, config.split.name):
        shared, done = int(copies(clips, chosen.train, splits.held_out(chosen)).sum()), "are kept in the training set"
    else:
        split = splits.without_copies(clips, chosen, config.split.name)
        shared, done = len(chosen.train) - len(split.train), "are left out of the training set"
    if shared:
        print(
            f"{shared:,} training clips of {clips.source} are copies of validation or test clips and {done}.",
            file=sys.stderr,
        )
    if shared := int(copies(clips, split.test, split.validation).sum()):
        print(f"{shared:,} test clips of {clips.source} are copies of validation clips.", file=sys.stderr)
    return clips, split


def _source(config: ConfigDict) -> sources.Recordings:
    """Returns the files of `config.data`. Raises `splits.Impossible` if `config.split` cannot split them by name."""
    if config.data.source in SYNTHETIC_SOURCES and config.data.target == "digit":  # before any file is synthesised
        _choose_split(config, _planned(config).unread())
    recordings = _recordings(config, "source", "root")
    _choose_split(config, labels.choose(recordings.unread(), config.data.target))
    return recordings


def _planned(config: ConfigDict) -> sources.Recordings:
    """Returns the files that a synthesiser will write for `config.synthetic`."""
    voices, takes = (range(config.synthetic[name]) for name in ("num_voices", "num_takes"))
    names = [f"{number + 1:02d}" for number in voices]
    words = SOURCES[config.data.source].labels
    files = [sources.Recording(*of, "", 0, 0) for of in itertools.product(range(len(words)), names, takes)]
    speakers = dict.fromkeys(names, Speaker())
    return sources.Recordings(config.data.source, Path(), tuple(files), words, speakers)


def _choose_split(config: ConfigDict, clips: Clips) -> splits.Split:
    return splits.choose(clips, **config.split)


def _recordings(config: ConfigDict, of: str, at: str) -> sources.Recordings:
    """Returns the files of the source config.data.`of`, whose root is config.data.`at`."""
    source, root = config.data[of], config.data[at]
    one_of(f"config.data.{of}", source, tuple(SOURCES))
    if SOURCES[source].synthesiser:
        return synthesised(config, source)
    if not root:
        raise InputError(f"config.data.{at} is empty; set --config.data.{at}=DIR to the folder of {source}.")
    return _read(source, root, config.data.on_bad_file, **{key: config.data[key] for key in SOURCES[source].keys})


def _read(source: str, *arguments: Any, **keys: Any) -> sources.Recordings:
    recordings: sources.Recordings = pkgutil.resolve_name(SOURCES[source].reader)(*arguments, **keys)
    return recordings


def _chosen(config: ConfigDict, recordings: sources.Recordings) -> Clips:
    """Returns the clips of `recordings` with the labels of config.data.target; reports those left out on stderr."""
    clips = cached(config, recordings)
    without = np.flatnonzero(np.bincount(clips.label, minlength=len(clips.label_names)) == 0)
    words = sorted([*recordings.empty, *(clips.label_names[label] for label in without)])
    if words:
        print(f"{len(words):,} words of {clips.source} have no clip: {', '.join(words)}.", file=sys.stderr)
    chosen = labels.choose(clips, config.data.target)
    if (left_out := len(clips) - len(chosen)) and chosen.target == "sex":
        print(
            f"{left_out:,} of {len(clips):,} clips of {clips.source} are left out: their {chosen.target} is unknown.",
            file=sys.stderr,
        )
    if config.split.name == "official" and chosen.official:  # the lists determine the training set
        listed = frozenset().union(*chosen.official.values())
        if missing := len(listed - {without_suffix(path) for path in clips.path}):
            print(f"{missing:,} of {len(listed):,} paths in its official lists name no clip.", file=sys.stderr)
        lists = json.dumps({part: sorted(paths) for part, paths in chosen.official.items()}, sort_keys=True)
        chosen = dataclasses.replace(chosen, key=hashlib.sha256(f"{chosen.key} {lists}".encode()).hexdigest())
    return chosen


def load_extra(config: ConfigDict, clips: Clips, held_out: Sequence[int] | np.ndarray = ()) -> Clips | None:
    """Returns the clips of `config.data.extra_source`, which are added to the training set; None if that key is empty.

    `held_out` are the indices of the validation and test clips in `clips`, copies of which are left out. Raises
    InputError if the labels differ from those of `clips`, or if both sources have exactly the same clips.
    """
    if not config.data.extra_source:
        return None
    also = _chosen(config, _recordings(config, "extra_source", "extra_root"))
    if also.key == clips.key:
        raise InputError(
            f"config.data.extra_source is {config.data.extra_source!r} with the same clips as config.data.source, "
            "whose test clips would be in the training set; choose another source."
        )
    if also.label_names != clips.label_names:
        raise InputError(
            f"config.data.extra_source is {config.data.extra_source!r}, whose labels are not those of {clips.source}; "
            "choose a source of the same words."
        )
    shared = copies(also, np.arange(len(also)), np.asarray(held_out, int), of=clips)
    if not shared.any():
        return also
    print(
        f"{shared.sum():,} clips of {also.source} are copies of validation or test clips and are left out.",
        file=sys.stderr,
    )
    return labels.some(also, np.flatnonzero(~shared))


def cached(config: ConfigDict, recordings: sources.Recordings) -> Clips:
    """Returns the clips of `recordings` from the cache, which is built if needed; reports bad files on stderr."""
    source = recordings.source
    with console.progress(f"preparing {source}") as report:
        clips, skipped, shorter = cache.load_or_build(
            recordings,
            rate_hz=config.data.rate_hz,
            on_bad_file=config.data.on_bad_file,
            folder=_folder(config),
            progress=report,
        )
    if skipped:
        print(f"{len(skipped):,} of {len(clips) + len(skipped):,} files of {source} are left out:", file=sys.stderr)
        print(*(f"  {sentence}" for sentence in skipped), sep="\n", file=sys.stderr)
    if shorter:
        print(shortened(shorter, len(clips), source), file=sys.stderr)
    return clips


def _synthesiser(source: str) -> ModuleType:
    return importlib.import_module(SOURCES[source].synthesiser)  # lazily: recorded sources need no synthesis


def synthesised(config: ConfigDict, source: str) -> sources.Recordings:
    """Returns the recordings of digits of a synthetic source, which are synthesised unless that has been done before.

    Raises InputError if `source` is not a synthetic one.
    """
    if source not in SYNTHETIC_SOURCES:
        raise InputError(
            f"config.streams.synthetic_sources includes {source!r}; choose from {', '.join(SYNTHETIC_SOURCES)}."
        )
    synthesiser = _synthesiser(source)
    parameters = dict(config.synthetic)
    name = "-".join(f"{key.removeprefix('num_')}{value}" for key, value in sorted(parameters.items()))
    root = _folder(config) / f"{source}-v{synthesiser.VERSION}-{name}"
    if not root.exists():
        with console.progress(f"synthesising {source} digits") as report:
            synthesiser.write(root, **parameters, progress=report)
    return dataclasses.replace(_read(source, root), source=source)


def _phrases(config: ConfigDict, source: str, part: str) -> sources.Recordings:
    """Returns synthetic speech without digits, in the layout of the source `folder`."""
    from audiojax.synthesis import phrases

    choices = {name: name for name in SYNTHETIC_SOURCES} | {"letters": "espeak"}
    if source not in choices:
        raise InputError(f"config.streams.negative_sources includes {source!r}; choose from {', '.join(choices)}.")
    voices, seed = config.synthetic.num_voices, config.synthetic.seed
    version = f"{phrases.VERSION}.{_synthesiser(choices[source]).VERSION}"
    root = _folder(config) / f"phrases-{source}-{part}-v{version}-seed{seed}-voices{voices}"
    if not root.exists():
        with console.progress(f"synthesising {source} phrases") as report:
            phrases.write_phrases(root, source=source, part=part, num_voices=voices, seed=seed, progress=report)
    return dataclasses.replace(sources.folder(root), source=f"phrases-{source}-{part}")


def load_phrases(config: ConfigDict, source: str, part: str) -> Clips:
    """Returns clips of words and sentences without digits by synthetic voices; `part` is "train" or "test".

    `source` is "synthetic", "espeak" or "letters" (the names of letters). The clips are synthesised if needed.
    """
    return cached(config, _phrases(config, source, part))


def _folder(config: ConfigDict) -> Path:
    return Path(config.data.cache).expanduser().resolve()
