"""Plots of runs and sounds, written as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.data.clips import Clips
from audiojax.evaluation.calibration import Reliability

PARTS = {"train": "#1f77b4", "validation": "#ff7f0e", "test": "#2ca02c"}


def _figure(*args: Any, **kwargs: Any) -> Any:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold"}
    )
    return pyplot.subplots(*args, layout="constrained", **kwargs)


def _save(figure: Any, path: Path, dpi: int = 150) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    pyplot.close(figure)
    return path


def curves(rows: Sequence[dict[str, Any]], title: str, path: Path) -> Path:
    """Plots loss and accuracy by epoch from log rows {name: number}; accuracies of frames, not words, are dashed."""
    epochs = [row for row in rows if "epoch" in row]
    figure, axes = _figure(1, 2, figsize=(10, 3.8))
    for axis, measure in zip(axes, ("loss", "accuracy"), strict=True):
        for part, colour in PARTS.items():
            for name, style in ((f"{part}/{measure}", "-"), (f"{part}/frame_{measure}", "--")):
                points = [(row["epoch"], row[name]) for row in epochs if name in row]
                look = dict(color=colour, label=f"{part}, of frames" if style == "--" else part)
                if points:
                    axis.plot(*zip(*points, strict=True), style, **look, marker="o", markersize=3)
        axis.set(xlabel="epoch", title=measure)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.25)
    axes[0].set(ylabel="cross-entropy, nats")
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 1.01)
    axes[1].yaxis.set_major_formatter("{x:.0%}")
    for axis in axes:
        if axis.lines:
            axis.legend(frameon=False)
    figure.suptitle(title)
    return _save(figure, path)


def confusion_matrix(confusion: np.ndarray, names: Sequence[str], title: str, path: Path) -> Path:
    """Plots the confusion matrix i32[labels, labels], [true, predicted]; colours are shares of each true label."""
    figure, axis = _figure(figsize=(0.55 * len(names) + 2.2, 0.5 * len(names) + 1.8))
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for true, predicted in np.argwhere(confusion):
        colour = "white" if share[true, predicted] > 0.5 else "black"
        count = f"{confusion[true, predicted]:,}"
        axis.text(predicted, true, count, ha="center", va="center", color=colour, fontsize=9)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true", title=title)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, label="share of the true label", shrink=0.8)
    return _save(figure, path)


def reliability(curve: Reliability, title: str, path: Path) -> Path:
    """Plots accuracy and number of clips by probability of the predicted label; the diagonal is perfect calibration."""
    figure, (above, below) = _figure(2, 1, figsize=(4.6, 5), sharex=True, height_ratios=(3, 1))
    num_bins = len(curve.clips)
    middles, width = (np.arange(num_bins) + 0.5) / num_bins, 0.9 / num_bins
    above.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="calibrated")
    above.bar(middles, np.nan_to_num(curve.accuracy), width, color=PARTS["train"])
    above.legend(loc="upper left", frameon=False)
    above.set(ylabel="accuracy", title=title, ylim=(0, 1), xlim=(0, 1))
    below.bar(middles, curve.clips, width, color="0.6")
    below.set(xlabel="probability of the predicted label", ylabel="clips", yscale="log")
    below.minorticks_off()
    below.yaxis.set_major_formatter("{x:,.0f}")
    return _save(figure, path)


def accuracy_by_group(groups: Mapping[str, dict[str, Any]], title: str, path: Path) -> Path:
    """Plots the accuracy of each group of clips with its 95 % interval, {name: {"accuracy", "interval", "clips"}}."""
    figure, axis = _figure(figsize=(6, 0.24 * len(groups) + 1.0))
    accuracy = np.array([of["accuracy"] for of in groups.values()])
    reach = np.abs(np.array([of["interval"] for of in groups.values()]).T - accuracy)
    axis.errorbar(accuracy, range(len(groups)), xerr=reach, fmt="o", color=PARTS["train"], markersize=4, capsize=2)
    axis.set_yticks(range(len(groups)), [f"{name} ({of['clips']:,})" for name, of in groups.items()], fontsize=8)
    axis.xaxis.set_major_formatter("{x:.0%}")
    label = "accuracy, 95 % interval (number of clips)"
    axis.set(title=title, xlabel=label, xlim=(None, 1.01), ylim=(-0.7, len(groups) - 0.3))
    axis.grid(axis="x", alpha=0.25)
    return _save(figure, path)


def waveforms_and_spectrograms(
    clips: Clips, indices: Sequence[int], title: str, path: Path, *, notes: Sequence[str] = (), num_columns: int = 4
) -> Path:
    """Plots waveform and spectrogram (32 ms window, 4 ms hop, dB) of the clips at `indices`, under note or label."""
    num_columns = min(num_columns, len(indices))
    num_rows = -(-len(indices) // num_columns)
    size = (max(5 if num_rows == 1 else 3.6, 10 / num_columns) * num_columns, 5.2 * num_rows)
    figure, axes = _figure(2 * num_rows, num_columns, figsize=size, squeeze=False)
    pairs = axes.reshape(num_rows, 2, num_columns).transpose(0, 2, 1).reshape(-1, 2)
    for above, below in pairs[len(indices) :]:
        above.set_visible(False)
        below.set_visible(False)
    notes = notes or [f"“{clips.label_names[clips.label[i]]}”" for i in indices]
    for (above, below), index, note in zip(pairs, indices, notes, strict=False):
        sound = clips[index] / 32768.0
        seconds = len(sound) / clips.rate_hz
        above.plot(np.arange(len(sound)) / clips.rate_hz, sound, linewidth=0.5, color=PARTS["train"])
        above.set(title=f"{note}\nspeaker {clips.speaker[index]}, take {clips.take[index]}", ylabel="amplitude")
        above.set_xlim(0, seconds)
        limit = float(np.abs(sound).max()) * 1.05 or 1.0
        above.set_ylim(-limit, limit)
        hop, window = clips.rate_hz // 250, clips.rate_hz * 32 // 1000
        padded = np.pad(sound, (window // 2, window))
        frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: len(sound) : hop]
        power_db = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(window), 2 * window)) + 1e-6).T
        below.imshow(
            power_db,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=power_db.max() - 70,
            extent=(0, seconds, 0, clips.rate_hz / 2000),
        )
        below.set(xlabel="seconds", ylabel="kHz")
    figure.suptitle(title)
    return _save(figure, path, dpi=150 if num_rows == 1 else 90)


def misses_and_alarms(curve: dict[str, Any], title: str, path: Path) -> Path:
    """Plots how many words are missed or substituted against false alarms per hour of sounds without any of them.

    `curve` is {"points": [{"threshold", "misses", "alarms_per_hour": {sound: number}}], "threshold": the chosen one,
    marked by a diamond}, with misses in [0, 1]. A sound without a false alarm at any threshold is a line at 0.
    """
    figure, axis = _figure(figsize=(7, 4.5))
    points = curve["points"]
    misses = [100 * point["misses"] for point in points]
    chosen = min(range(len(points)), key=lambda i: abs(points[i]["threshold"] - curve["threshold"]))
    most = 1.0
    for name in points[0]["alarms_per_hour"]:
        alarms = [point["alarms_per_hour"][name] for point in points]
        most = max(most, *alarms)
        line = axis.plot(alarms, misses, marker="o", markersize=3, label=name)[0]
        axis.plot(alarms[chosen], misses[chosen], marker="D", markersize=8, color=line.get_color())
    axis.set_xscale("symlog", linthresh=0.1)
    axis.set_xlim(-0.02, 1.3 * most)
    axis.set_ylim(0, 1.05 * max(1.0, *misses))
    title = f"{title}; diamond: threshold {points[chosen]['threshold']:g}"
    axis.set(xlabel="false alarms per hour", ylabel="words missed or substituted, %", title=title)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def compared(runs: Mapping[str, Mapping[str, Sequence[float]]], title: str, path: Path) -> Path:
    """Plots loss and accuracy of several runs by epoch, one colour per run.

    Training is dashed with open points, test is solid. `runs` is {name: {"train/loss": one value per epoch, ...}}.
    """
    figure, axes = _figure(1, 2, figsize=(12, 4.8))
    for name, curves_of in runs.items():
        colour = axes[0].plot([], [])[0].get_color()
        for axis, measure in zip(axes, ("loss", "accuracy"), strict=True):
            for part, style, inside in (("train", "o--", "white"), ("test", "o-", colour)):
                values = curves_of[f"{part}/{measure}"]
                label = name if part == "test" else None
                look = dict(color=colour, label=label, linewidth=1.2, markersize=4, markerfacecolor=inside)
                axis.plot(range(1, len(values) + 1), values, style, **look)
    for axis, measure in zip(axes, ("loss", "accuracy"), strict=True):
        axis.set(xlabel="epoch", title=f"{measure} (training: dashed, test: solid)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.25)
    axes[0].set(ylabel="cross-entropy, nats")
    axes[1].set_ylim(0, 1.01)
    axes[1].yaxis.set_major_formatter("{x:.0%}")
    axes[1].legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")
    figure.suptitle(title)
    return _save(figure, path)


def by_level(panels: Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]], title: str, path: Path) -> Path:
    """Plots accuracy against a level, such as an SNR; `panels` is {axis label: {line: {level: accuracies of runs}}}.

    Lines are means over the runs, bars range from the lowest to the highest accuracy.
    """
    lowest = min(min(of) for lines in panels.values() for levels in lines.values() for of in levels.values())
    figure, axes = _figure(1, len(panels), figsize=(1 + 4.2 * len(panels), 4.2), squeeze=False, sharey=True)
    for axis, (label, lines) in zip(axes[0], panels.items(), strict=True):
        for name, levels in lines.items():
            means = np.array([np.mean(levels[level]) for level in levels])
            ends = np.array([[min(of), max(of)] for of in levels.values()]).T
            axis.errorbar(list(levels), means, np.abs(ends - means), marker="o", markersize=4, capsize=2, label=name)
        axis.set(xlabel=label, ylim=(np.floor(10 * lowest) / 10, 1.005))
        axis.yaxis.set_major_formatter("{x:.0%}")
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8)
    axes[0][0].set(ylabel="accuracy")
    figure.suptitle(title, fontsize=10)
    return _save(figure, path)


def _reach(relevance: np.ndarray) -> float:
    """Returns the limit of a colour scale centred on 0; a percentile, so that outliers do not determine it."""
    return float(np.percentile(np.abs(relevance), 99.5)) or float(np.abs(relevance).max(initial=0.0)) or 1.0


def _relevance_bar(figure: Any, image: Any, axes: Any) -> None:
    figure.colorbar(image, ax=axes, label="negative   relevance   positive", ticks=[0], extend="both", shrink=0.9)


def relevance_of_samples(sound: np.ndarray, relevance: np.ndarray, rate_hz: int, title: str, path: Path) -> Path:
    """Plots `sound` i16[t], coloured by the `relevance` f32[t] of its samples, above bars of its sum in each 10 ms."""
    from matplotlib.collections import LineCollection

    figure, (above, below) = _figure(2, 1, figsize=(10, 4.6), sharex=True, height_ratios=(2, 1))
    seconds = np.arange(len(sound)) / rate_hz
    points = np.stack([seconds, sound / 32768.0], axis=1)
    reach = _reach(relevance)
    above.plot(*points.T, linewidth=0.4, color="0.75")
    lines = LineCollection(list(np.stack([points[:-1], points[1:]], axis=1)), cmap="RdBu_r", linewidths=1.2)
    lines.set_array(relevance[1:])
    lines.set_clim(-reach, reach)
    lines.set_alpha(np.clip(np.abs(relevance[1:]) / reach, 0, 1))  # samples without relevance stay grey
    above.add_collection(lines)
    limit = float(np.abs(points[:, 1]).max(initial=0.0)) * 1.05 or 1.0
    above.set(ylabel="amplitude", ylim=(-limit, limit), xlim=(0, len(sound) / rate_hz), title=title)
    size = max(1, rate_hz // 100)
    sums = np.add.reduceat(relevance, np.arange(0, len(relevance), size))
    sums = sums / (np.abs(sums).max() or 1.0)
    colours = ["#b2182b" if value > 0 else "#2166ac" for value in sums]
    below.bar(np.arange(len(sums)) * size / rate_hz, sums, width=size / rate_hz, align="edge", color=colours)
    below.axhline(0, color="0.4", linewidth=0.6)
    below.set(xlabel="seconds", ylabel="relevance\nof 10 ms", ylim=(-1.05, 1.05))
    _relevance_bar(figure, lines, [above, below])
    return _save(figure, path)


def relevance_of_bins(
    sound: np.ndarray,
    features: np.ndarray,
    relevance: np.ndarray,
    middle_hz: np.ndarray,
    rate_hz: int,
    seconds: np.ndarray,
    title: str,
    path: Path,
) -> Path:
    """Plots the waveform of `sound` i16[t] and its spectrogram, coloured by relevance, shares of a logit.

    The spectrogram `features` and `relevance` are f32[frames, bands]; `middle_hz` are the centre frequencies of the
    bands, `seconds` the start of the first frame and the end of the last.
    """
    figure, (above, below) = _figure(2, 1, figsize=(10, 5.6), sharex=True, height_ratios=(1, 3))
    above.plot(np.arange(len(sound)) / rate_hz, sound / 32768.0, linewidth=0.5, color="0.4")
    above.set(ylabel="amplitude", title=title)
    num_bands = features.shape[1]
    reach = _reach(relevance)
    place = {"origin": "lower", "aspect": "auto", "extent": (*seconds, -0.5, num_bands - 0.5)}
    below.imshow(features.T, cmap="Greys", vmax=1.3 * max(float(features.max()), 1e-6), **place)
    alpha = np.clip(np.abs(relevance.T) / reach, 0, 1)
    image = below.imshow(relevance.T, cmap="RdBu_r", vmin=-reach, vmax=reach, alpha=alpha, **place)
    shown = np.linspace(0, num_bands - 1, 6).round().astype(int)
    below.set_yticks(shown, [f"{middle_hz[band] / 1000:.1f}" for band in shown])
    below.set(xlabel="seconds", ylabel="centre frequency, kHz", xlim=(0, len(sound) / rate_hz))
    _relevance_bar(figure, image, [above, below])
    return _save(figure, path)


def faithfulness(
    shares: Sequence[float], accuracy: Mapping[str, Sequence[float]], what: str, title: str, path: Path
) -> Path:
    """Plots `accuracy` {order: a value per share} against the `shares` of silenced inputs, which `what` names."""
    figure, axis = _figure(figsize=(7, 4.5))
    for order, values in accuracy.items():
        style = {"color": "0.5", "linestyle": "--"} if order == "random" else {}
        style |= {"color": "black", "linestyle": ":"} if order == "loudest first" else {}
        axis.plot(np.asarray(shares) * 100, values, label=order, marker="o", markersize=3, **style)
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.set(xlabel=f"{what} silenced, %", ylabel="accuracy", title=title, ylim=(0, 1.01))
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    return _save(figure, path)
