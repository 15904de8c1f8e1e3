"""The load generator of the live page's server."""

import json

import pytest
import soundfile
from served import Served, spoken

from audiojax.errors import InputError
from experiments.benchmarks import load


@pytest.fixture(scope="module")
def served():
    with Served(num_streams=4) as it:
        yield it


@pytest.fixture
def run_load(served, tmp_path, capsys):
    def run(*args: str) -> dict:
        soundfile.write(tmp_path / "words.wav", spoken([1, 2]), 8000)
        url = served.url.replace("http", "ws").rstrip("/")
        assert load.main([f"--url={url}", "--chunk-ms=50", f"--files={tmp_path / 'words.wav'}", *args]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_it_measures_each_word_and_writes_a_record(run_load, tmp_path):
    result = run_load("--streams=3", "--seconds=2.5", f"--out={tmp_path / 'record.json'}")  # two words in a second
    assert json.loads((tmp_path / "record.json").read_text()).items() > result.items()
    assert 12 <= result["events"] <= 18 and result["streams_lost"] == 0
    assert 0 < result["added_ms"]["median"] <= result["added_ms"]["p99"]


@pytest.mark.slow
def test_it_compares_with_hostile_clients(run_load):
    result = run_load("--streams=1", "--seconds=1.5", "--hostile")
    assert [len(values) for values in result["p99_ms"].values()] == [1, 1] and result["streams_lost"] == 0
    assert result["added_by_hostile_ms"] == result["p99_ms"]["with"][0] - result["p99_ms"]["without"][0]


def test_the_delay_is_counted_from_the_chunk_that_holds_the_last_sample_needed(monkeypatch):
    stream = object.__new__(load.Stream)
    stream.sent_at, stream.events = [10.0, 10.1, 10.2], [(0.1, 10.03), (0.12, 10.15), (0.3, 10.24)]
    assert load.delays_ms(stream, 0.1) == pytest.approx([30, 50, 40])


def test_it_says_when_places_are_taken(run_load):
    with pytest.raises(InputError, match="was refused"):
        run_load("--streams=5", "--seconds=1")


def test_it_says_when_nobody_answers():
    with pytest.raises(InputError, match="does not answer"):
        load.main(["--url=ws://127.0.0.1:9", "--streams=1", "--seconds=1"])
