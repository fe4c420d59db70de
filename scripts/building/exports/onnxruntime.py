"""Exports a model to an ONNX file, with the normalisation in its graph."""

from pathlib import Path

import torch

from scripts.building.exports.program import Export, quiet, trace
from scripts.console import UserError


def export_onnx(what: Export, path: Path) -> None:
    """Write an ONNX file, uint8 [N,H,W,3] to logits.

    Raises:
        UserError: the model has an operation that ONNX does not have.
    """
    import onnx

    if what.program is not None and what.module is None:
        from scripts.building.exports.onnx_program import from_pixels  # onnx is an optional package

        onnx.save(from_pixels(what.program, what.recipe), path)
        return
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
    onnx.save(model, path)
