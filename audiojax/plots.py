"""Pictures of a run and of its sound, as PNGs. The only importer of matplotlib."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiojax.types import Clips

PARTS = {"train": "#1f77b4", "validation": "#ff7f0e", "test": "#2ca02c"}


def _figure(*args, **kwargs):
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold"}
    )
    return pyplot.subplots(*args, layout="constrained", **kwargs)


def _save(figure, path: Path) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path


def curves(rows: Sequence[dict], title: str, path: Path) -> Path:
    """Loss and accuracy by epoch, of all three parts; `rows` are those of metrics.jsonl."""
    epochs = [row for row in rows if "epoch" in row]
    figure, axes = _figure(1, 2, figsize=(10, 3.8))
    for axis, measure in zip(axes, ("loss", "accuracy"), strict=True):
        for part, colour in PARTS.items():
            values = [row[f"{part}/{measure}"] for row in epochs]
            axis.plot([row["epoch"] for row in epochs], values, color=colour, label=part, marker="o", markersize=3)
        axis.set(xlabel="epoch", title=measure)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.25)
    axes[0].set(ylabel="cross-entropy, nats")
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 1.01)
    axes[1].yaxis.set_major_formatter("{x:.0%}")
    axes[1].legend(loc="lower right", frameon=False)
    figure.suptitle(title)
    return _save(figure, path)


def confusion_matrix(confusion: np.ndarray, names: Sequence[str], title: str, path: Path) -> Path:
    """Counts in the cells, shares of the true label as colour; `confusion` i32[labels, labels] is [true, predicted]."""
    figure, axis = _figure(figsize=(0.55 * len(names) + 2.2, 0.5 * len(names) + 1.8))
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for true, predicted in np.argwhere(confusion):
        colour = "white" if share[true, predicted] > 0.5 else "black"
        count = f"{confusion[true, predicted]:,}"
        axis.text(predicted, true, count, ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="said", title=title)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, label="share of what was said", shrink=0.8)
    return _save(figure, path)


def waveforms_and_spectrograms(clips: Clips, indices: Sequence[int], title: str, path: Path) -> Path:
    """A column a clip: its waveform in [-1, 1] above its spectrogram in dB, 32 ms windows every 4 ms."""
    figure, axes = _figure(2, len(indices), figsize=(5 * len(indices), 5.2), squeeze=False, sharex="col")
    for (above, below), index in zip(axes.T, indices, strict=True):
        sound = clips[index] / 32768.0
        seconds = len(sound) / clips.rate_hz
        above.plot(np.arange(len(sound)) / clips.rate_hz, sound, linewidth=0.5, color=PARTS["train"])
        name = clips.label_names[clips.label[index]]
        above.set(title=f"“{name}”, speaker {clips.speaker[index]}, take {clips.take[index]}", ylabel="amplitude")
        limit = float(np.abs(sound).max()) * 1.05 or 1.0
        above.set_ylim(-limit, limit)
        hop, size = clips.rate_hz // 250, clips.rate_hz * 32 // 1000
        padded = np.pad(sound, (size // 2, size))
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(sound) : hop] * np.hanning(size)
        power_db = 20 * np.log10(np.abs(np.fft.rfft(frames, 2 * size)) + 1e-6).T
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
    return _save(figure, path)
