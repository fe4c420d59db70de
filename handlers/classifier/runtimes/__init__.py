"""Runtimes: each one a module here that turns a file of an archive into a forward function.

A runtime module `classifier.runtimes.<name>` has one public function, `load(source, device) -> Forward`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from torch import Tensor

from classifier.recipe import Recipe, RuntimeName

# uint8 [N, H, W, 3] on the CPU -> float logits [N, classes] on the CPU.
Forward = Callable[[Tensor], Tensor]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime loads from."""

    directory: Path  # an unpacked archive
    serialized_file: str  # in it
    recipe: Recipe


def load_runtime(name: RuntimeName, source: Source, device: str) -> Forward:
    """Load the model with the named runtime onto a torch device (`cpu`, `cuda:0`)."""
    load: Callable[[Source, str], Forward] = importlib.import_module(f"classifier.runtimes.{name}").load
    return load(source, device)
