"""Export of a network with its parameters as StableHLO, which runs with jax alone, without flax and this package.

A recurrent network is one program for sound of any length, which scans its `step`. The state of a stream is a
dictionary of arrays, as in the ONNX graphs, so that the programs do not need `models.gru.Carry`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import export

from audiojax.models.gru import GRU, MAX_COUNT, Carry

PLATFORMS = ("cpu", "cuda", "tpu")
Parts = dict[str, jax.Array]
Tree = dict[str, Any]  # parameters and statistics of a network, or of a part of it


def has_steps(model: nn.Module) -> TypeGuard[GRU]:
    """Returns whether a network processes a stream step by step; its sound may then have any length."""
    return hasattr(model, "step")


def num_outputs(model: nn.Module) -> int:
    """Returns how many outputs a network has: one for each label, or those of `models.gru.StreamOutputs`."""
    streams, counts = getattr(model, "task", "clips") == "streams", getattr(model, "counts", False)
    return int(model.num_labels) + streams * (3 + (MAX_COUNT - 1) * counts)


def carry_shapes(model: GRU) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the arrays in a stream's state that this network uses, without the batch axis, by name.

    All of them are initially zero.
    """
    shapes = {name: x.shape[1:] for name, x in jax.eval_shape(lambda: _silence(model, {}, 1)).items()}
    unused = set() if shapes["context"][0] else {"context"}
    unused |= set() if model.normalise == "running" else {"level"}
    unused |= {"total", "weight"} if model.readout == "last" else set()
    return {name: shape for name, shape in shapes.items() if name not in unused}


def step_function(model: GRU, variables: Tree) -> Callable[[Parts, jax.Array], tuple[Parts, jax.Array]]:
    """Returns one step of the network as a function from (carry, audio) to (the next carry, outputs f32[B, n]).

    The carry is the state of B streams, {name: f32[B, ...]}; `audio` [B, step_samples] has integers, or floats at
    int16 scale. `variables` are the network's parameters and statistics.
    """
    names = carry_shapes(model)

    def step(parts: Parts, audio: jax.Array) -> tuple[Parts, jax.Array]:
        start = _silence(model, variables, audio.shape[0]) | parts
        frames = tuple(start[f"frames_{i}"] for i in range(len(model.channels)))
        hidden = tuple(start[f"hidden_{i}"] for i in range(model.num_layers))
        before = Carry(start["context"], start["level"], frames, hidden, start["total"], start["weight"])
        carry, outputs = _apply(model, variables, before, audio, method="step")
        return {name: x for name, x in _named(carry).items() if name in names}, outputs

    return step


def classifier_function(model: nn.Module, variables: Tree) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the network as a function from (audio [B, T], length i32[B]) to outputs f32[B, n] at each clip's end.

    The audio is zero right-padded, integers, or floats at int16 scale; `length` is the number of samples without
    padding. `variables` are the network's parameters and statistics.
    """
    if not has_steps(model):
        return lambda audio, length: _apply(model, variables, audio, length)
    size, step, shapes = model.step_samples, step_function(model, variables), carry_shapes(model)

    def classify(audio: jax.Array, length: jax.Array) -> jax.Array:
        num_rows, num_samples = audio.shape
        whole = jnp.pad(audio, ((0, 0), (0, -num_samples % size)))
        hops = whole.reshape(num_rows, -(-num_samples // size), size).swapaxes(0, 1)
        steps = -(-(length if model.mask_padding else jnp.full_like(length, num_samples)) // size)

        def body(state: tuple[Parts, jax.Array], new: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            parts, outputs = step(state[0], new[1])
            return (parts, jnp.where((new[0] < steps)[:, None], outputs, state[1])), None

        start = {name: jnp.zeros((num_rows, *shape)) for name, shape in shapes.items()}
        number = jnp.arange(hops.shape[0], dtype=jnp.int32)
        return jax.lax.scan(body, (start, jnp.zeros((num_rows, num_outputs(model)))), (number, hops))[0][1]

    return classify


def classifier(model: nn.Module, variables: Tree, length_samples: int) -> bytes:
    """Returns the bytes of a StableHLO program from audio f32[B, T] and its length i32[B] to the outputs f32[B, n].

    B is arbitrary, and so is T for a network that runs in steps; for others it is `length_samples`. The audio
    is at int16 scale (-32768 to 32767). It is float32, so that the program has a gradient with respect to the audio;
    convert i16 samples with `astype`.
    """
    rows, samples = export.symbolic_shape("batch, samples")
    arguments = (
        jax.ShapeDtypeStruct((rows, samples if has_steps(model) else length_samples), jnp.float32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )
    return _serialised(classifier_function(model, variables), arguments, derivatives=1)


def step(model: GRU, variables: Tree) -> bytes:
    """Returns the bytes of a StableHLO program for a step of B streams, where B is arbitrary.

    It maps the state of the streams, {name: f32[B, ...]}, and audio i16[B, step_samples] to the next state and the
    outputs f32[B, n].
    """
    (rows,) = export.symbolic_shape("batch")
    parts = {name: jax.ShapeDtypeStruct((rows, *shape), jnp.float32) for name, shape in carry_shapes(model).items()}
    audio = jax.ShapeDtypeStruct((rows, model.step_samples), jnp.int16)
    return _serialised(step_function(model, variables), (parts, audio), derivatives=0)


def load(content: bytes) -> Callable[..., Any]:
    """Returns the program that `classifier` or `step` has serialised as a function of arrays."""
    return jax.jit(export.deserialize(bytearray(content)).call)


def _apply(model: nn.Module, variables: Tree, *arguments: Any, method: str = "__call__") -> Any:
    # Plain kernels are correct on every device and have all derivatives, whichever device exports.
    plain = model.clone(kernels="plain") if hasattr(model, "kernels") else model
    return plain.apply(variables, *arguments, method=method)


def _silence(model: GRU, variables: Tree, num_rows: int) -> Parts:
    return _named(_apply(model, variables, num_rows, method="initial_carry"))


def _named(carry: Carry) -> Parts:
    layers = {f"frames_{i}": x for i, x in enumerate(carry.frames)}
    layers |= {f"hidden_{i}": x for i, x in enumerate(carry.hidden)}
    return {"context": carry.context, "level": carry.level, **layers, "total": carry.total, "weight": carry.weight}


def _serialised(function: Callable[..., Any], arguments: tuple[Any, ...], derivatives: int) -> bytes:
    with _without_places():
        exported = export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
        return bytes(exported.serialize(vjp_order=derivatives))


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
    """A context manager that leaves source locations out of programs, so that they are equal on all machines."""
    before = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)
