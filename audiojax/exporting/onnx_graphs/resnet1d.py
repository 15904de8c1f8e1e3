"""ResNet1D as an ONNX graph for sound of any length."""

from audiojax.exporting.onnx_graphs import residual
from audiojax.exporting.onnx_graphs.frontend import rescaled
from audiojax.exporting.onnx_graphs.graph import Graph, to_unit_range
from audiojax.exporting.stablehlo import Tree
from audiojax.models.resnet1d import ResNet1D


def classifier(graph: Graph, model: ResNet1D, variables: Tree, audio: str, length: str, _: int) -> str:
    """Adds a ResNet1D to the graph and returns the name of its logits f32[B, num_labels].

    `audio` i16[B, T] and `length` i32[B] are names of values of the graph.
    """
    hop = model.hop_samples
    sound = rescaled(graph, model.scale, to_unit_range(graph, audio), length)
    sound = residual.padded_to_hops(graph, sound, hop, *model.margin(0))
    num_valid = residual.num_frames(graph, length, 0, hop)
    x = residual.convolved(graph, variables, "0", graph("Unsqueeze", sound, [1]), num_valid, strides=[hop])
    return residual.logits(graph, variables, x, num_valid, ())
