"""Export of a run to files, and comparison of each with the network."""

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from audiojax import config as configs
from audiojax.audio.signal import prepare_clip
from audiojax.data import batches, loading, splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.exporting import manifest, stablehlo
from audiojax.inference import Trained
from audiojax.io.files import whole_folder
from audiojax.models.gru import GRU
from audiojax.schema import DIGITS
from audiojax.synthesis import formant
from audiojax.synthesis.voices import make_voice

NUM_CLIPS = 64


NUM_STREAMS = 4  # of these clips, processed step by step


Parts = dict[str, np.ndarray]


Classify = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of audio i16[B, T] and its length i32[B]


Step = Callable[[Parts, np.ndarray], tuple[Parts, np.ndarray]]  # of a carry and audio i16[B, step_samples]


class File(NamedTuple):
    """An exported file: its name and size, and how it compares with the network.

    `error` is the largest difference of its outputs from the network's own. `milliseconds` are for a step, or a clip,
    in onnxruntime on one thread; None for files that are not ONNX.
    """

    name: str
    num_bytes: int
    error: float  # the largest difference from the network's own outputs
    milliseconds: float | None  # a step, or a clip, in onnxruntime on one thread


def write(run: Trained, out: Path) -> tuple[list[File], str]:
    """Exports a run to the folder `out`; returns its files, and a description of the clips they were checked on.

    Raises InputError, and leaves nothing, if a file's outputs differ from the network's, and if the folder contains
    anything but an earlier export.
    """
    if missing := [name for name in manifest.libraries(run) if importlib.util.find_spec(name) is None]:
        raise InputError(f"export needs {' and '.join(missing)}, an extra: pip install -e '.[onnx]'.")
    run = dataclasses.replace(run, variables=jax.device_get(run.variables))
    with whole_folder(out) as folder:
        contents = _contents(run)
        clips, indices, checked_on = _clips(run)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        errors = _errors(run, folder, contents, clips, indices)
        for name, error in errors.items():
            if not error <= manifest.TOLERANCE:  # true for NaN
                raise InputError(
                    f"{name} differs from the network by {error:.1e}, more than {manifest.TOLERANCE:g}, on "
                    f"{checked_on}; nothing is written: report it with the run's config.json."
                )
        described = json.dumps(manifest.describe(run, errors, checked_on), indent=2)
        (folder / "manifest.json").write_text(described + "\n")
        taken = _milliseconds(run, folder) if "classifier.onnx" in contents else {}
    return [File(name, len(contents[name]), errors[name], taken.get(name)) for name in contents], checked_on


def _contents(run: Trained) -> dict[str, bytes]:
    """Returns each file's content by its name."""
    exporters: dict[str, Any] = {"stablehlo": stablehlo}
    if manifest.has_onnx(run):
        from audiojax.exporting import onnx_graphs

        exporters["onnx"] = onnx_graphs
    contents = {
        f"classifier.{kind}": exporter.classifier(run.model, run.variables, run.config.train.length_samples)
        for kind, exporter in exporters.items()
    }
    if stablehlo.has_steps(run.model):
        contents |= {f"step.{kind}": exporter.step(run.model, run.variables) for kind, exporter in exporters.items()}
    return contents


