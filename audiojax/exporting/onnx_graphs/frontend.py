"""The front ends and scales of `models.layers.frontend` as ONNX nodes."""

from typing import Any

import numpy as np
from onnx import TensorProto

from audiojax.exporting.onnx_graphs.graph import Graph
from audiojax.exporting.stablehlo import Tree
from audiojax.models.layers import frontend
from audiojax.models.layers.frontend import POWER_FLOOR, LogMel, Raw


def frames_of(graph: Graph, model: Any, variables: Tree, sound: str) -> str:
    """Adds a model's front end to the graph; returns the name of its frames f32[N, B, bands].

    `sound` is the name of f32[B, context_samples + N * hop_samples] in [-1, 1].
    """
    params = variables["params"].get("front_end", {})
    front_end = frontend.of(model, parent=None).bind({"params": params})
    if isinstance(front_end, Raw):
        return graph("Transpose", graph("Reshape", sound, [0, -1, model.hop_samples]), perm=[1, 0, 2])
    sound = graph("Unsqueeze", sound, [1])
    if isinstance(front_end, LogMel):
        waves, bands = (np.asarray(x) for x in front_end.weights())
        windows = graph("Conv", sound, waves.T[:, None], strides=[model.hop_samples])
        parts = graph("Transpose", windows, perm=[2, 0, 1])
        squares = graph.many("Split", graph("Mul", parts, parts), [len(bands)] * 2, axis=-1, num_outputs=2)
        return graph("Log", graph("Add", graph("MatMul", graph("Add", *squares), bands), POWER_FLOOR))
    filters, frames = (params[name] for name in ("filters", "frames"))
    x = graph("Conv", sound, filters["kernel"].T, filters["bias"], strides=[model.hop_samples // 10])
    x = graph("Log", graph("Add", graph("Mul", graph("Mul", x, x), 1e4), 1.0))
    x = graph("Conv", x, frames["kernel"].T, frames["bias"], strides=[10])
    return graph("Gelu", graph("Transpose", x, perm=[2, 0, 1]), approximate="tanh")


def rescaled(graph: Graph, scale: str, sound: str, length: str) -> str:
    """Adds the scaling of clips to equal loudness (`frontend.rescale`); returns the name of the result f32[B, T].

    `sound` f32[B, T] and `length` i32[B] are names of values; `scale` is "rms", "percentile" or "none".
    """
    if scale == "none":
        return sound
    if scale == "rms":
        energy = graph("ReduceSum", graph("Mul", sound, sound), [1])
        samples = graph("Unsqueeze", graph("Cast", length, to=TensorProto.FLOAT), [1])
        return graph("Div", sound, graph("Sqrt", graph("Add", graph("Div", energy, samples), 1e-9)))
    samples = graph("Shape", sound, start=1, end=2)
    # The percentile lies between two of the sorted samples; TopK's last two are the upper and the lower one.
    place = graph("Mul", graph("Cast", graph("Sub", samples, [1]), to=TensorProto.FLOAT), 0.95)
    low = graph("Floor", place)
    num_largest = graph("Sub", samples, graph("Cast", low, to=TensorProto.INT64))
    largest, _ = graph.many("TopK", sound, num_largest, axis=1, num_outputs=2)
    below = graph("Slice", largest, [-1], [2**31 - 1], [1])
    above = graph("Slice", largest, [-2], [-1], [1])
    share = graph("Sub", place, low)
    percentile = graph("Add", graph("Mul", below, graph("Sub", 1.0, share)), graph("Mul", above, share))
    return graph("Div", sound, graph("Add", percentile, 0.001 / 32768))
