"""Puts the recipe's normalisation in front of a user's own ONNX file: uint8 [N,H,W,3] to logits."""

from itertools import chain, count
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from classifier.input import UNIT_SCALE, Input
from classifier.preprocess import GREY_SHIFT, GREY_WEIGHTS
from classifier.recipe import Recipe
from onnx import NodeProto, TensorProto, helper, numpy_helper

from scripts.console import UserError

_PIXELS: Final = "pixels"
_TAKEN: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)


def from_pixels(path: Path, recipe: Recipe) -> onnx.ModelProto:
    """The file's graph with the normalisation in front, computed as torch computes it, and its first output alone.

    Raises:
        UserError: the file keeps its weights in another one, or does not take one tensor of pictures.
    """
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    if any(item.data_location == TensorProto.EXTERNAL for item in graph.initializer):
        raise UserError(f"{path} keeps its weights in another file, which no digest covers; save it as one file")
    constants = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in constants]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in _TAKEN:
        raise UserError(f"{path} must take one tensor of pictures, of float, float16 or uint8; it takes {len(inputs)}")
    taken = inputs[0]
    names = _Names(model)
    pixels = names.new(_PIXELS)
    front = _Front(recipe.input, names, pixels)
    front.write(taken.name, taken.type.tensor_type.elem_type)
    nodes = [*front.nodes, *graph.node]
    del graph.node[:], graph.input[:], graph.output[1:]
    graph.node.extend(nodes)
    graph.initializer.extend(front.constants)
    batch = recipe.input.batch or "batch"
    graph.input.append(helper.make_tensor_value_info(pixels, TensorProto.UINT8, [batch, *recipe.input.size, 3]))
    _forget_places(model)
    return model


class _Names:
    """Names that the graph does not have yet."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._used = {name for node in graph.node for name in (*node.input, *node.output, node.name)}
        named: list[Any] = [*graph.initializer, *graph.input, *graph.output, *graph.value_info]
        self._used |= {item.name for item in named}

    def new(self, wanted: str) -> str:
        """The wanted name, or one like it."""
        candidates = chain((wanted,), (f"{wanted}_{number}" for number in count(1)))
        name = next(name for name in candidates if name not in self._used)
        self._used.add(name)
        return name


class _Front:
    """The nodes of the normalisation, in the operations that every version of ONNX since 7 has."""

    def __init__(self, spec: Input, names: _Names, pixels: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._spec, self._names, self._last = spec, names, pixels

    def write(self, output: str, kind: int) -> None:
        """Write all nodes; the last one gives `output`, a tensor of that kind."""
        spec = self._spec
        self._add("Cast", to=TensorProto.FLOAT)
        if spec.channels == "bgr":
            self._add("Gather", np.array([2, 1, 0], np.int64), axis=3)
        elif spec.channels == "grey":
            self._add("MatMul", np.array(GREY_WEIGHTS, np.float32)[:, None])
            self._add("Add", np.float32(GREY_SHIFT / 2))
            self._add("Div", np.float32(GREY_SHIFT))
            self._add("Floor")
        scale = spec.statistics.scale
        self._add("Div", np.float32(255)) if scale == UNIT_SCALE else self._add("Mul", np.float32(scale))
        self._add("Sub", np.array(spec.mean, np.float32))
        self._add("Div", np.array(spec.std, np.float32))
        if spec.layout == "nchw":
            self._add("Transpose", perm=[0, 3, 1, 2])
        self._add("Cast", to=kind)
        self.nodes[-1].output[0] = output

    def _add(self, operation: str, operand: object = None, **attributes: Any) -> None:
        inputs = [self._last]
        if operand is not None:
            inputs.append(self._names.new(f"{_PIXELS}_{operation.lower()}_by"))
            self.constants.append(numpy_helper.from_array(np.asarray(operand), inputs[-1]))
        self._last = self._names.new(f"{_PIXELS}_{operation.lower()}")
        self.nodes.append(helper.make_node(operation, inputs, [self._last], name=self._last, **attributes))


def _forget_places(model: onnx.ModelProto) -> None:
    """Remove what exporters write about the machine and the source files."""
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
