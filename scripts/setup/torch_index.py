"""Where pip is to look for torch besides PyPI, whose own build for Linux brings CUDA: a part of `make setup`.

It runs before anything is installed, so it imports Python's own library only. The index goes to the standard output,
empty for PyPI alone, and the reason, for people, to the standard error.
"""

import argparse
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 5
_PROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"
_NVIDIA: Final = Path("/dev/nvidiactl")  # there where the driver has found a GPU
_OTHERWISE: Final = "TORCH_INDEX=<url> takes another"


def cpu_index(project: Path = _PROJECT) -> str:
    """PyTorch's own index of builds without CUDA, as pyproject.toml names it."""
    return str(tomllib.loads(project.read_text())["tool"]["torchserve-image-classifier"]["torch-cpu-index"])


def choose(given: str | None, cpu: str, gpu: bool) -> tuple[str, str]:
    """The index, empty for PyPI alone, and the reason in a sentence.

    Args:
        given: what the user named; empty for PyPI alone, None for no wish.
        cpu: the index of builds without CUDA.
        gpu: whether this machine has an NVIDIA GPU.
    """
    if given is not None:
        return given, f"torch comes from {given or 'PyPI'}, as TORCH_INDEX says"
    if gpu:
        return "", f"torch comes from PyPI, with CUDA, because this machine has an NVIDIA GPU; {_OTHERWISE}"
    if trouble := unreachable(cpu):
        return "", f"torch comes from PyPI, with CUDA, because {cpu} cannot be reached ({trouble}); {_OTHERWISE}"
    return cpu, f"torch comes from {cpu}, without CUDA, because this machine has no NVIDIA GPU; {_OTHERWISE}"


def unreachable(index: str) -> str:
    """Why an index does not answer within some seconds; empty if it does."""
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=TIMEOUT_S):  # noqa: S310 - the project's own
            return ""
    except (OSError, ValueError) as error:  # ValueError: it is no URL
        return str(error)


def main() -> None:
    """Print the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", help="what the user named; empty for PyPI alone")
    index, reason = choose(parser.parse_args().index, cpu_index(), _NVIDIA.exists())
    sys.stderr.write(f"· {reason}\n")
    sys.stdout.write(f"{index}\n")


if __name__ == "__main__":
    main()
