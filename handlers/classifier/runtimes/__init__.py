"""Runtimes: each is a module of this package that turns a file of an archive into a forward function.

A runtime module `classifier.runtimes.<name>` has one public function, `load(source) -> Forward`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from classifier.recipe import Recipe, Variant

# uint8 [N,H,W,3] -> float32 [N,classes].
Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime loads, and how it computes."""

    directory: Path  # an unpacked archive
    serialized_file: str  # its name in the archive
    recipe: Recipe
    variant: Variant
    threads: int
    device: str = "cpu"  # as torch names it; `cuda:0`

    @property
    def path(self) -> Path:
        """The file to load.

        Raises:
            OSError: there is no such file. Checked here, because runtimes raise various exceptions of their own.
        """
        path = self.directory / self.serialized_file
        with path.open("rb"):
            return path


def load_runtime(source: Source) -> Forward:
    """Load the model with the runtime of its variant.

    Raises:
        UnusableError: the file cannot be used, or not on this machine; the message says why.
        OSError: there is no such file.
    """
    module = importlib.import_module(f"classifier.runtimes.{source.variant.runtime}")
    load: Callable[[Source], Forward] = module.load
    fixed = source.recipe.input.batch
    return load(source) if fixed is None else in_batches_of(fixed, load(source))


def in_batches_of(size: int, forward: Forward) -> Forward:
    """A forward function for any number of pictures, from one for exactly `size`: the last batch is filled up."""

    def any_number(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        surplus = -len(pixels) % size
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], surplus, axis=0)]) if surplus else pixels
        batches = [forward(filled[start : start + size]) for start in range(0, len(filled), size)]
        return np.concatenate(batches)[: len(pixels)]

    return any_number
