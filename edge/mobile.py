"""Writes a model for phones, as ExecuTorch programs (`.pte`), and runs them in ExecuTorch's runtime: `make mobile`.

ExecuTorch is the successor of PyTorch Mobile, which current torch no longer has. Each program takes float32 [1,3,H,W],
normalised, and returns logits [1,classes].
"""

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from classifier.identity import UNTRAINED
from classifier.normalization import normalize
from classifier.pipeline import Classifier
from classifier.recipe import Mobile, Recipe
from classifier.runtimes import Forward
from classifier.runtimes.eager import load_module
from msgspec.structs import replace
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor, nn

from edge import bundle
from edge.bundle import constants, write_facts
from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, find_archive, model_in
from scripts.building.exports.program import quiet
from scripts.building.golden import calibration_pixels, golden_pixels, golden_set, objects, view_pixels
from scripts.building.make import ensure, recipe_file, recipe_in
from scripts.building.record import content_digest, digest, pictures
from scripts.console import UserError, done, out, progress
from scripts.measuring.labelled import trial_pictures

_RECORD: Final = ".inputs"  # of the folder: what its programs were made from
_TIMED: Final = 20  # forward passes
_AGREEMENT: Final = {"float32": 1.0, "float16": 0.995, "int8": 0.97}  # share of pictures with the reference's top-1
_ROUNDING: Final = 1e-4  # of a float32 program's logits


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One `.pte` file and its measurements on this machine."""

    path: Path
    measured: "Measured | None"  # None: its backend runs only on phones


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """How a program compares with the float32 eager archive, in ExecuTorch's runtime on this machine."""

    agreement: float  # share of the pictures with the same top-1
    max_abs_logit: float
    milliseconds: float  # one forward pass


class Makers:
    """Makes the programs of one loaded float32 eager archive; their names are `<backend>-<precision>`."""

    def __init__(self, classifier: Classifier, calibration: Callable[[], NDArray[np.uint8]]) -> None:
        """Load the plain module.

        Args:
            classifier: the loaded archive.
            calibration: returns the pictures, uint8 [N,H,W,3], from which int8 chooses its scales.
        """
        self._recipe = classifier.recipe
        self._calibration = calibration
        self._module = load_module(classifier.recipe, classifier.source.path, code=classifier.source.code)
        self._example = (torch.zeros(1, classifier.recipe.input.depth, *classifier.recipe.input.size),)

    def all(self) -> dict[str, Callable[[], bytes]]:
        """Every program that can be made."""
        return {
            "xnnpack-float32": lambda: self._xnnpack(self._module),
            "xnnpack-int8": lambda: self._xnnpack(self._quantized()),
            "coreml-float16": self._core_ml,
            "vulkan-float32": self._vulkan,
        }

    def _xnnpack(self, module: nn.Module) -> bytes:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        return self._lower(module, XnnpackPartitioner())

    def _core_ml(self) -> bytes:
        from executorch.backends.apple.coreml.partition import CoreMLPartitioner

        return self._lower(self._module, CoreMLPartitioner())  # its weights are float16, as Apple's chips compute

    def _vulkan(self) -> bytes:
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return self._lower(self._module, VulkanPartitioner())

    def _lower(self, module: nn.Module, partitioner: Any) -> bytes:
        """Make an ExecuTorch program; operators that the backend lacks are ExecuTorch's portable ones."""
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(module, self._example, strict=True)
        return bytes(to_edge_transform_and_lower(program, partitioner=[partitioner]).to_executorch().buffer)

    def _quantized(self) -> nn.Module:
        """Quantise the module to int8: weights by channel, activations by tensor, scales from calibration pictures.

        Linear layers take their scales from each picture instead, and their outputs stay in float32: logits that are
        rounded to 256 steps are equal for classes that the model tells apart.
        """
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import get_module_name_filter

        kept = [get_module_name_filter(name) for name in self._kept_in_float32()]
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        quantizer.set_module_type(nn.Linear, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True))
        quantizer.set_filter_function(lambda node: not any(inside(node) for inside in kept))
        prepared = prepare_pt2e(torch.export.export(self._module, self._example, strict=True).module(), quantizer)
        for item in self._calibration():
            prepared(tensor(item, self._recipe))
        converted: nn.Module = convert_pt2e(prepared)
        return converted

    def _kept_in_float32(self) -> list[str]:
        names = self._recipe.mobile.float32_layers
        if unknown := set(names) - {name for name, _ in self._module.named_modules()}:
            raise UserError(
                f"{self._recipe.name} has no {', '.join(sorted(unknown))}, which mobile.float32_layers names"
            )
        return names


