"""AudioMNIST as parquet files, from a folder and by name."""

import io
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from conftest import ROOT, tone

from audiojax import cli
from audiojax.data import hub, loading
from audiojax.errors import InputError


def encoded(label, speaker, take) -> dict:
    content = io.BytesIO()
    soundfile.write(content, tone(label, speaker, take), 8000, format="WAV")
    return {"bytes": content.getvalue(), "path": f"{label}_{speaker:02d}_{take}.wav"}


def write(path, speakers, **changes):
    """A parquet file of ten digits, two takes each, by `speakers`."""
    rows = [(label, speaker, take) for speaker in speakers for label in range(10) for take in range(2)]
    columns = {
        "speaker_id": [f"{speaker:02d}" for _, speaker, _ in rows],
        "audio": [encoded(*row) for row in rows],
        "digit": [label for label, _, _ in rows],
        "gender": ["female" if speaker % 2 else "male" for _, speaker, _ in rows],
        "accent": ["German"] * len(rows),
        "age": [20 + speaker for _, speaker, _ in rows],
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: values for name, values in columns.items() if values is not None}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOJAX_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "snapshot/data/train-00000-of-00002.parquet", range(1, 6))
    write(tmp_path / "snapshot/data/train-00001-of-00002.parquet", range(6, 9))
    write(tmp_path / "snapshot/data/test-00000-of-00001.parquet", [9, 10])
    return tmp_path / "snapshot"


def config(root, *flags):
    args = [f"--config={ROOT}/configs/gru.py:hub", f"--config.data.root={root}", *flags]
    return cli.parse_with_config(cli.parser("test", ""), args)[1]


def test_a_snapshot_is_read_with_its_own_split(snapshot):
    clips, split = loading.load_split(config(snapshot))
    assert len(clips) == 200 and clips.label_names[:3] == ("zero", "one", "two")
    heard = [sorted(set(clips.speaker[part].tolist())) for part in split]
    assert heard == [["02", "03", "04", "06", "07", "08"], ["01", "05"], ["09", "10"]]
    assert clips.speakers["03"] == ("female", "German", 23) and clips.speakers["10"].sex == "male"
    [index] = [i for i, path in enumerate(clips.path) if path == "data/07/4_07_1.wav"]
    expected = soundfile.read(io.BytesIO(encoded(4, 7, 1)["bytes"]), dtype="int16")[0]
    np.testing.assert_array_equal(clips[index], expected)
    assert loading.load_clips(config(snapshot, "--config.data.target=sex")).label_names == ("female", "male")


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(gender=None, age=None), "has no column gender, age"),
        (dict(speaker_id=["someone"] * 20), "has a row that is no clip"),
        (dict(audio=[None] * 20), "has a row that is no clip"),
    ],
)
def test_a_file_of_another_kind_is_one_sentence(snapshot, changes, words):
    write(snapshot / "data/test-00000-of-00001.parquet", [9], **changes)
    with pytest.raises(InputError, match=rf"test-00000-of-00001\.parquet {words}"):
        loading.load_clips(config(snapshot))


def test_a_damaged_file_and_an_empty_folder_are_one_sentence(snapshot, tmp_path):
    file = snapshot / "data/train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet is damaged"):
        loading.load_clips(config(snapshot))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no parquet file"):
        loading.load_clips(config(tmp_path / "empty"))


def test_a_name_is_fetched_at_its_revision(snapshot, monkeypatch):
    asked = []
    monkeypatch.setattr(
        hub._library("huggingface_hub"),
        "snapshot_download",
        lambda name, **how: (asked.append((name, how["revision"], how["repo_type"])), str(snapshot))[1],
    )
    clips = loading.load_clips(config(hub.NAME, "--config.data.revision=0123abc"))
    assert len(clips) == 200 and asked == [(hub.NAME, "0123abc", "dataset")]


def test_a_download_is_the_snapshot_of_a_name(snapshot, tmp_path, monkeypatch, run_cli):
    def snapshot_download(name, local_dir, **_):
        assert name == "someone/digits"
        return shutil.copytree(snapshot, local_dir)

    monkeypatch.setattr(hub._library("huggingface_hub"), "snapshot_download", snapshot_download)
    code, out, _ = run_cli("download", "hub", "--root", tmp_path / "root", "--url", "someone/digits")
    assert code == 0 and "200 clips of 10 speakers" in out
    assert len(loading.load_clips(config(tmp_path / "root"))) == 200


def test_without_a_network_or_the_extra_it_is_one_sentence(run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub._library("huggingface_hub").constants, "ENDPOINT", "http://127.0.0.1:9")
    flags = [f"--config={ROOT}/configs/gru.py:hub", f"--config.data.root={hub.NAME}", "--config.data.revision=abc"]
    code, _, err = run_cli("prepare", *flags)
    assert code == 1 and f"{hub.NAME} at revision abc cannot be fetched" in err and len(err.splitlines()) == 1
    code, _, err = run_cli("download", "hub", "--root", tmp_path / "root")
    assert code == 1 and "--config.data.root" in err and not (tmp_path / "root").exists()
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs huggingface_hub, an extra: pip install 'audiojax\[hub\]'"):
        hub.download(tmp_path / "root")
