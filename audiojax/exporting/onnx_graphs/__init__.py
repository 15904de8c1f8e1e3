"""Export of networks as ONNX graphs, written node by node; it needs the extra `[onnx]`.

Each network that has a graph has a module here, which its row in `schema.NETWORKS` names. Sound is [B, T] at the input,
and [B, channels, T] inside, the layout of ONNX's convolutions.
"""

import importlib
from types import ModuleType

from flax import linen as nn
from onnx import TensorProto

from audiojax import models
from audiojax.errors import InputError
from audiojax.exporting.onnx_graphs.graph import Graph
from audiojax.exporting.stablehlo import Tree, carry_shapes, num_outputs
from audiojax.models.gru import GRU


def classifier(model: nn.Module, variables: Tree, length_samples: int) -> bytes:
    """Returns the bytes of an ONNX model from `audio` i16[B, T] and `length` i32[B] to `outputs` f32[B, n].

    The audio is zero right-padded; `length` is the number of samples without padding. B is arbitrary, and so is T for a
    network that takes sound of any length; otherwise T is `length_samples`. Raises InputError for a network without a
    graph, and for bfloat16, which ONNX's runtimes do not support.
    """
    builder, graph = _builder(model), Graph()
    if model.dtype != "float32":
        raise InputError(
            f"config.model.dtype is {model.dtype!r}; ONNX runtimes do not support its convolutions; train with float32."
        )
    audio = graph.input("audio", ["batch", "samples" if model.any_length else length_samples], TensorProto.INT16)
    length = graph.input("length", ["batch"], TensorProto.INT32)
    outputs = builder.classifier(graph, model, variables, audio, length, length_samples)
    graph.output("outputs", outputs, ["batch", num_outputs(model)])
    return graph.file("classifier")


def step(model: GRU, variables: Tree) -> bytes:
    """Returns the bytes of an ONNX model for a step of B streams, where B is arbitrary.

    Its inputs are `audio` i16[B, step_samples] and each array of the streams' state by its name; its outputs are
    `outputs` f32[B, n] and each array's next value, named next_NAME.
    """
    graph, shapes = Graph(), carry_shapes(model)
    audio = graph.input("audio", ["batch", model.step_samples], TensorProto.INT16)
    carry = {name: graph.input(name, ["batch", *shape]) for name, shape in shapes.items()}
    after, outputs = _builder(model).step(graph, model, variables, audio, carry)
    graph.output("outputs", outputs, ["batch", num_outputs(model)])
    for name, shape in shapes.items():
        graph.output(f"next_{name}", after[name], ["batch", *shape])
    return graph.file("step")


def _builder(model: nn.Module) -> ModuleType:
    name, row = models.row(model)
    if not row.onnx:
        raise InputError(f"config.model.name is {name!r}, which has no ONNX graph; its StableHLO program is exported.")
    return importlib.import_module(row.onnx)
