"""Writes the ONNX file of a model, checked, run and printed: `make onnx`."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, find_archive, model_in
from scripts.building.golden import golden_pixels, golden_set
from scripts.building.make import ensure
from scripts.console import UserError, done, step

if TYPE_CHECKING:
    import onnx  # an optional package: imported where it is used

_ROUNDING: Final = 1e-4  # between ONNX Runtime and the float32 eager reference


def write_onnx(model: str, store: Path, folder: Path) -> tuple[Path, Path, float]:
    """Write a model's ONNX file, weights and all, and print its graph beside it, if it is valid and computes the same.

    Returns:
        The file, the printed graph, and the largest difference of any logit from the eager archive's.

    Raises:
        UserError: an archive is missing, the file is not valid ONNX, or it differs.
    """
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    path, printed = folder / f"{model}.onnx", folder / f"{model}.onnx.txt"
    with loaded(find_archive(f"{model}-onnxruntime", store).path) as exported:
        pixels = golden_pixels(golden_set(), exported.recipe)
        logits = exported.logits(pixels)
        with loaded(find_archive(f"{model}-eager", store).path) as eager:
            difference = float(np.abs(logits - eager.logits(pixels)).max())
        if not difference <= _ROUNDING:
            raise UserError(
                f"{path.name}: logits differ by {difference:.1e} from the eager archive's; build both again"
            )
        try:
            onnx.checker.check_model(exported.source.path, full_check=True)
        except onnx.checker.ValidationError as error:
            raise UserError(f"{path.name} is not valid ONNX: {error}") from error
        whole = onnx.load(exported.source.path)  # with the weights, which an archive has in a file of their own
    onnx.save(whole, path)
    printed.write_text(printed_graph(whole))
    return path, printed, difference


def printed_graph(model: "onnx.ModelProto") -> str:
    """A model's graph as text, a line an operation, without the numbers of its weights."""
    import onnx.printer

    for weight in model.graph.initializer:
        weight.ClearField("raw_data")
        weight.ClearField("float_data")
    return onnx.printer.to_text(model)


def main(*, model: str | None = None, output: Path = Path("onnx"), store: Path = STORE) -> None:
    """Write the model as a checked ONNX file, with its printed graph beside it.

    Args:
        model: name of the model; without it, the one model that lies in the store.
        output: folder to write into.
        store: folder of the archives.
    """
    import onnx

    name = model or model_in(store)
    ensure(name, ("eager", "float32"), ("onnxruntime", "float32"), store=store)
    path, printed, difference = write_onnx(name, store, output)
    written = onnx.load(path, load_external_data=False)
    (opset,) = [item.version for item in written.opset_import if item.domain in ("", "ai.onnx")]
    step(f"{len(written.graph.node)} operations of opset {opset}, uint8 [N,H,W,3] to logits; the graph: {printed}")
    done(f"{path} ({path.stat().st_size / 1e6:.0f} MB), valid, max |Δlogit| {difference:.1e} in ONNX Runtime")
