"""Runtimes: each is a module of this package that turns a file of an archive into a forward function.

A runtime module `classifier.runtimes.<name>` has one public function, `load(source) -> Forward`.
"""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from classifier.errors import UnusableError
from classifier.forks import compute, require_threads
from classifier.own_code import OwnCode
from classifier.recipe import Recipe, Variant

# Libraries that report to their makers when they are imported. ONNX Runtime does so in a thread, for which a forked
# process would wait at its end; OpenVINO in a process that it forks, unless this package of it cannot be imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None is what forbids an import

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
    process: int = msgspec.field(default_factory=os.getpid)  # that loads it
    code: OwnCode | None = None  # the archive's own; None for a recipe whose architecture lies in `handlers/`

    @property
    def parts(self) -> int:
        """How many parts a batch may be divided into, each for one thread (`parts.py`); 1: it stays whole.

        On a GPU threads of the processor do not compute, and a batch of a fixed size has no parts.
        """
        return self.threads if self.device == "cpu" and self.recipe.input.batch is None else 1

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

    Several threads may call the function at once, each with its own pixels, and so may forks of this process.

    Raises:
        UnusableError: the file cannot be used, or not on this machine; the message says why.
        OSError: there is no such file.
    """
    module = importlib.import_module(f"classifier.runtimes.{source.variant.runtime}")
    load: Callable[[Source], Forward] = module.load
    loaded = compute(load, source)
    fixed = source.recipe.input.batch
    any_number = loaded if fixed is None else in_batches_of(fixed, loaded)

    def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_process(source)
        return compute(any_number, pixels)

    return forward


def weights_beside(graph: Path) -> Path:
    """The file beside an ONNX graph that has its large weights, if they are not in the graph itself."""
    return graph.with_name(f"{graph.name}.data")


def require_process(source: Source) -> None:
    """Refuse to compute in a process that cannot.

    Raises:
        UnusableError: this process was forked from the one that loaded the model, and has no access to the GPU; or the
            fork interrupted something that was being computed.
    """
    if source.device != "cpu" and source.process != os.getpid():
        raise UnusableError(
            f"a model on {source.device} cannot be used in a fork of the process that loaded it: "
            "load() in each process, and start them with the method spawn"
        )
    require_threads()


def in_batches_of(size: int, forward: Forward) -> Forward:
    """A forward function for any number of pictures, from one for exactly `size`: the last batch is filled up."""

    def any_number(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        surplus = -len(pixels) % size
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], surplus, axis=0)]) if surplus else pixels
        batches = [forward(filled[start : start + size]) for start in range(0, len(filled), size)]
        return np.concatenate(batches)[: len(pixels)]

    return any_number