def _clips(run: Trained) -> tuple[Clips, np.ndarray, str]:
    """Returns clips, at most NUM_CLIPS indices of clips that the network was not trained on, and their description."""
    try:
        clips = loading.load_clips(run.config)
        if clips.key == run.data["key"]:
            test = splits.make(clips, **run.config.split).test
            chosen = test[np.linspace(0, len(test) - 1, min(NUM_CLIPS, len(test))).astype(int)]  # of every label
            return clips, chosen, f"{len(chosen)} test clips of {clips.source}"
        reason = f"those of {clips.source} are not what it was trained on"
    except InputError as error:
        reason = str(error).rstrip(".")
    rate_hz, sounds = run.config.data.rate_hz, []
    for take in range(NUM_CLIPS):
        rng = np.random.default_rng([0, take])
        sound = formant.synthesise(DIGITS[take % len(DIGITS)], make_voice(0, take // len(DIGITS)), rng)
        sounds.append(prepare_clip(sound, formant.RATE_HZ, rate_hz))
    return Clips.unlabelled(sounds, rate_hz), np.arange(NUM_CLIPS), f"{NUM_CLIPS} synthetic clips, made now ({reason})"


def _errors(run: Trained, folder: Path, names: Collection[str], clips: Clips, indices: np.ndarray) -> dict[str, float]:
    """Returns the largest difference between each file's outputs and the network's."""
    order = indices[batches.by_length(clips, indices)]
    parts = list(batches.evaluation(clips, order, **configs.batch_shape(run.config)))
    opened: dict[str, Any] = {name: _OPEN[name](folder / name) for name in names}
    classifiers = {name: call for name, call in opened.items() if name.startswith("classifier")}
    errors = dict.fromkeys(classifiers, 0.0)
    for part in parts:
        present = part["mask"] > 0
        expected = run.logits(part["audio"], part["length"])[present]
        audio = part["audio"]
        if not stablehlo.has_steps(run.model):  # its files take sound of one length only
            audio = np.pad(audio, ((0, 0), (0, run.config.train.length_samples - audio.shape[1])))
        for name, classify in classifiers.items():
            errors[name] = _larger(errors[name], classify(audio, part["length"])[present] - expected)
    if stablehlo.has_steps(run.model):
        steps = {name: call for name, call in opened.items() if name.startswith("step")}
        longest = parts[-1]["audio"][parts[-1]["mask"] > 0][-NUM_STREAMS:]
        errors |= _errors_of_steps(run.model, run.variables, steps, longest)
    return errors


def _errors_of_steps(
    model: GRU, variables: dict[str, Any], steps: dict[str, Step], audio: np.ndarray
) -> dict[str, float]:
    """Returns the same for `steps`, each of which processes all of `audio` i16[B, T] with a carry of its own."""
    network: Any = jax.jit(lambda carry, hop: model.apply(variables, carry, hop, method="step"))
    carry: Any = model.apply(variables, len(audio), method="initial_carry")
    carries, errors = dict.fromkeys(steps, initial_carry(model, len(audio))), dict.fromkeys(steps, 0.0)
    whole = np.pad(audio, ((0, 0), (0, -audio.shape[1] % model.step_samples)))
    for hop in np.split(whole, whole.shape[1] // model.step_samples, axis=1):
        carry, expected = jax.device_get(network(carry, hop))
        for name, step in steps.items():
            carries[name], outputs = step(carries[name], hop)
            errors[name] = _larger(errors[name], outputs - expected)
    return errors


def initial_carry(model: GRU, num_streams: int) -> Parts:
    """Returns the state of streams before their first step, {name: zeros}, in the form that the exported steps take."""
    return {name: np.zeros((num_streams, *shape), np.float32) for name, shape in stablehlo.carry_shapes(model).items()}


def _larger(error: float, difference: np.ndarray) -> float:
    return float(np.maximum(error, abs(difference).max(initial=0)))  # a NaN stays


def _stablehlo_classifier(path: Path) -> Classify:
    call = stablehlo.load(path.read_bytes())
    return lambda audio, length: np.asarray(call(audio.astype(np.float32), length))


def _stablehlo_step(path: Path) -> Step:
    call = stablehlo.load(path.read_bytes())
    return lambda carry, audio: jax.device_get(call(carry, audio))


def _onnx_classifier(path: Path) -> Classify:
    session = _session(path)
    return lambda audio, length: session.run(None, {"audio": audio, "length": length})[0]


def _onnx_step(path: Path) -> Step:
    session = _session(path)
    names = [value.name.removeprefix("next_") for value in session.get_outputs()]

    def step(carry: Parts, audio: np.ndarray) -> tuple[Parts, np.ndarray]:
        after = dict(zip(names, session.run(None, {"audio": audio, **carry}), strict=True))
        return after, after.pop("outputs")

    return step


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


_OPEN: dict[str, Callable[[Path], Any]] = {
    "classifier.stablehlo": _stablehlo_classifier,
    "classifier.onnx": _onnx_classifier,
    "step.stablehlo": _stablehlo_step,
    "step.onnx": _onnx_step,
}


def _milliseconds(run: Trained, folder: Path) -> dict[str, float]:
    """Returns the median time of each ONNX graph for one row: a step, or a clip of `length_samples`."""
    classify, length = (
        _onnx_classifier(folder / "classifier.onnx"),
        np.full(1, run.config.train.length_samples, np.int32),
    )
    audio = np.random.default_rng(0).integers(-3000, 3000, (1, int(length[0]))).astype(np.int16)
    taken = {"classifier.onnx": _median_milliseconds(lambda: classify(audio, length), 10)}
    if stablehlo.has_steps(run.model):
        step, carry = _onnx_step(folder / "step.onnx"), initial_carry(run.model, 1)
        hop = np.resize(audio, (1, run.model.step_samples))
        taken["step.onnx"] = _median_milliseconds(lambda: step(carry, hop), 200)
    return taken


def _median_milliseconds(once: Callable[[], Any], times: int) -> float:
    once()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1000
