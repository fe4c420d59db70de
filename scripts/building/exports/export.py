"""Exports a model to the file that a runtime loads. The other half of each runtime is in classifier/runtimes."""

from pathlib import Path
from typing import Final

import torch
from classifier.recipe import RuntimeName
from classifier.runtimes.eager import DTYPES

from scripts.building.exports.aotinductor import export_aotinductor
from scripts.building.exports.onnxruntime import export_onnx
from scripts.building.exports.program import Export
from scripts.building.exports.torchscript import export_torchscript

SUFFIX: Final[dict[RuntimeName, str]] = {
    "eager": ".pth",
    "torchscript": ".pt",
    "aotinductor": ".pt2",
    "onnxruntime": ".onnx",
    "openvino": ".xml",
    "ncnn": ".param",
}


def export(what: Export, path: Path) -> list[Path]:
    """Write the file that the variant's runtime loads, as far as possible with no path of this machine in it.

    The bytes are the same in every new process with the same hash seed. In one process they differ from call to call,
    because torch numbers the classes that it compiles.

    Returns:
        Further files that belong beside `path`.

    Raises:
        UserError: the module cannot be exported that way.
    """
    match what.variant.runtime:
        case "eager":
            torch.save(what.module.to(DTYPES[what.variant.precision]).state_dict(), path)
        case "torchscript":
            export_torchscript(what, path)
        case "aotinductor":
            export_aotinductor(what, path)
        case "onnxruntime":
            return export_onnx(what, path)
        case "openvino":
            from scripts.building.exports.openvino import export_openvino  # its libraries take seconds to import

            return export_openvino(what, path)
        case "ncnn":
            from scripts.building.exports.ncnn import export_ncnn  # its libraries are optional packages

            return export_ncnn(what, path)
    return []
