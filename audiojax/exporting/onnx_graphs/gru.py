"""The recurrent network as ONNX graphs: of one step, and of whole clips, with the step in a Scan."""

import numpy as np
from onnx import TensorProto

from audiojax.exporting.onnx_graphs.frontend import frames_of
from audiojax.exporting.onnx_graphs.graph import EPSILON, Graph, dense, to_unit_range
from audiojax.exporting.stablehlo import Tree, carry_shapes
from audiojax.models.gru import GRU
from audiojax.models.layers.averages import READOUTS
from audiojax.models.layers.causal_conv import WIDTH


def classifier(graph: Graph, model: GRU, variables: Tree, audio: str, length: str, _: int) -> str:
    """Adds a GRU for whole clips to the graph and returns the name of its outputs f32[B, n] at the end of each clip.

    `audio` i16[B, T] and `length` i32[B] are names of values of the graph.
    """
    size, shapes = model.step_samples, carry_shapes(model)
    context = shapes.pop("context", (0,))[0]
    samples = graph("Shape", audio, start=1, end=2)
    behind = graph("Mod", graph("Neg", samples), [size])
    sound = graph("Pad", to_unit_range(graph, audio), graph("Concat", [0, context, 0], behind, axis=0))
    frames = frames_of(graph, model, variables, sound)
    bands = graph("Shape", frames, start=1)
    frames = graph("Reshape", frames, graph("Concat", [-1, model.stack_frames], bands, axis=0))
    # The outputs of a row stay the same after its sound has ended.
    ends = graph("Cast", length, to=TensorProto.INT64) if model.mask_padding else samples
    steps = graph("Div", graph("Add", ends, [size - 1]), [size])
    num_steps = graph("Squeeze", graph("Shape", frames, start=0, end=1))
    number = graph("Range", 0, num_steps, 1)
    alive = graph("Unsqueeze", graph("Less", graph("Unsqueeze", number, [1]), steps), [2])

    states = {**shapes, "read": (len(READOUTS[model.readout]) * model.features,)}
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
    return _outputs(graph, variables["params"], scanned[-1])


def step(graph: Graph, model: GRU, variables: Tree, audio: str, carry: dict[str, str]) -> tuple[dict[str, str], str]:
    """Adds one step of a GRU; returns the names of the arrays of the next state, by key, and of the outputs f32[B, n].

    `audio` i16[B, step_samples] and the values of `carry`, the state before the step, are names of values of the graph.
    """
    sound = to_unit_range(graph, audio)
    if "context" in carry:
        sound = graph("Concat", carry["context"], sound, axis=1)
    after, read = _step(graph, model, variables, frames_of(graph, model, variables, sound), carry)
    if "context" in carry:
        after["context"] = graph("Slice", sound, [model.step_samples], [2**31 - 1], [1])
    return after, _outputs(graph, variables["params"], read)


def _step(graph: Graph, model: GRU, variables: Tree, frames: str, carry: dict[str, str]) -> tuple[dict[str, str], str]:
    """Adds a step after the front end; returns the carry without its context, and the features of the readout.

    `frames` are [stack_frames, B, bands], the result is [B, features].
    """
    params, after = variables["params"], {}
    if model.normalise != "none":
        mean, variance = (variables["batch_stats"]["norm"][name] for name in ("mean", "var"))
        frames = graph("Mul", graph("Sub", frames, mean), 1 / np.sqrt(variance + np.float32(EPSILON)))
    split = graph.many("Split", frames, [1] * model.stack_frames, axis=0, num_outputs=model.stack_frames)
    rows = [graph("Squeeze", frame, [0]) for frame in split]
    if model.normalise == "running":
        level, decay = carry["level"], model.normalise_decay
        for i, row in enumerate(rows):
            level = graph("Add", graph("Mul", level, decay), graph("Mul", row, 1 - decay))
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
        x = graph("Relu", dense(graph, params["inputs"], x))
    for i in range(model.num_layers):
        x = after[f"hidden_{i}"] = CELLS[model.cell](graph, params[f"layers_{i}"], carry[f"hidden_{i}"], x)
    if model.readout == "last":
        return after, x
    keep = np.asarray(READOUTS[model.readout], np.float32)[None, :, None]
    after["total"] = graph("Add", graph("Mul", carry["total"], keep), graph("Unsqueeze", x, [1]))
    after["weight"] = graph("Add", graph("Mul", carry["weight"], keep), 1.0)
    return after, graph("Flatten", graph("Div", after["total"], after["weight"]))


def _convolved(graph: Graph, params: Tree, before: str, x: str) -> tuple[str, str]:
    """Adds a `CausalConv` of one step, [B, 1, bands, channels]; returns its outputs, and its inputs for the next."""
    x = graph("Concat", before, x, axis=1)
    kernel = params["kernel"].reshape(WIDTH, WIDTH, -1, params["bias"].size).transpose(3, 2, 0, 1)
    channels_first = graph("Transpose", x, perm=[0, 3, 1, 2])
    y = graph("Relu", graph("Conv", channels_first, kernel, params["bias"], strides=[1, 2], pads=[0, 1, 0, 1]))
    return graph("Transpose", y, perm=[0, 2, 3, 1]), graph("Slice", x, [1], [WIDTH], [1])


def _gru_cell(graph: Graph, params: Tree, hidden: str, x: str) -> str:
    size = params["kernel"].shape[0]
    of_x = graph.many("Split", dense(graph, params["project"], x), [2 * size, size], axis=1, num_outputs=2)
    bias = np.concatenate([np.zeros((1, 2 * size), np.float32), params["bias"]], axis=1)
    product = graph("Gemm", hidden, params["kernel"], bias)
    of_hidden = graph.many("Split", product, [2 * size, size], axis=1, num_outputs=2)
    gates = graph("Sigmoid", graph("Add", of_x[0], of_hidden[0]))
    r, z = graph.many("Split", gates, [size, size], axis=1, num_outputs=2)
    n = graph("Tanh", graph("Add", of_x[1], graph("Mul", r, of_hidden[1])))
    return graph("Add", n, graph("Mul", z, graph("Sub", hidden, n)))


def _min_gru_cell(graph: Graph, params: Tree, hidden: str, x: str) -> str:
    keep = graph("Sigmoid", dense(graph, params["keep"], x))
    candidate = dense(graph, params["candidate"], x)
    return graph("Add", candidate, graph("Mul", keep, graph("Sub", hidden, candidate)))


CELLS = {"gru": _gru_cell, "min_gru": _min_gru_cell}


def _outputs(graph: Graph, params: Tree, read: str) -> str:
    logits = dense(graph, params["logits"], read)
    if "times" not in params:
        return logits
    parts = [logits, graph("Softplus", dense(graph, params["times"], read))]
    parts += [dense(graph, params["more"], read)] if "more" in params else []
    return graph("Concat", *parts, axis=-1)
