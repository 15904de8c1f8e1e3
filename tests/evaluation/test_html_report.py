"""What an evaluation tells beyond accuracy: intervals, calibration, groups, the worst errors, one page."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from audiojax import tasks
from audiojax.errors import InputError
from audiojax.evaluation import calibration, classify, plots
from audiojax.inference import Trained, softmax, write_temperature


@pytest.mark.parametrize(
    "correct, total, low, high",  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(correct, total, low, high):
    np.testing.assert_allclose(calibration.wilson(correct, total), (low, high), atol=6e-5)
    mirrored = calibration.wilson(total - correct, total)
    np.testing.assert_allclose((1 - mirrored[1], 1 - mirrored[0]), (low, high), atol=6e-5)


def test_no_clips_have_no_interval():
    with pytest.raises(InputError):
        calibration.wilson(0, 0)


def drawn(temperature: float, num_clips=20_000):
    """Logits, and labels drawn from softmax(logits / temperature): that temperature is the right one."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (num_clips, 10))
    chance = softmax(logits, temperature).cumsum(axis=1)
    return logits, (rng.random((num_clips, 1)) > chance).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_makes_the_error_vanish(temperature):
    logits, label = drawn(temperature)
    found = calibration.fit_temperature(logits, label)
    assert abs(found / temperature - 1) < 0.05
    assert calibration.reliability(softmax(logits, found), label).error < 0.01
    if temperature != 1:
        assert calibration.reliability(softmax(logits), label).error > 0.04
    guess = softmax(logits).argmax(axis=1)
    np.testing.assert_array_equal(softmax(logits, found).argmax(axis=1), guess)  # no decision changes


def test_the_calibration_error_of_three_predictions_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55]])
    curve = calibration.reliability(probabilities, np.array([0, 1, 1]), num_bins=2)
    np.testing.assert_array_equal(curve.clips, [0, 3])
    assert abs(curve.error - abs(2 / 3 - (0.9 + 0.8 + 0.55) / 3)) < 1e-12
    assert np.isnan(curve.accuracy[0])


def test_a_network_that_is_always_right_has_a_temperature_too():
    logits = np.eye(10) * 5
    assert 0.05 <= calibration.fit_temperature(logits, np.arange(10)) < 0.2
    assert 10 < calibration.fit_temperature(logits, np.arange(10)[::-1]) <= 20


