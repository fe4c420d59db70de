"""Exports a model to a package of machine code, by torch.export and AOTInductor."""

import os
import shlex
import zipfile
from pathlib import Path

import torch

from scripts.building.exports.program import Export, quiet, trace
from scripts.console import UserError


def export_aotinductor(what: Export, path: Path) -> None:
    """Write a package of machine code, uint8 [N,H,W,3] to logits.

    Raises:
        UserError: torch.export cannot follow the module, or there is no C++ compiler.
    """
    program = trace(what)
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
    """The C++ compiler's command, with options that keep folders of this machine out of the library's messages."""
    compiler = os.environ.get("CXX", "g++")
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # the compiler takes 2 s to import

    hidden = {Path(torch.__file__).parent: "torch", Path(cache_dir()): "generated"}
    return " ".join([compiler, *(shlex.quote(f"-ffile-prefix-map={path}={name}") for path, name in hidden.items())])
