"""A model to the file that a runtime loads. The other half of each runtime is in classifier/runtimes."""

import logging
import os
import shlex
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import torch
from classifier.preprocess import normalize
from classifier.recipe import Recipe, RuntimeName, Variant
from classifier.runtimes.eager import DTYPES
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import cache_dir

from scripts.console import UserError

TorchScriptMethod = Literal["trace", "script"]

SUFFIX: Final[dict[RuntimeName, str]] = {
    "eager": ".pth",
    "torchscript": ".pt",
    "aotinductor": ".pt2",
    "onnxruntime": ".onnx",
    "openvino": ".xml",
}


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What to export."""

    module: nn.Module  # float32, in evaluation mode
    recipe: Recipe
    variant: Variant
    torchscript: TorchScriptMethod = "trace"
    calibration: NDArray[np.uint8] | None = None  # pictures [N,H,W,3] on which int8 chooses its scales


def export(what: Export, path: Path) -> list[Path]:
    """Write what the variant's runtime loads, as far as possible with no path of this machine in it.

    The bytes are the same in every fresh process of the same hash seed: torch numbers the classes that it has compiled.

    Returns:
        Further files that belong beside `path`.

    Raises:
        UserError: the module cannot be exported that way.
    """
    match what.variant.runtime:
        case "eager":
            torch.save(what.module.to(DTYPES[what.variant.precision]).state_dict(), path)
        case "torchscript":
            _export_torchscript(what, path)
        case "aotinductor":
            _export_aotinductor(what, path)
        case "onnxruntime":
            export_onnx(what, path)
        case "openvino":
            from scripts.export_openvino import export_openvino  # its libraries take seconds to import

            return export_openvino(what, path)
    return []


class FromPixels(nn.Module):
    """A model with the normalisation in front of it: uint8 [N,H,W,3] to logits [N,classes]."""

    def __init__(self, what: Export) -> None:
        super().__init__()
        self.module = what.module
        self._normalization = what.recipe.input.normalization

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise and compute."""
        logits: Tensor = self.module(normalize(pixels, self._normalization))
        return logits


def _trace(what: Export) -> torch.export.ExportedProgram:
    """The model as a graph from pixels to logits, for any batch size.

    Raises:
        UserError: torch.export cannot follow the module's Python.
    """
    side = what.recipe.input.crop
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)  # two, because torch.export treats one specially
    try:
        return torch.export.export(
            FromPixels(what).eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
        )
    except Exception as error:  # it refuses Python in many ways
        raise UserError(f"torch.export cannot follow {what.recipe.name}: {error}") from error


def export_onnx(what: Export, path: Path) -> None:
    """Write an ONNX file, uint8 [N,H,W,3] to logits.

    Raises:
        UserError: the model has an operation that ONNX has not.
    """
    import onnx

    with quiet():
        program = _trace(what)
        try:
            torch.onnx.export(
                program, f=path, dynamo=True, external_data=False, verbose=False,
                input_names=["pixels"], output_names=["logits"],
            )  # fmt: skip
        except Exception as error:
            raise UserError(f"torch.onnx cannot export {what.recipe.name}: {error}") from error
    model = onnx.load(path)
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        item.ClearField("metadata_props")  # where in the Python source, with its path
    onnx.save(model, path)


def _export_aotinductor(what: Export, path: Path) -> None:
    program = _trace(what)
    compiled = path.with_suffix(".compiled.pt2")
    settings = {
        "freezing": True,  # weights are constants, so batch norms are folded into convolutions
        "aot_inductor.enable_line_tables": False,  # they hold paths of this machine
        "cpp.march": "",  # only the instruction sets that the package names, not all that this processor has
        "cpp.cxx": (None, _compiler_that_hides_paths()),
    }
    try:
        with quiet():
            torch._inductor.aoti_compile_and_package(program, package_path=str(compiled), inductor_configs=settings)
    except Exception as error:
        raise UserError(f"AOTInductor cannot compile {what.recipe.name}; it needs g++: {error}") from error
    with zipfile.ZipFile(compiled) as package, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as stripped:
        for entry in package.infolist():
            if not entry.filename.endswith(".cpp"):  # sources, with this machine's command lines
                stripped.writestr(zipfile.ZipInfo(entry.filename), package.read(entry))
    compiled.unlink()


def _compiler_that_hides_paths() -> str:
    """The C++ compiler's command, with which error messages of the library do not name folders of this machine."""
    compiler = os.environ.get("CXX", "g++")
    hidden = {Path(torch.__file__).parent: "torch", Path(cache_dir()): "generated"}
    return " ".join([compiler, *(shlex.quote(f"-ffile-prefix-map={path}={name}") for path, name in hidden.items())])


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what exporters warn of, to those who can do nothing about it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _export_torchscript(what: Export, path: Path) -> None:
    try:
        _write_torchscript(what.module, what.recipe.input.crop, path, what.torchscript)
    except Exception as error:  # the compiler refuses Python in many ways
        other = "trace" if what.torchscript == "script" else "script"
        raise UserError(
            f"torch.jit cannot {what.torchscript} {what.recipe.name}: {error}\nTry TORCHSCRIPT={other}."
        ) from error


def _write_torchscript(module: nn.Module, side: int, path: Path, method: TorchScriptMethod) -> None:
    with warnings.catch_warnings():
        # torch 2.14 deprecates torch.jit; the runtime stays because users have such files.
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        if method == "trace":
            # check_trace runs the model again to compare; the parity gate does that on real pictures
            program = torch.jit.trace(module, torch.zeros(1, 3, side, side), check_trace=False)
        else:
            program = torch.jit.script(module)
        saved = path.with_suffix(".saved")
        torch.jit.save(program, saved)
    _drop_debug_records(saved, path)
    saved.unlink()


def _drop_debug_records(source: Path, target: Path) -> None:
    """Copy a TorchScript file without its debug records: they hold file paths of the machine that exported it."""
    reader = torch._C.PyTorchFileReader(str(source))
    writer = torch._C.PyTorchFileWriter(str(target))
    own = ("version", "byteorder", ".data/serialization_id")  # the writer writes these itself
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in own:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
