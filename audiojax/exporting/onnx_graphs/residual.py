"""The residual stages of `models.layers.residual` as ONNX nodes, on [B, channels, N] or [B, channels, N, bands].

Each BatchNorm is folded into the convolution before it. Values of the graph are referred to by their names.
"""

from typing import Any

import numpy as np
from onnx import TensorProto

from audiojax.exporting.onnx_graphs.graph import EPSILON, Graph, dense
from audiojax.exporting.stablehlo import Tree


def padded_to_hops(graph: Graph, sound: str, hop_samples: int, before: int, after: int) -> str:
    """Adds the padding of `sound` [B, T] with zeros, to whole hops; returns the name of the result.

    It adds `before` zeros at the start, and at the end `after` zeros and as many as complete the last hop.
    """
    rest = graph("Mod", graph("Neg", graph("Shape", sound, start=1, end=2)), [hop_samples])
    return graph("Pad", sound, graph("Concat", [0, before, 0], graph("Add", rest, [after]), axis=0))


def num_frames(graph: Graph, length: str, margin_samples: int, hop_samples: int) -> str:
    """Adds the computation of how many frames clips of `length` i32[B] have; returns the name of i64[B].

    `margin_samples` is the number of zeros that are added to a clip, before and after it together.
    """
    whole = graph("Add", graph("Cast", length, to=TensorProto.INT64), [margin_samples + hop_samples - 1])
    return graph("Div", whole, [hop_samples])


def valid(graph: Graph, x: str, num_valid: str, num_axes: int) -> str:
    """Adds a mask that sets `x` to zero after the first `num_valid` i64[B] frames; returns the name of the result.

    `x` is [B, channels, N, ...], where N are the frames, with `num_axes` axes after the channels.
    """
    frames = graph("Range", 0, graph("Squeeze", graph("Shape", x, start=2, end=3)), 1)
    mask = graph("Less", graph("Unsqueeze", frames, [0]), graph("Unsqueeze", num_valid, [1]))
    axes = [1, *range(3, 2 + num_axes)]
    return graph("Mul", x, graph("Unsqueeze", graph("Cast", mask, to=TensorProto.FLOAT), axes))


def convolved(graph: Graph, variables: Tree, name: str, x: str, num_valid: str, **attributes: Any) -> str:
    """Adds a convolution with its BatchNorm and ReLU; returns the name of the result, zero after `num_valid` frames.

    The parameters are conv_`name` and norm_`name` in `variables`. `x` and `num_valid` are the names of values in the
    graph, the second of i64[B]; `attributes` are the ONNX attributes of the convolution.
    """
    params, norm = variables["params"], variables["params"][f"norm_{name}"]
    known, kernel = variables["batch_stats"][f"norm_{name}"], params[f"conv_{name}"]["kernel"]
    factor, num_axes = norm["scale"] / np.sqrt(known["var"] + np.float64(EPSILON)), kernel.ndim - 2
    weights = np.moveaxis(kernel * factor, (-1, -2), (0, 1))
    x = graph("Conv", x, weights, norm["bias"] - known["mean"] * factor, **attributes)
    return valid(graph, graph("Relu", x), num_valid, num_axes)


def logits(graph: Graph, variables: Tree, x: str, num_valid: str, sizes: tuple[int, ...]) -> str:
    """Adds all stages, the mean over valid frames and a dense layer; returns the name of the logits [B, num_labels].

    `x` and `num_valid` i64[B] are names of values. `sizes` are the sizes of the axes of `x` that follow the frame axis.
    Max pooling uses `ceil_mode`, which is equivalent to zero padding because `x` is non-negative.
    """
    num_axes = 1 + len(sizes)
    pool: dict[str, Any] = dict(kernel_shape=[2] * num_axes, strides=[2] * num_axes, ceil_mode=1)
    same: dict[str, Any] = dict(pads=[1] * 2 * num_axes)
    for stage in range(
        1, len([name for name in variables["params"] if name.startswith("conv_") and name[-1] == "b"]) + 1
    ):
        x, num_valid = graph("MaxPool", x, **pool), graph("Div", graph("Add", num_valid, [1]), [2])
        sizes = tuple(-(-size // 2) for size in sizes)
        x = convolved(graph, variables, f"{stage}a", x, num_valid, **same)
        x = graph("Add", x, convolved(graph, variables, f"{stage}b", x, num_valid, **same))
    total = graph("ReduceSum", x, list(range(2, 2 + num_axes)), keepdims=0)
    count = graph("Mul", graph("Cast", num_valid, to=TensorProto.FLOAT), float(np.prod(sizes)))
    return dense(graph, variables["params"]["logits"], graph("Div", total, graph("Unsqueeze", count, [1])))
