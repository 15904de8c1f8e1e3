"""The extra [tts]: espeak-ng's voices as a source."""

import pytest
from built_clips import build

from audiojax import schema
from audiojax.data import sources
from audiojax.errors import InputError
from audiojax.synthesis import espeak


def write(folder, **changes):
    parameters = {"num_voices": 3, "num_takes": 2, "seed": 5} | changes
    espeak.write(folder, **parameters, progress=lambda done, total: None)
    return folder


def test_without_the_extra_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[tts\]'"):
        write(tmp_path / "voices")
    assert list(tmp_path.iterdir()) == []


def test_its_voices_are_the_same_each_time_and_differ(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the extra [tts] is not installed")
    one, same, other = write(tmp_path / "a"), write(tmp_path / "b"), write(tmp_path / "c", seed=6)
    files = sources.audiomnist(one).files
    assert len(files) == 60
    sounds = {(one / file.path).read_bytes() for file in files}
    assert len(sounds) == 60 and sounds == {(same / file.path).read_bytes() for file in files}
    assert not sounds & {(other / file.path).read_bytes() for file in files}
    clips = build(one, tmp_path / "cache")
    assert clips.length.min() > 2000 and clips.length.max() <= 8000
    assert "espeak" in schema.SYNTHETIC_SOURCES
