"""Exports a model to an ONNX graph, with the normalisation in it, and to the file of its weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from classifier.runtimes import weights_beside

from scripts.building.exports.program import Export, quiet, trace
from scripts.console import UserError

if TYPE_CHECKING:
    import onnx  # an optional package: imported where it is used

_LARGE: Final = 1024  # bytes; ONNX infers shapes from smaller constants, which must lie in the graph for that
_PAGE: Final = 4096  # bytes; each weight begins at a multiple of it, because readers map whole pages


def export_onnx(what: Export, path: Path) -> list[Path]:
    """Write an ONNX graph, uint8 [N,H,W,3] to logits, and its weights.

    Returns:
        The file of the weights, which ONNX looks for beside the graph; none if they stay in it.

    Raises:
        UserError: the model has an operation that ONNX does not have.
    """
    import onnx

    if what.program is not None and what.module is None:
        from scripts.building.exports.onnx_program import from_pixels

        model = from_pixels(what.program, what.recipe)
    else:
        model = _traced(what, path)
    beside = _weights_apart(model, weights_beside(path))
    onnx.save(model, path)
    return beside


def _traced(what: Export, path: Path) -> "onnx.ModelProto":
    """The graph that torch makes of a module; `path` is written on the way."""
    import onnx

    with quiet():
        program = trace(what)
        try:
            torch.onnx.export(
                program, f=path, dynamo=True, external_data=False, verbose=False,
                input_names=["pixels"], output_names=["logits"],
            )  # fmt: skip
        except Exception as error:
            raise UserError(f"torch.onnx cannot export {what.recipe.name}: {error}") from error
    model = onnx.load(path)
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        item.ClearField("metadata_props")  # places in the Python source, with their paths
    return model


def _weights_apart(model: "onnx.ModelProto", path: Path) -> list[Path]:
    """Move a graph's weights to a file, which ONNX Runtime maps: all processes that load it share its memory.

    Weights of a byte or less stay where they are: it must rearrange them, or computes at half the speed.

    Returns:
        The file, unless there is no weight to move.
    """
    from onnx import TensorProto
    from onnx.external_data_helper import set_external_data

    large = [item for item in model.graph.initializer if len(item.raw_data) >= _LARGE]
    quantised = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)
    if not large or any(item.data_type in quantised for item in large):
        return []
    with path.open("wb") as file:
        for item in large:
            file.write(bytes(-file.tell() % _PAGE))
            set_external_data(item, path.name, offset=file.tell(), length=len(item.raw_data))
            file.write(item.raw_data)
            item.ClearField("raw_data")
    return [path]
