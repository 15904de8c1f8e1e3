"""The manifest of an export: it describes the inputs, the outputs, the state of a stream, settings and versions."""

from importlib import metadata
from typing import Any

from audiojax import models
from audiojax.audio.lead import LEAD_AMPLITUDE, LEAD_STEPS
from audiojax.config import PATHS
from audiojax.exporting import stablehlo
from audiojax.inference import Trained
from audiojax.streaming.decoder import FLUSH_SECONDS, Decoder
from audiojax.training import environment

TOLERANCE = 1e-4  # of the outputs; the order of sums depends on the runtime
EXTRA = ("flatbuffers", "onnx", "onnxruntime")  # StableHLO needs the first only
# Keys of the config that are left out of the manifest, because they describe this machine.
LOCAL = (*PATHS, "wandb", "mesh")


def has_onnx(run: Trained) -> bool:
    """Returns whether the network of `run` has an ONNX graph; every network has a StableHLO program."""
    return bool(models.row(run.model)[1].onnx)


def libraries(run: Trained) -> tuple[str, ...]:
    """Returns the libraries, beside those that training needs, that the export of `run` needs."""
    return EXTRA if has_onnx(run) else EXTRA[:1]


def describe(run: Trained, errors: dict[str, float], checked_on: str) -> dict[str, Any]:
    """Returns the manifest, which describes the files, ready for JSON; it depends on the run only, not on the time."""
    model, about = run.model, environment.describe(1)
    shapes, step_samples, length_samples = {}, None, run.config.train.length_samples
    if stablehlo.has_steps(model):
        shapes, step_samples, length_samples = stablehlo.carry_shapes(model), model.step_samples, None
    further, decoder = _about_streams(run) if run.streams else ([], {})
    clip, any_clip = (
        f"[batch, {samples}], zero right-padded; length int32[batch]"
        for samples in (length_samples or "samples", "samples" if model.any_length else length_samples)
    )
    hop = f"int16[batch, {step_samples}]"
    inputs = {
        "classifier.stablehlo": f"audio float32{clip}; at int16 scale, -32768 to 32767",
        "classifier.onnx": f"audio int16{any_clip}",
        "step.stablehlo": f"carry, a dict of float32 arrays by name; audio {hop}",
        "step.onnx": f"audio {hop}; each part of the carry",
    }
    return {
        "rate_hz": run.config.data.rate_hz,
        "step_samples": step_samples,
        "length_samples": length_samples,
        "label_names": list(run.label_names),
        "inputs": {name: inputs[name] for name in errors},
        "outputs": [*run.label_names, *further],  # logits, all but the times
        "temperature": run.temperature,
        "carry": [
            {"name": name, "next": f"next_{name}", "shape": ["batch", *shape], "initial": 0.0}
            for name, shape in shapes.items()
        ],
        **({"listening": decoder} if decoder else {}),
        "source": run.data["source"],
        "checkpoint_step": run.step,
        "config": _public(run.config.to_dict()),
        "revision": about["revision"],
        "versions": {name: about["versions"][name] for name in ("audiojax", "jax", "flax", "numpy")}
        | {name: metadata.version(name) for name in libraries(run)},
        "parity": {"checked_on": checked_on, "tolerance": TOLERANCE, "errors": errors},
    }


def _about_streams(run: Trained) -> tuple[list[str], dict[str, float]]:
    """Returns the names of the outputs after the labels, and the settings of the decoder and of a stream's ends."""
    names = ["no word", "seconds since the word began", "seconds since the word ended"]
    if run.model.counts:
        names += ["more than one word", "more than two words"]
    lead_seconds = LEAD_STEPS * run.model.step_samples / run.config.data.rate_hz
    ends = {"lead_seconds": lead_seconds, "lead_amplitude": LEAD_AMPLITUDE, "flush_seconds": FLUSH_SECONDS}
    return names, Decoder(**run.config.decoder)._asdict() | ends


def _public(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    kept = {name: value for name, value in config.items() if prefix + name not in LOCAL}
    return {
        name: _public(value, f"{prefix}{name}.") if isinstance(value, dict) else value for name, value in kept.items()
    }
