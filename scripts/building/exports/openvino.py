"""Exports a model to an OpenVINO graph, with the precision of its layers lowered as the recipe says."""

import logging
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import classifier.runtimes  # noqa: F401 - before NNCF, which would report to its makers otherwise
import nncf
import numpy as np
import onnx
import openvino
from numpy.typing import NDArray

from scripts.building.exports.onnxruntime import export_onnx
from scripts.building.exports.program import Export
from scripts.console import UserError

_WITH_WEIGHTS: Final = ("Convolution", "GroupConvolution", "MatMul")


def export_openvino(what: Export, path: Path) -> list[Path]:
    """Write a graph (.xml) and its weights (.bin), uint8 [N,H,W,3] to logits.

    Returns:
        The file of the weights, which OpenVINO looks for beside the graph.

    Raises:
        UserError: the model cannot be exported, or `float32_layers` names a layer that does not exist.
    """
    exported = path.with_suffix(".onnx")
    weights = export_onnx(what, exported)
    graph = openvino.convert_model(exported)
    kept = _kept(what, exported, graph)
    for file in (exported, *weights):  # the graph maps the weights until it is saved
        file.unlink()
    spec = what.recipe.input
    graph.reshape([spec.batch or -1, *spec.size, 3])
    if what.calibration is not None:
        graph = _quantise(graph, what.calibration, kept, spec.batch or 1)
    openvino.save_model(graph, path, compress_to_fp16=False)
    _edit(path, kept if what.variant.precision == "bfloat16" else set())
    return [path.with_suffix(".bin")]


def _kept(what: Export, exported: Path, graph: openvino.Model) -> set[str]:
    """The names of the graph's operations that stay in float32.

    Raises:
        UserError: a name in the recipe is not that of a convolution or linear layer.
    """
    there = {node.get_friendly_name() for node in graph.get_ordered_ops()}
    nodes = onnx.load(exported, load_external_data=False).graph.node
    kept = set()
    for layer in what.variant.float32_layers:
        weights = (f"module.{layer}.", f"{layer}.")  # as this project's export names them, or the user's own file
        of_layer = [node for node in nodes if len(node.input) > 1 and node.input[1].startswith(weights)]
        # OpenVINO splits a bias off, and names the last operation after its output
        names = {name for node in of_layer for name in (f"{node.name}/WithoutBiases", node.name, *node.output)} & there
        if not names:
            raise UserError(f"{what.recipe.name} has no layer {layer} with weights, which float32_layers names")
        kept |= names
    return kept


def _quantise(graph: openvino.Model, calibration: NDArray[np.uint8], kept: set[str], batch: int) -> openvino.Model:
    """Post-training quantisation: NNCF measures activations on the calibration pictures and chooses scales.

    Weights get half of int8's range. Without VNNI or AMX a processor adds two products in 16 bits, which overflow with
    the whole range: the sums saturate, and a graph that is right on one machine is wrong on another. With half of the
    range, logits of EfficientNet-Lite0 are off by 0.106 (root mean square) on every processor; with the whole range by
    0.076 with VNNI and by 0.162 without.
    """
    whole = len(calibration) // batch  # batches; the graph takes no other size
    pictures = nncf.Dataset([calibration[i * batch : (i + 1) * batch] for i in range(whole)])
    portable = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    nncf.set_log_level(logging.ERROR)
    quantised: openvino.Model = nncf.quantize(
        graph,
        pictures,
        subset_size=whole,
        advanced_parameters=portable,
        ignored_scope=nncf.IgnoredScope(names=sorted(kept)) if kept else None,
    )
    return quantised


def _edit(path: Path, kept: set[str]) -> None:
    """Remove a saved graph's history, which has paths of this machine, and mark the layers that must stay in float32.

    The mark is OpenVINO's own, but only its C++ interface sets it. Activations and sums between the layers are marked
    too: rounding them costs more accuracy than it saves time. OpenVINO 2026.4 obeys the mark for convolutions, but
    computes linear layers in bfloat16 all the same.
    """
    tree = ElementTree.parse(path)  # noqa: S314 # this program has just written it
    root = tree.getroot()
    for history in root.findall("rt_info"):
        root.remove(history)
    for layer in root.iter("layer") if kept else ():
        lowered = layer.get("type") in _WITH_WEIGHTS and layer.get("name") not in kept
        if lowered or layer.get("type") in ("Const", "Parameter", "Result"):
            continue
        info = layer.find("rt_info")
        if info is None:
            info = ElementTree.Element("rt_info")
            layer.insert(0 if layer.find("data") is None else 1, info)
        ElementTree.SubElement(
            info, "attribute", name="DisablePrecisionConversion", version="0", value="dynamic:f16,bf16;f32:bf16,f16"
        )
    tree.write(path)
