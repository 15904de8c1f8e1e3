"""A graph of ONNX nodes, to which the modules of this package add networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from audiojax.exporting.stablehlo import Tree

OPSET, IR_VERSION = 20, 9  # of 2023, which current runtimes support
EPSILON = 1e-5  # of flax's BatchNorm
Value = str | np.ndarray | float | Sequence[int]  # a value of the graph by its name, or a constant


class Graph:
    """A graph to which ONNX nodes are added. Its values are referred to by their names, which begin with `prefix`."""

    def __init__(self, prefix: str = ""):
        self._prefix, self._count = prefix, 0
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._known: dict[tuple[Any, ...], str] = {}  # existing constants
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> str:
        """Adds an input of the graph and returns its name.

        In `shape`, a text is the name of an axis of any size; `kind` is a data type of `onnx.TensorProto`.
        """
        self._inputs.append(helper.make_tensor_value_info(self._prefix + name, kind, shape))
        return self._prefix + name

    def output(self, name: str, value: str, shape: Sequence[int | str]) -> None:
        """Makes the value with the name `value` an output of the graph, `name`, in float32.

        In `shape`, a text is the name of an axis of any size.
        """
        self._nodes.append(helper.make_node("Identity", [value], [self._prefix + name]))
        self._outputs.append(helper.make_tensor_value_info(self._prefix + name, TensorProto.FLOAT, shape))

    def many(self, kind: str, *inputs: Value, num_outputs: int, **attributes: Any) -> list[str]:
        """Adds a node with the operator `kind`, such as "Split", and returns the names of its outputs.

        Inputs are names of values, or numbers and arrays, which become constants.
        """
        number, self._count = self._count, self._count + 1
        outputs = [f"{self._prefix}{kind.lower()}_{number}_{i}" for i in range(num_outputs)]
        names = [value if isinstance(value, str) else self.weight(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, names, outputs, **attributes))
        return outputs

    def __call__(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with the operator `kind` and one output, and returns the name of that.

        Inputs are names of values, or numbers and arrays, which become constants.
        """
        return self.many(kind, *inputs, num_outputs=1, **attributes)[0]

    def weight(self, value: np.ndarray | float | Sequence[int]) -> str:
        """Adds a constant, integers as int64, others as float32, unless it exists; returns its name."""
        array = np.asarray(value)
        array = np.ascontiguousarray(array, np.int64 if array.dtype.kind == "i" else np.float32).reshape(array.shape)
        name = self._known.setdefault(
            (array.dtype, array.shape, array.tobytes()), f"{self._prefix}weight_{len(self._known)}"
        )
        if len(self._known) > len(self._weights):
            self._weights.append(numpy_helper.from_array(array, name))
        return name

    def proto(self, name: str) -> onnx.GraphProto:
        """Returns the graph as an ONNX `GraphProto`, for a model, or for a node that contains it, such as a Scan."""
        return helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._weights)

    def file(self, name: str) -> bytes:
        """Returns the bytes of an ONNX model file; raises onnx.checker.ValidationError if the graph is inconsistent.

        `name` is that of the graph in the file.
        """
        model = helper.make_model(
            self.proto(name), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "audiojax"
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def to_unit_range(graph: Graph, audio: str) -> str:
    """Adds the scaling of 16-bit samples to [-1, 1]; returns the name of the sound, in float32.

    `audio` is the name of the samples.
    """
    return graph("Mul", graph("Cast", audio, to=TensorProto.FLOAT), 1 / 32768)


def dense(graph: Graph, params: Tree, x: str) -> str:
    """Adds a dense layer with the parameters "kernel" and "bias"; returns the name of its outputs.

    `x` is the name of its inputs, [B, n].
    """
    return graph("Gemm", x, params["kernel"], params["bias"])
