"""The input of every exporter: a module, its recipe, and its graph from pixels to logits."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from classifier.normalization import laid_out, normalize
from classifier.recipe import Recipe, Variant
from classifier.runtimes.tensors import logits_of
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.building.options import TorchScriptMethod
from scripts.console import UserError


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What to export."""

    module: Any  # nn.Module, float32, in evaluation mode; None for an ONNX program
    program: Path | None = None  # the user's own file, which is served as it is where the runtime can
    recipe: Recipe
    variant: Variant
    torchscript: TorchScriptMethod = "trace"
    calibration: NDArray[np.uint8] | None = None  # pictures [N,H,W,3] from which int8 chooses its scales


class FromPixels(nn.Module):
    """A model with the normalisation in front of it: uint8 [N,H,W,3] to logits [N,classes]."""

    def __init__(self, what: Export) -> None:
        super().__init__()
        self.module = what.module
        self._input = what.recipe.input

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise and compute."""
        return logits_of(self.module(laid_out(normalize(pixels, self._input), self._input.layout)))


def trace(what: Export) -> torch.export.ExportedProgram:
    """Trace the model into a graph from pixels to logits, for any batch size unless the recipe fixes it.

    Raises:
        UserError: torch.export cannot follow the module's Python.
    """
    spec = what.recipe.input
    example = torch.zeros(spec.example_batch, *spec.size, 3, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim("batch", min=1)},) if spec.batch is None else None
    module = FromPixels(what)
    module.training = False  # of this module alone: a program of torch.export has no eval()
    try:
        return torch.export.export(module, (example,), dynamic_shapes=shapes)
    except Exception as error:  # torch.export raises many exceptions for code that it cannot follow
        raise UserError(f"torch.export cannot follow {what.recipe.name}: {error}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' warnings, because users can do nothing about them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
