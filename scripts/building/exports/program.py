"""The input of every exporter: a module, its recipe, and its graph from pixels to logits."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import torch
from classifier.preprocess import normalize
from classifier.recipe import Recipe, Variant
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.building.options import TorchScriptMethod
from scripts.console import UserError


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What to export."""

    module: nn.Module  # float32, in evaluation mode
    recipe: Recipe
    variant: Variant
    torchscript: TorchScriptMethod = "trace"
    calibration: NDArray[np.uint8] | None = None  # pictures [N,H,W,3] from which int8 chooses its scales


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


def trace(what: Export) -> torch.export.ExportedProgram:
    """Trace the model into a graph from pixels to logits, for any batch size.

    Raises:
        UserError: torch.export cannot follow the module's Python.
    """
    side = what.recipe.input.crop
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)  # two: torch.export treats a batch of one specially
    try:
        return torch.export.export(
            FromPixels(what).eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
        )
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