def tensor(pixels: NDArray[np.uint8], recipe: Recipe) -> Tensor:
    """Turn a picture uint8 [H,W,3] into a program's input: float32 [1,3,H,W], normalised, contiguous."""
    return normalize(torch.from_numpy(pixels[None]), recipe.input).contiguous()


def load_program(path: Path, recipe: Recipe) -> Forward | None:
    """Load a program into ExecuTorch's runtime: pixels uint8 [N,H,W,3] to logits float32 [N,classes].

    Returns:
        None if this machine lacks the backend in the file's name, `…-<backend>-<precision>.pte`.
    """
    with quiet():  # the runtime warns that it is experimental
        from executorch.runtime import Runtime

        runtime = Runtime.get()
        backend = path.stem.split("-")[-2]
        if f"{backend}backend" not in map(str.lower, runtime.backend_registry.registered_backend_names):
            return None
        method = runtime.load_program(path).load_method("forward")
    if method is None:
        raise UserError(f"{path} has no method `forward`; write it again with `make mobile`")

    def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # copied, because the runtime reuses the memory for the next answer
        return np.concatenate([method.execute([tensor(item, recipe)])[0].numpy().copy() for item in pixels])

    return forward


def measure(forward: Forward, classifier: Classifier, pixels: NDArray[np.uint8]) -> Measured:
    """Compare a program with the archive's own answers on pixels uint8 [N,H,W,3]."""
    logits, expected = forward(pixels), classifier.logits(pixels)
    timed = pixels[:_TIMED]
    begin = time.perf_counter()
    forward(timed)
    return Measured(
        agreement=float((logits.argmax(1) == expected.argmax(1)).mean()),
        max_abs_logit=float(np.abs(logits - expected).max()),
        milliseconds=(time.perf_counter() - begin) / len(timed) * 1e3,
    )


def refuse_unlike(name: str, measured: Measured, precision: str) -> None:
    """Refuse a program whose answers differ too much from the reference's.

    Raises:
        UserError: the top-1 or, in float32, the logits differ too much.
    """
    needed = _AGREEMENT[precision]
    if measured.agreement < needed:
        hint = "; name blocks that stay in float32 in the recipe, `mobile.float32_layers`" * (precision == "int8")
        raise UserError(f"{name} has the reference's top-1 on {measured.agreement:.1%}, needed are {needed:.1%}{hint}")
    if precision == "float32" and not measured.max_abs_logit <= _ROUNDING:
        raise UserError(f"{name}'s logits differ by {measured.max_abs_logit:.1e}, allowed is {_ROUNDING:.0e}")


