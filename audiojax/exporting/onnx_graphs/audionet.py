"""AudioNet as an ONNX graph. Each BatchNorm is folded into the convolution before it."""

import numpy as np

from audiojax.exporting.onnx_graphs.frontend import rescaled
from audiojax.exporting.onnx_graphs.graph import EPSILON, Graph, dense, to_unit_range
from audiojax.exporting.stablehlo import Tree
from audiojax.models import audionet
from audiojax.models.audionet import AudioNet


def classifier(graph: Graph, model: AudioNet, variables: Tree, audio: str, length: str, length_samples: int) -> str:
    """Adds an AudioNet to the graph and returns the name of its logits f32[B, num_labels].

    `audio` i16[B, length_samples] and `length` i32[B] are names of values of the graph.
    """
    params, becker = variables["params"], model.variant == "becker"
    x = rescaled(graph, model.scale, to_unit_range(graph, audio), length)
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
    x = dense(graph, params["logits"], x)
    return graph("Relu", x) if model.relu_on_logits else x
