"""Loads what is about to be packed in a process where only what it declares can be imported."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scripts.building import clean
from scripts.building.packing import Content
from scripts.building.requirements import PROJECT, modules, packages, pinned
from scripts.console import UserError

_FAILED: Final = 1


def outputs_alone(
    content: Content, runtime: str, requirements: Sequence[str], pixels: NDArray[np.uint8], workdir: Path
) -> NDArray[np.float32]:
    """The outputs of an archive's content, computed as a worker does, in batches.

    Args:
        content: what will be packed.
        runtime: of the archive.
        requirements: that the archive declares.
        pixels: pictures, uint8 [N,H,W,3].
        workdir: folder to write into.

    Returns:
        float32 [N,classes].

    Raises:
        UserError: the content imports what it neither holds nor declares, or cannot be loaded.
    """
    folder, declared = workdir / "alone", workdir / "declared.json"
    asked, target = workdir / "pixels.npy", workdir / "outputs.npy"
    _lay_out(content, folder)
    allowed = [name for name in packages(runtime, requirements) if name != PROJECT]
    names = sorted(name for package in allowed for name in modules(package))
    declared.write_text(json.dumps({"names": names, "distributions": sorted(allowed)}))
    np.save(asked, pixels)
    command = [sys.executable, "-I", clean.__file__, *map(str, (folder, declared, asked, target))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UserError(_explained(result, content.model_name))
    outputs: NDArray[np.float32] = np.load(target)
    shutil.rmtree(folder)
    return outputs


def _lay_out(content: Content, folder: Path) -> None:
    """Put the content's files where a worker finds them, without copying the large ones."""
    shutil.copytree(content.extra_folder, folder, copy_function=os.link)
    for path in filter(None, (content.handler, content.model_file, content.config_file)):
        shutil.copy(path, folder)
    (folder / content.serialized_file.name).hardlink_to(content.serialized_file)


def _explained(result: "subprocess.CompletedProcess[str]", model: str) -> str:
    """Why the process failed, and what to do."""
    said = _said(result.stdout)
    if result.returncode != _FAILED or said is None:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-8:])
        return f"{model} cannot be loaded from its archive: the process ended with {result.returncode}\n{tail}"
    missing = str(said["missing"] or "").partition(".")[0]
    if not missing:
        return f"{model} cannot be loaded from its archive: {said['error']}"
    carriers = sorted(set(packages_distributions().get(missing, ())))
    if not carriers:
        return (
            f"{model} imports {missing}, which its archive does not hold: it must lie beside the architecture, "
            "and a statement there must import it by its name"
        )
    lines = " or ".join(f"requirements: [{pinned(carrier)}]" for carrier in carriers)
    return f"{model} imports {missing}, which its archive neither holds nor declares; add to the recipe: {lines}"


def _said(output: str) -> dict[str, Any] | None:
    """The JSON that the process wrote last, if it did."""
    try:
        last: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return last if isinstance(last, dict) and {"error", "missing"} <= last.keys() else None
