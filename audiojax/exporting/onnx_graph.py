"""The networks as ONNX graphs, written node by node. The only importer of onnx, which the extra `[onnx]` brings.

Sound is [B, T] in and [B, channels, T] within, as ONNX's convolutions have it. A recurrent network's step is one piece
of graph: the step graph holds it once, the graph for whole clips in a Scan.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from flax import linen as nn
from onnx import TensorProto, helper, numpy_helper

from audiojax.errors import InputError
from audiojax.exporting.stablehlo import Tree, carry_shapes
from audiojax.models import audionet, gru
from audiojax.models.audionet import AudioNet
from audiojax.models.gru import GRU
from audiojax.models.layers.causal_conv import WIDTH
from audiojax.models.layers.frontend import POWER_FLOOR, LogMel, Raw

OPSET, IR_VERSION = 20, 9  # of 2023: what runs today's models runs these
EPSILON = 1e-5  # of flax's BatchNorm
Value = str | np.ndarray | float | Sequence[int]  # a value of the graph by its name, or a constant


class Graph:
    """A graph in the making. Values go by their names, which begin with `prefix`."""

    def __init__(self, prefix: str = ""):
        self._prefix, self._count = prefix, 0
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._known: dict[tuple[Any, ...], str] = {}  # constants that are there already
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(self._prefix + name, kind, shape))
        return self._prefix + name

    def output(self, name: str, value: str, shape: Sequence[int | str]) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [self._prefix + name]))
        self._outputs.append(helper.make_tensor_value_info(self._prefix + name, TensorProto.FLOAT, shape))

    def many(self, kind: str, *inputs: Value, num_outputs: int, **attributes: Any) -> list[str]:
        """The outputs of a new node."""
        number, self._count = self._count, self._count + 1
        outputs = [f"{self._prefix}{kind.lower()}_{number}_{i}" for i in range(num_outputs)]
        names = [value if isinstance(value, str) else self.weight(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, names, outputs, **attributes))
        return outputs

    def __call__(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """The output of a new node that has one."""
        return self.many(kind, *inputs, num_outputs=1, **attributes)[0]

    def weight(self, value: np.ndarray | float | Sequence[int]) -> str:
        """A constant: whole numbers in int64, others in float32."""
        array = np.asarray(value)
        array = np.ascontiguousarray(array, np.int64 if array.dtype.kind == "i" else np.float32).reshape(array.shape)
        name = self._known.setdefault(
            (array.dtype, array.shape, array.tobytes()), f"{self._prefix}weight_{len(self._known)}"
        )
        if len(self._known) > len(self._weights):
            self._weights.append(numpy_helper.from_array(array, name))
        return name

    def proto(self, name: str) -> onnx.GraphProto:
        return helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._weights)

    def file(self, name: str) -> bytes:
        """The model's file. Raises onnx.checker.ValidationError where the graph contradicts itself."""
        model = helper.make_model(
            self.proto(name), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "audiojax"
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def classifier(model: nn.Module, variables: Tree, length_samples: int) -> bytes:
    """A graph of audio i16[B, T], zero right-padded, and its length i32[B], for any B; and T, or else `length_samples`.

    Raises InputError for a network that ONNX's runtimes cannot compute as it is.
    """
    graph = Graph()
    if isinstance(model, GRU):
        audio = graph.input("audio", ["batch", "samples"], TensorProto.INT16)
        read = _heard(graph, model, variables, audio, graph.input("length", ["batch"], TensorProto.INT32))
        graph.output(
            "outputs", _said(graph, variables["params"], read), ["batch", model.num_labels + 3 * model.listens]
        )
    elif isinstance(model, AudioNet):
        audio = graph.input("audio", ["batch", length_samples], TensorProto.INT16)
        length = graph.input("length", ["batch"], TensorProto.INT32)
        graph.output(
            "outputs", _audionet(graph, model, variables, audio, length, length_samples), ["batch", model.num_labels]
        )
    else:
        raise InputError(f"config.model.name is that of a {type(model).__name__}, which has no ONNX graph yet.")
    return graph.file("classifier")


def step(model: GRU, variables: Tree) -> bytes:
    """A graph of audio i16[B, step_samples] and the parts of the carry: `outputs`, and each part's next value."""
    graph, shapes = Graph(), carry_shapes(model)
    audio = graph.input("audio", ["batch", model.step_samples], TensorProto.INT16)
    carry = {name: graph.input(name, ["batch", *shape]) for name, shape in shapes.items()}
    sound = _to_unit_range(graph, audio)
    if "context" in carry:
        sound = graph("Concat", carry["context"], sound, axis=1)
    frames = _frames(graph, model, variables, sound)
    after, read = _step(graph, model, variables, frames, carry)
    if "context" in carry:
        after["context"] = graph("Slice", sound, [model.step_samples], [2**31 - 1], [1])
    graph.output("outputs", _said(graph, variables["params"], read), ["batch", model.num_labels + 3 * model.listens])
    for name, shape in shapes.items():
        graph.output(f"next_{name}", after[name], ["batch", *shape])
    return graph.file("step")


def _to_unit_range(graph: Graph, audio: str) -> str:
    return graph("Mul", graph("Cast", audio, to=TensorProto.FLOAT), 1 / 32768)


def _dense(graph: Graph, params: Tree, x: str) -> str:
    return graph("Gemm", x, params["kernel"], params["bias"])


def _frames(graph: Graph, model: GRU, variables: Tree, sound: str) -> str:
    """[N, B, bands] of `sound` [B, context_samples + N * hop_samples] in [-1, 1]; see `models.frontend`."""
    front_end = model.bind(variables).front_end
    if isinstance(front_end, Raw):
        return graph("Transpose", graph("Reshape", sound, [0, -1, model.hop_samples]), perm=[1, 0, 2])
    sound = graph("Unsqueeze", sound, [1])
    if isinstance(front_end, LogMel):
        waves, bands = (np.asarray(x) for x in front_end.weights())
        windows = graph("Conv", sound, waves.T[:, None], strides=[model.hop_samples])
        parts = graph("Transpose", windows, perm=[2, 0, 1])
        squares = graph.many("Split", graph("Mul", parts, parts), [len(bands)] * 2, axis=-1, num_outputs=2)
        return graph("Log", graph("Add", graph("MatMul", graph("Add", *squares), bands), POWER_FLOOR))
    filters, frames = (variables["params"]["front_end"][name] for name in ("filters", "frames"))
    x = graph("Conv", sound, filters["kernel"].T, filters["bias"], strides=[model.hop_samples // 10])
    x = graph("Log", graph("Add", graph("Mul", graph("Mul", x, x), 1e4), 1.0))
    x = graph("Conv", x, frames["kernel"].T, frames["bias"], strides=[10])
    return graph("Gelu", graph("Transpose", x, perm=[2, 0, 1]), approximate="tanh")


def _step(graph: Graph, model: GRU, variables: Tree, frames: str, carry: dict[str, str]) -> tuple[dict[str, str], str]:
    """What a step makes of its `frames` [stack_frames, B, bands]: the carry but for its context, and [B, features]."""
    params, after = variables["params"], {}
    if model.normalise != "none":
        mean, variance = (variables["batch_stats"]["norm"][name] for name in ("mean", "var"))
        frames = graph("Mul", graph("Sub", frames, mean), 1 / np.sqrt(variance + np.float32(EPSILON)))
    split = graph.many("Split", frames, [1] * model.stack_frames, axis=0, num_outputs=model.stack_frames)
    rows = [graph("Squeeze", frame, [0]) for frame in split]
    if model.normalise == "running":
        level = carry["level"]
        for i, row in enumerate(rows):
            level = graph("Add", graph("Mul", level, gru.LEVEL_KEEP), graph("Mul", row, 1 - gru.LEVEL_KEEP))
            rows[i] = graph("Sub", row, level)
        after["level"] = level
    if model.channels:
        x = graph("Concat", *(graph("Unsqueeze", row, [1, 3]) for row in rows), axis=-1)
        for i in range(len(model.channels)):
            x, after[f"frames_{i}"] = _convolved(graph, params[f"convolutions_{i}"], carry[f"frames_{i}"], x)
        x = graph("Flatten", x)
    else:
        x = graph("Concat", *rows, axis=-1)
    if model.dense:
        x = graph("Relu", _dense(graph, params["inputs"], x))
    for i in range(model.num_layers):
        x = after[f"hidden_{i}"] = CELLS[model.cell](graph, params[f"layers_{i}"], carry[f"hidden_{i}"], x)
    if model.readout == "last":
        return after, x
    keep = np.asarray(gru.READOUTS[model.readout], np.float32)[None, :, None]
    after["total"] = graph("Add", graph("Mul", carry["total"], keep), graph("Unsqueeze", x, [1]))
    after["weight"] = graph("Add", graph("Mul", carry["weight"], keep), 1.0)
    return after, graph("Flatten", graph("Div", after["total"], after["weight"]))


def _convolved(graph: Graph, params: Tree, before: str, x: str) -> tuple[str, str]:
    """`models.convolution.CausalConv` of a step, [B, 1, bands, channels] in and out, and the inputs it remembers."""
    x = graph("Concat", before, x, axis=1)
    kernel = params["kernel"].reshape(WIDTH, WIDTH, -1, params["bias"].size).transpose(3, 2, 0, 1)
    channels_first = graph("Transpose", x, perm=[0, 3, 1, 2])
    made = graph("Relu", graph("Conv", channels_first, kernel, params["bias"], strides=[1, 2], pads=[0, 1, 0, 1]))
    return graph("Transpose", made, perm=[0, 2, 3, 1]), graph("Slice", x, [1], [WIDTH], [1])


def _gru_cell(graph: Graph, params: Tree, hidden: str, x: str) -> str:
    size = params["kernel"].shape[0]
    of_x = graph.many("Split", _dense(graph, params["project"], x), [2 * size, size], axis=1, num_outputs=2)
    bias = np.concatenate([np.zeros((1, 2 * size), np.float32), params["bias"]], axis=1)
    product = graph("Gemm", hidden, params["kernel"], bias)
    of_hidden = graph.many("Split", product, [2 * size, size], axis=1, num_outputs=2)
    gates = graph("Sigmoid", graph("Add", of_x[0], of_hidden[0]))
    r, z = graph.many("Split", gates, [size, size], axis=1, num_outputs=2)
    n = graph("Tanh", graph("Add", of_x[1], graph("Mul", r, of_hidden[1])))
    return graph("Add", n, graph("Mul", z, graph("Sub", hidden, n)))


def _min_gru_cell(graph: Graph, params: Tree, hidden: str, x: str) -> str:
    keep = graph("Sigmoid", _dense(graph, params["keep"], x))
    candidate = _dense(graph, params["candidate"], x)
    return graph("Add", candidate, graph("Mul", keep, graph("Sub", hidden, candidate)))


CELLS = {"gru": _gru_cell, "min_gru": _min_gru_cell}


def _said(graph: Graph, params: Tree, read: str) -> str:
    logits = _dense(graph, params["logits"], read)
    if "times" not in params:
        return logits
    return graph("Concat", logits, graph("Softplus", _dense(graph, params["times"], read)), axis=-1)


def _heard(graph: Graph, model: GRU, variables: Tree, audio: str, length: str) -> str:
    """What the readout reads after `length` of `audio`: [B, averages * features]; `_step` in a Scan over all steps."""
    size, shapes = model.step_samples, carry_shapes(model)
    context = shapes.pop("context", (0,))[0]
    samples = graph("Shape", audio, start=1, end=2)
    behind = graph("Mod", graph("Neg", samples), [size])
    sound = graph("Pad", _to_unit_range(graph, audio), graph("Concat", [0, context, 0], behind, axis=0))
    frames = _frames(graph, model, variables, sound)
    bands = graph("Shape", frames, start=1)
    frames = graph("Reshape", frames, graph("Concat", [-1, model.stack_frames], bands, axis=0))
    # A row is read no more once its sound has ended.
    ends = graph("Cast", length, to=TensorProto.INT64) if model.mask_padding else samples
    steps = graph("Div", graph("Add", ends, [size - 1]), [size])
    num_steps = graph("Squeeze", graph("Shape", frames, start=0, end=1))
    number = graph("Range", 0, num_steps, 1)
    alive = graph("Unsqueeze", graph("Less", graph("Unsqueeze", number, [1]), steps), [2])

    states = {**shapes, "read": (len(gru.READOUTS[model.readout]) * model.features,)}
    body = Graph("step_")
    carry = {name: body.input(name, ["batch", *shape]) for name, shape in states.items()}
    frames_now = body.input("frames", [model.stack_frames, "batch", "bands"])
    alive_now = body.input("alive", ["rows", 1], TensorProto.BOOL)
    after, read = _step(body, model, variables, frames_now, carry)
    after["read"] = body("Where", alive_now, read, carry["read"])
    for name, shape in states.items():
        body.output(f"next_{name}", after[name], ["batch", *shape])
    batch = graph("Shape", audio, start=0, end=1)
    starts = [graph("ConstantOfShape", graph("Concat", batch, list(shape), axis=0)) for shape in states.values()]
    scanned = graph.many(
        "Scan", *starts, frames, alive, body=body.proto("step"), num_scan_inputs=2, num_outputs=len(states)
    )
    return scanned[-1]


def _audionet(graph: Graph, model: AudioNet, variables: Tree, audio: str, length: str, length_samples: int) -> str:
    if model.dtype != "float32":
        raise InputError(
            f"config.model.dtype is {model.dtype!r}; ONNX's runtimes have no such convolutions: train with float32."
        )
    params, becker = variables["params"], model.variant == "becker"
    x = _rescaled(graph, model.scale, _to_unit_range(graph, audio), length, length_samples)
    x = graph("Unsqueeze", x, [1])
    size = length_samples
    for i in range(len([name for name in params if name.startswith("conv_")])):
        kernel, bias = params[f"conv_{i}"]["kernel"], params[f"conv_{i}"]["bias"]
        if f"norm_{i}" in params:
            norm, known = params[f"norm_{i}"], variables["batch_stats"][f"norm_{i}"]
            factor = norm["scale"] / np.sqrt(known["var"] + np.float64(EPSILON))
            kernel, bias = kernel * factor, (bias - known["mean"]) * factor + norm["bias"]
        x = graph("Conv", x, kernel.transpose(2, 1, 0), bias, pads=[1, 1])
        wide = becker and i == 0
        x = graph("MaxPool", x, kernel_shape=[3 if wide else 2], strides=[2], pads=[0, int(wide and size % 2 == 0)])
        x, size = graph("Relu", x), size // 2
    x = graph("Flatten", x)
    for i, features in enumerate(audionet.HIDDEN):
        kernel, bias = params[f"dense_{i}"]["kernel"], params[f"dense_{i}"]["bias"]
        if i == 0:  # flax flattens [T, channels]
            kernel = kernel.reshape(size, -1, features).swapaxes(0, 1).reshape(-1, features)
        x = graph("Gemm", x, kernel, bias)
        x = x if becker else graph("Relu", x)
    x = _dense(graph, params["logits"], x)
    return graph("Relu", x) if model.relu_on_logits else x


def _rescaled(graph: Graph, scale: str, sound: str, length: str, length_samples: int) -> str:
    """See `frontend.rescale`."""
    if scale == "none":
        return sound
    if scale == "rms":
        energy = graph("ReduceSum", graph("Mul", sound, sound), [1])
        samples = graph("Unsqueeze", graph("Cast", length, to=TensorProto.FLOAT), [1])
        return graph("Div", sound, graph("Sqrt", graph("Add", graph("Div", energy, samples), 1e-9)))
    place = np.float32(0.95) * np.float32(length_samples - 1)  # of the percentile in the sorted samples
    low = int(place)
    largest, _ = graph.many("TopK", sound, [length_samples - low], axis=1, num_outputs=2)
    below = graph("Slice", largest, [-1], [2**31 - 1], [1])
    above = graph("Slice", largest, [-2], [-1], [1])
    share = float(place - low)
    percentile = graph("Add", graph("Mul", below, 1 - share), graph("Mul", above, share))
    return graph("Div", sound, graph("Add", percentile, 0.001 / 32768))
