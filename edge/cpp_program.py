"""The C++ program of `edge/cpp/`, built by CMake against the LibTorch that torch carries: `make cpp`."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Final

from edge import bundle
from scripts.archives.store import STORE, model_in
from scripts.console import UserError, done, step

SOURCES: Final = Path("edge/cpp")
PROGRAM: Final = SOURCES / "build" / "classify"


def main(*, model: str | None = None, golden: Path | None = None, store: Path = STORE) -> None:
    """Build the C++ program and the bundle that it reads.

    Args:
        model: name of the model; without it, the one model that lies in the store.
        golden: folder of pictures for the bundle's golden vectors; photographs of scikit-image without it.
        store: folder of the archives.
    """
    name = model or model_in(store)
    bundle.main(model=name, golden=golden, store=store)
    build()
    done(f"{PROGRAM} bundles/{name} <picture>...")


def build() -> None:
    """Build the program; CMake builds again only what has changed.

    Raises:
        UserError: CMake is missing, or fails; the message has its output.
    """
    if shutil.which("cmake") is None:
        raise UserError("the C++ program needs CMake, a compiler and some libraries; `make setup-system` installs them")
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.submodule_search_locations is None:
        raise UserError("torch is not installed; `make setup` installs it")
    step(f"building {PROGRAM}")
    folder = str(PROGRAM.parent)
    _cmake("-S", str(SOURCES), "-B", folder, f"-DTORCH={spec.submodule_search_locations[0]}")
    _cmake("--build", folder, "--parallel", "2")


def _cmake(*arguments: str) -> None:
    result = subprocess.run(["cmake", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    if result.returncode != 0:
        raise UserError(f"CMake failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
