"""MelCNN as an ONNX graph for sound of any length."""

import numpy as np
from onnx import TensorProto

from audiojax.exporting.onnx_graphs import residual
from audiojax.exporting.onnx_graphs.frontend import frames_of
from audiojax.exporting.onnx_graphs.graph import EPSILON, Graph, to_unit_range
from audiojax.exporting.stablehlo import Tree
from audiojax.models.melcnn import MelCNN


def classifier(graph: Graph, model: MelCNN, variables: Tree, audio: str, length: str, _: int) -> str:
    """Adds a MelCNN to the graph and returns the name of its logits f32[B, num_labels].

    `audio` i16[B, T] and `length` i32[B] are names of values of the graph.
    """
    hop, silence = model.hop_samples, model.silence_samples
    before = model.window_samples - hop + silence
    sound = residual.padded_to_hops(graph, to_unit_range(graph, audio), hop, before, silence)
    frames = frames_of(graph, model, variables, sound)
    if model.normalise != "none":
        known = variables["batch_stats"]["norm"]
        frames = graph("Mul", graph("Sub", frames, known["mean"]), 1 / np.sqrt(known["var"] + np.float32(EPSILON)))
    x = graph("Unsqueeze", graph("Transpose", frames, perm=[1, 0, 2]), [1])
    num_valid = residual.num_frames(graph, length, 2 * silence, hop)
    x = residual.valid(graph, x, num_valid, 2)
    if model.normalise == "clip":
        count = graph("Unsqueeze", graph("Cast", num_valid, to=TensorProto.FLOAT), [1, 2, 3])
        level = graph("Div", graph("ReduceSum", x, [2]), count)
        x = residual.valid(graph, graph("Sub", x, level), num_valid, 2)
    x = residual.convolved(graph, variables, "0a", x, num_valid, pads=[1] * 4)
    return residual.logits(graph, variables, x, num_valid, (model.num_bands,))
