"""The model as its owner runs it: an archive's reference, and what is exported.

It is built without any shortcut of this project: with the architecture's own initial values, so that whatever the
weights do not bring is as in the program that trained it.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from classifier.architecture import build
from classifier.errors import UnusableError
from classifier.normalization import laid_out, normalize
from classifier.places import ProgramKind, read_program
from classifier.recipe import Recipe
from classifier.runtimes import in_batches_of
from classifier.runtimes.eager import refuse_other_kinds
from classifier.runtimes.tensors import logits_of
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.building.checkpoint import read_checkpoint
from scripts.building.fitting import MisfitError, fit
from scripts.building.weights import Weights
from scripts.console import UserError, step

Compute = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """A model before any export."""

    recipe: Recipe
    compute: Compute  # the model's input, as it takes it, to its outputs float32 [N,classes]
    module: Any  # nn.Module to export, in evaluation mode, float32; None for an ONNX file
    program: Path | None  # the user's file, for a recipe with `program`

    def outputs(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The plainest way to the outputs [N,classes] of pixels [N,H,W,3]: one picture at a time, contiguous memory.

        Raises:
            UserError: the model does not take this input, or gives something else than a row for each picture.
        """
        spec = self.recipe.input

        def forward(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            floats = laid_out(normalize(torch.from_numpy(pictures), spec), spec.layout)
            return self.compute(floats.contiguous().numpy())

        one = in_batches_of(spec.batch or 1, forward)
        try:
            rows = [one(item[None]) for item in pixels] if spec.batch is None else [one(pixels)]
        except (Exception, SystemExit) as error:  # whatever the model's code or its library raises
            raise UserError(
                f"{self.recipe.name} does not compute on the recipe's input, "
                f"{spec.depth} channels of {spec.size[0]} x {spec.size[1]}: {type(error).__name__}: {error}"
            ) from error
        found = np.concatenate(rows)
        if found.ndim != 2:
            raise UserError(f"{self.recipe.name} gives {list(found.shape[1:])} for a picture, not one row of logits")
        return found


def original(recipe: Recipe, weights: Weights) -> Original:
    """Load the model of a recipe.

    Raises:
        UserError: the weights do not fit the architecture, or the program cannot be loaded.
    """
    if recipe.program is None:
        module = _with_weights(recipe, weights)
        return of_module(recipe, module)
    kind, _ = read_program(recipe.program)
    try:
        return _load_program(recipe, kind, weights.path)
    except UserError:
        raise
    except Exception as error:  # each library raises exceptions of its own for a file that is not its
        raise UserError(f"{weights.path} is not a program of kind {kind} that can be loaded: {error}") from error


def _with_weights(recipe: Recipe, weights: Weights) -> nn.Module:
    """The architecture with its weights, whatever form the checkpoint has; says what was done to them."""
    try:
        module = build(recipe.architecture or "", recipe.arguments)
    except UnusableError as error:
        raise UserError(str(error)) from error
    checkpoint = read_checkpoint(weights.path)
    wanted = {name: item.shape for name, item in module.state_dict().items()}
    try:
        fitted = fit(checkpoint, wanted, weights.entry, weights.prefix)
    except MisfitError as error:
        of_transformers = recipe.library == "transformers"
        renamed = _renamed(module, checkpoint.get(weights.entry or "", {})) if of_transformers else None
        if renamed is None:
            raise UserError(f"{weights.path.name} does not fit architecture {recipe.architecture}: {error}") from error
        step(f"{weights.path.name}: transformers renamed older names of the weights")
        return renamed.float().eval().requires_grad_(requires_grad=False)
    for note in fitted.notes:
        step(f"{weights.path.name}: {note}")
    try:
        refuse_other_kinds(fitted.state_dict, module.state_dict(), weights.path.name)
    except UnusableError as error:
        raise UserError(str(error)) from error
    module.load_state_dict(fitted.state_dict, strict=True)
    return module.float().eval().requires_grad_(requires_grad=False)


def _renamed(module: nn.Module, state_dict: dict[str, Tensor]) -> nn.Module | None:
    """The module with weights that an older transformers named otherwise; None if they are not all of it."""
    model: Any = type(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded, said = model.from_pretrained(
            None, config=module.config, state_dict=state_dict, output_loading_info=True
        )
    complete = not (said["missing_keys"] or said["mismatched_keys"] or said["unexpected_keys"])
    return loaded if complete else None


def _load_program(recipe: Recipe, kind: ProgramKind, path: Path) -> Original:
    if kind == "onnx":
        return Original(recipe=recipe, compute=_of_onnx(path, recipe), module=None, program=path)
    if kind == "torchscript":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
            module: Any = torch.jit.load(path, map_location="cpu").eval()
    else:
        module = torch.export.load(path).module()
    return Original(recipe=recipe, compute=_compute_of(module), module=module, program=path)


def of_module(recipe: Recipe, module: nn.Module) -> Original:
    """The model that a module in evaluation mode is, whatever its weights are."""
    return Original(recipe=recipe, compute=_compute_of(module), module=module, program=None)


def _compute_of(module: Callable[..., Any]) -> Compute:
    @torch.inference_mode()
    def compute(floats: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = logits_of(module(torch.from_numpy(floats))).float().numpy()
        return outputs

    return compute


def _of_onnx(path: Path, recipe: Recipe) -> Compute:
    import onnxruntime  # an optional package, as onnx is

    from scripts.building.exports.onnx_program import read

    read(path, recipe)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}[taken.type]

    def compute(floats: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {taken.name: floats.astype(kind)})[0], np.float32)

    return compute
