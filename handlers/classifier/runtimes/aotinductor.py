"""The AOTInductor runtime: a model that torch.export traced and torch's compiler turned into a shared library."""

import zipfile
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from classifier.cpu import cpu_flags
from classifier.errors import UnusableError
from classifier.runtimes import Forward, Source
from classifier.runtimes.tensors import forward_of

# The compiler's names of instruction sets, where Linux has another name.
_LINUX_FLAGS = {"avx512": "avx512f", "neon": "asimd"}


class _Metadata(msgspec.Struct):
    """What the compiler records about its output."""

    AOTI_CPU_ISA: str = ""  # instruction sets, separated by spaces


def load(source: Source) -> Forward:
    """Load a package (.pt2) whose graph takes uint8 [N,H,W,3]: normalisation is compiled in.

    Raises:
        UnusableError: the file is not a package, or was compiled for another kind of processor.
        OSError: the file cannot be read.
    """
    path = source.path
    torch.set_num_threads(source.threads)
    _check_processor(path)
    try:
        # What torch._inductor.aoti_load_package does, without importing the compiler, which takes 3 s
        package = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    except RuntimeError as error:
        raise UnusableError(f"{path.name} is not an AOTInductor package: {error}") from error

    def compute(pixels: Tensor) -> Tensor:
        (logits,) = package.run([pixels])
        return logits

    return forward_of(compute, "cpu")


def _check_processor(path: Path) -> None:
    """Refuse machine code that this processor cannot execute: the loader itself only warns."""
    try:
        with zipfile.ZipFile(path) as package:
            (name, *_) = (name for name in package.namelist() if name.endswith("wrapper_metadata.json"))
            compiled_for = msgspec.json.decode(package.read(name), type=_Metadata).AOTI_CPU_ISA.lower().split()
    except (zipfile.BadZipFile, ValueError) as error:  # ValueError: no such file in it, or no metadata
        raise UnusableError(f"{path.name} is not an AOTInductor package") from error
    missing = [name for name in compiled_for if _LINUX_FLAGS.get(name, name) not in cpu_flags()]
    if missing:
        raise UnusableError(
            f"{path.name} was compiled for a processor with {', '.join(missing)}, which this one lacks: "
            "build the archive on a machine like this one"
        )