def write_programs(
    model: str,
    store: Path,
    folder: Path,
    golden: Path | None = None,
    calibration: Path | None = None,
    mobile: Mobile | None = None,
) -> list[Program]:
    """Write every program that can be made here, with constants, labels and golden vectors beside them.

    Args:
        model: name of a model whose float32 eager archive is in the store.
        store: folder of the archives.
        folder: folder to write into.
        golden: folder of pictures to check the programs on; default: views of photographs of scikit-image.
        calibration: folder of pictures for int8's scales; default: views of the golden set.
        mobile: what the int8 program needs; default: what the archive's own recipe says.

    Raises:
        UserError: the archive is missing, or a program's answers differ from the model's; that program is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    with loaded(find_archive(f"{model}-eager", store).path) as archive:
        constants(archive)  # refuses at once what the programs in other languages lack
        recipe = archive.recipe if mobile is None else replace(archive.recipe, mobile=mobile)
        classifier = replace(archive, recipe=recipe)
        makers = Makers(classifier, lambda: calibration_pixels(calibration, recipe, golden_set(golden))).all()
        pictures = objects(golden)
        pixels = view_pixels(recipe.input, pictures) if golden is None else golden_pixels(pictures, recipe)
        with progress(f"programs of {model}", len(makers)) as advance:
            for name, make in makers.items():
                path = folder / f"{model}-{name}.pte"
                # coremltools draws progress bars of its own
                with quiet(), contextlib.redirect_stderr(io.StringIO()):
                    path.write_bytes(make())
                try:
                    found.append(_checked(path, classifier, pixels))
                except BaseException:
                    path.unlink()
                    raise
                advance(1)
        write_facts(classifier, folder, trial_pictures(classifier, golden))
    return found


def _checked(path: Path, classifier: Classifier, pixels: NDArray[np.uint8]) -> Program:
    forward = load_program(path, classifier.recipe)
    if forward is None:
        return Program(path=path, measured=None)
    measured = measure(forward, classifier, pixels)
    if classifier.identity.model.weights != UNTRAINED:  # the answers of untrained weights are full of near ties
        refuse_unlike(path.name, measured, path.stem.rpartition("-")[2])
    return Program(path=path, measured=measured)


def table(programs: list[Program]) -> Table:
    """Format the programs and their measurements in ExecuTorch's runtime on this machine as a table."""
    shown = Table("program", "MB", "same top-1", "max |Δlogit|", "ms a picture here")
    for item in programs:
        size = f"{item.path.stat().st_size / 1e6:.1f}"
        if item.measured is None:
            shown.add_row(item.path.name, size, "not run: its backend", "is on phones only", "")
        else:
            ran = item.measured
            shown.add_row(
                item.path.name, size, f"{ran.agreement:.1%}", f"{ran.max_abs_logit:.1e}", f"{ran.milliseconds:.1f}"
            )
    return shown


def main(
    *,
    model: str | None = None,
    golden: Path | None = None,
    calibration: Path | None = None,
    output: Path | None = None,
    store: Path = STORE,
) -> None:
    """Write programs for phones, with what their apps need beside them.

    Args:
        model: name of the model; without it, the one model that lies in the store.
        golden: folder of pictures to compare on; views of scikit-image's photographs without it.
        calibration: folder of pictures for int8's scales; views of the golden set without it.
        output: folder to write into; `bundles/<model>-mobile` without it.
        store: folder of the archives.
    """
    name = model or model_in(store)
    folder = output or Path("bundles") / f"{name}-mobile"
    ensure(name, ("eager", "float32"), store=store)
    mobile = recipe_in(recipe_file(name)).mobile  # of the recipe as it is now: no archive is built again for it
    made_from = _inputs(find_archive(f"{name}-eager", store).path, mobile, golden, calibration)
    record = folder / _RECORD
    if record.exists() and record.read_text() == made_from:
        return
    record.unlink(missing_ok=True)
    written = write_programs(name, store, folder, golden, calibration, mobile)
    record.write_text(made_from)
    out.print(table(written), soft_wrap=False)
    done(f"{folder}")


def _inputs(archive: Path, mobile: Mobile, golden: Path | None, calibration: Path | None) -> str:
    """A digest of what the programs are made from: the archive, the recipe's `mobile`, the pictures, and the code."""
    code = (Path(__file__), Path(bundle.__file__))
    return digest(msgspec.json.encode([content_digest(archive), mobile]), (*pictures(golden, calibration), *code))