@pytest.fixture
def evaluated(run_cli, trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    code, out, err = run_cli("evaluate", "--workdir", workdir, "--json")
    assert code == 0 and err == ""
    return workdir, json.loads(out, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


def test_the_report_adds_up(evaluated):
    _, result = evaluated
    for kind in ("label", "speaker", "sex", "accent"):
        groups = result[f"accuracy_by_{kind}"].values()
        assert sum(of["clips"] for of in groups) == result["clips"] == 40
        assert abs(sum(of["clips"] * of["accuracy"] for of in groups) / 40 - result["accuracy"]) < 1e-12
        for of in groups:
            assert of["interval"][0] <= of["accuracy"] <= of["interval"][1]
    assert set(result["accuracy_by_sex"]) == {"unknown"}
    assert result["calibration"]["error"] <= result["calibration"]["error_uncalibrated"] + 0.05
    assert sum(result["calibration"]["clips"]) == 40
    worst = [error["probability"] for error in result["worst"]]
    assert len(worst) == 40 - round(40 * result["accuracy"]) and worst == sorted(worst, reverse=True)


@pytest.mark.slow
def test_the_page_holds_everything_and_needs_nothing(run_cli, tiny_config, tmp_path, capsys):
    workdir = tmp_path / "run"
    tasks.train(tiny_config(**{"train.num_epochs": 1, "optimizer.learning_rate": 1e-9}), workdir)
    capsys.readouterr()  # what training said
    result = json.loads(run_cli("evaluate", "--workdir", workdir, "--json")[1])
    assert len(result["worst"]) == classify.NUM_WORST  # it has not learnt
    page = (workdir / "report.html").read_text()
    assert not re.search(r"(src|href)=.?(http|//|/)", page)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 4 + sum(len(result[f"accuracy_by_{kind}"]) > 1 for kind in ("speaker", "sex", "accent"))
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    sounds = re.findall(r'src="data:audio/wav;base64,([^"]+)"', page)
    assert len(sounds) == len(result["worst"])
    for sound in sounds:
        clip, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert rate_hz == 8000 and np.abs(clip).max() > 0.1
    assert f"{result['accuracy']:.2%}" in page and "optimizer" in page
    facts = dict(re.findall(r"<dt>(\w+)</dt><dd>(.*?)</dd>", page))
    assert f"{result['parameters']:,} " in facts["model"] and "1 epoch" in facts["training"]
    assert {"data", "checkpoint", "device", "software"} < facts.keys() and "prefers-color-scheme: dark" in page


@pytest.mark.slow
def test_predict_uses_the_temperature_of_its_checkpoint(run_cli, evaluated, tones):
    workdir, result = evaluated
    file = tones / "data/01/3_01_0.wav"

    def probability(*flags):
        code, out, _ = run_cli("predict", "--workdir", workdir, "--json", file, *flags)
        assert code == 0
        return json.loads(out)["probability"]

    calibrated = probability()
    assert Trained.load(workdir).temperature == result["calibration"]["temperature"] != 1
    write_temperature(workdir, Trained.load(workdir).step, 1.0)
    plain = probability()
    assert plain != calibrated and (calibrated > plain) == (result["calibration"]["temperature"] < 1)
    (workdir / "calibration.json").write_text("{")
    assert probability() == plain


def test_evaluate_finds_data_that_has_moved(run_cli, tones, trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    moved = shutil.copytree(tones, tmp_path / "moved")
    saved = json.loads((workdir / "config.json").read_text())
    saved["config"]["data"]["root"] = str(tmp_path / "gone")
    (workdir / "config.json").write_text(json.dumps(saved))
    assert run_cli("evaluate", "--workdir", workdir)[0] == 1
    assert run_cli("evaluate", "--workdir", workdir, "--root", moved)[0] == 0


@pytest.fixture
def drawn_figure(monkeypatch):
    """The figures that were drawn."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path, dpi=0: figures.append(figure))
    return figures


@pytest.mark.parametrize("alarms", [(0.0, 0.0), (4.0, 0.0)])
@pytest.mark.parametrize("misses", [0.0, 0.5])
def test_the_curve_of_a_streaming_model_is_never_empty(drawn_figure, tmp_path, alarms, misses):
    groups = ("silence", "noise")
    points = [
        {"threshold": threshold, "misses": misses, "alarms_per_hour": dict(zip(groups, alarms, strict=True))}
        for threshold in (0.3, 0.4)
    ]
    plots.misses_and_alarms({"points": points, "threshold": 0.4}, "title", tmp_path / "curve.png")
    [axis] = drawn_figure[0].axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(groups)
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    for line in axis.lines:
        x, y = line.get_data()
        assert np.all(
            (left < np.asarray(x)) & (np.asarray(x) < right) & (bottom <= np.asarray(y)) & (y < np.asarray(top))
        )


def test_curves_draw_the_accuracy_of_frames_apart_from_that_of_words(drawn_figure, tmp_path):
    losses = {f"{part}/loss": 1.0 for part in ("train", "validation", "test")}
    accuracies = {"train/frame_accuracy": 0.9, "validation/accuracy": 0.2, "test/accuracy": 0.3}
    plots.curves([{"step": 1, "epoch": 1} | losses | accuracies], "title", tmp_path / "curves.png")
    loss, accuracy = drawn_figure[0].axes
    assert {line.get_label(): float(line.get_ydata()[0]) for line in accuracy.lines} == {
        "train, of frames": 0.9, "validation": 0.2, "test": 0.3,
    }  # fmt: skip
    assert [line.get_label() for line in loss.lines] == ["train", "validation", "test"]
