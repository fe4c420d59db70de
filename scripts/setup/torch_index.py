"""Where pip is to look for torch besides PyPI, whose own build for Linux brings CUDA: a part of `make setup`.

It runs before anything is installed, so it imports Python's own library only. The index goes to the standard output,
empty for PyPI alone, and the reason, for people, to the standard error.
"""

import argparse
import http.client
import re
import sys
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 5  # for the whole answer; PyTorch's takes less than one
_PROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"
_NVIDIA: Final = Path("/dev/nvidiactl")  # there where the driver has found a GPU
_OTHERWISE: Final = "TORCH_INDEX=<url> takes another"


def cpu_index(project: Path = _PROJECT) -> str:
    """PyTorch's own index of builds without CUDA, as pyproject.toml names it."""
    return str(tomllib.loads(project.read_text())["tool"]["torchserve-image-classifier"]["torch-cpu-index"])


def wanted(project: Path = _PROJECT) -> str:
    """The version of torch that pyproject.toml pins."""
    pins: list[str] = tomllib.loads(project.read_text())["project"]["dependencies"]
    return next(version for name, _, version in (pin.partition("==") for pin in pins) if name == "torch")


def choose(given: str | None, cpu: str, version: str, gpu: bool) -> tuple[str, str]:
    """The index, empty for PyPI alone, and the reason in a sentence.

    Args:
        given: what the user named; empty for PyPI alone, None for no wish.
        cpu: the index of builds without CUDA.
        version: of torch, without what follows its plus.
        gpu: whether this machine has an NVIDIA GPU.
    """
    if given is not None:
        return given, f"torch comes from {given or 'PyPI'}, as TORCH_INDEX says"
    if gpu:
        return "", f"torch comes from PyPI, with CUDA, because this machine has an NVIDIA GPU; {_OTHERWISE}"
    if trouble := unusable(cpu, version):
        return "", f"torch comes from PyPI, with CUDA, because {cpu} {trouble}; {_OTHERWISE}"
    return cpu, f"torch comes from {cpu}, without CUDA, because this machine has no NVIDIA GPU; {_OTHERWISE}"


def unusable(index: str, version: str) -> str:
    """Why an index does not give this version of torch for processors, within some seconds; empty if it does."""
    try:
        page = _read(f"{index.rstrip('/')}/torch/")
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: it is no URL
        return f"cannot be reached ({error})"
    if re.search(rf"\btorch-{re.escape(version)}(\+|%2B)cpu-", page, re.IGNORECASE):
        return ""
    return f"has no torch {version} for processors"


def _read(url: str) -> str:
    """A page; it may come slowly, but not for ever."""
    deadline, content = time.monotonic() + TIMEOUT_S, b""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the project's own
        while piece := answer.read1():
            content += piece
            if time.monotonic() > deadline:
                raise TimeoutError("it takes too long")
    return content.decode(errors="replace")


def main() -> None:
    """Print the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", help="what the user named; empty for PyPI alone")
    index, reason = choose(parser.parse_args().index, cpu_index(), wanted(), _NVIDIA.exists())
    sys.stderr.write(f"· {reason}\n")
    sys.stdout.write(f"{index}\n")


if __name__ == "__main__":
    main()
