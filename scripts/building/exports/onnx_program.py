"""Puts the recipe's normalisation in front of a user's own ONNX file: uint8 [N,H,W,3] to logits."""

from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from classifier.input import GREY_SHIFT, GREY_WEIGHTS, UNIT_SCALE, Input
from classifier.recipe import Recipe
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from scripts.console import UserError

_PIXELS: Final = "pixels"
_TAKEN: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)
_WEIGHTS_APART: Final = 4  # the version of the format since which weights need not be inputs, too


def read(path: Path, recipe: Recipe) -> tuple[ModelProto, ValueInfoProto]:
    """Read a graph, and which tensor of pictures it takes.

    Raises:
        UserError: the file keeps its weights in another one, or does not take one tensor of pictures as the recipe
            makes them.
    """
    model = onnx.load(path, load_external_data=False)
    if keeps_weights_apart(model):
        raise UserError(f"{path} keeps its weights in another file, which no digest covers; save it as one file")
    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    kinds = [item.type.tensor_type.elem_type for item in inputs]
    if len(kinds) != 1 or kinds[0] not in _TAKEN:
        said = ", ".join(TensorProto.DataType.Name(kind).lower() for kind in kinds) or "none"
        raise UserError(f"{path} must take one tensor of pictures, of float, float16 or uint8; it takes {said}")
    if kinds[0] == TensorProto.UINT8 and not _takes_levels(recipe.input):
        raise UserError(f"{path} takes uint8, levels as they are: write `normalization: {{scale: 1}}`")
    return model, inputs[0]


def keeps_weights_apart(model: ModelProto) -> bool:
    """Whether a constant lies in another file, be it of a branch, a loop or a function."""
    parts: list[GraphProto | FunctionProto] = [*_graphs(model.graph), *model.functions]
    found = chain.from_iterable(map(_tensors, parts))
    return any(item.data_location == TensorProto.EXTERNAL for item in found)


def from_pixels(path: Path, recipe: Recipe) -> ModelProto:
    """The file's graph with the normalisation in front, computed as torch computes it, and its first output alone.

    Raises:
        UserError: it is not a graph that the recipe's pictures can be given to.
    """
    model, taken = read(path, recipe)
    graph = model.graph
    names = _Names(graph)
    pixels = names.new(_PIXELS)
    front = _Front(recipe.input, names, pixels)
    front.write(taken.name, taken.type.tensor_type.elem_type)
    nodes = [*front.nodes, *graph.node]
    del graph.node[:], graph.input[:], graph.output[1:]
    graph.node.extend(nodes)
    graph.initializer.extend(front.constants)
    batch = recipe.input.batch or "batch"
    graph.input.append(helper.make_tensor_value_info(pixels, TensorProto.UINT8, [batch, *recipe.input.size, 3]))
    model.ir_version = max(model.ir_version, _WEIGHTS_APART)
    _forget_places(model)
    return model


def _takes_levels(spec: Input) -> bool:
    return (spec.statistics.scale, {*spec.mean}, {*spec.std}) == (1, {0}, {1})


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph, and those of the branches and loops in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _graphs(inner)


def _tensors(part: GraphProto | FunctionProto) -> Iterator[TensorProto]:
    """The constants of a graph or a function."""
    if isinstance(part, GraphProto):
        yield from part.initializer
    for node in part.node:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors)


class _Names:
    """Names that no part of a graph has yet."""

    def __init__(self, whole: GraphProto) -> None:
        self._used: set[str] = set()
        for graph in _graphs(whole):
            named: list[Any] = [*graph.initializer, *graph.input, *graph.output, *graph.value_info]
            self._used |= {item.name for item in named}
            self._used |= {name for node in graph.node for name in (*node.input, *node.output, node.name)}

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


def _forget_places(model: ModelProto) -> None:
    """Remove what exporters write about the machine and the source files."""
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    for graph in _graphs(model.graph):
        for item in (graph, *graph.node):
            item.ClearField("metadata_props")
            item.ClearField("doc_string")
