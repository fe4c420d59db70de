"""Each test starts a Python as TorchServe starts a worker, with a small package in torch's place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.torchserve import launch

SITE = Path(launch.__file__).with_name("worker_site")
TORCH = """
import time
print("torch begins")
time.sleep(0.1)
from torch.inner import Tensor
import torch
VALUE = 1
print("torch is there")
"""


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """A folder of packages, in which `torch` tells when it is imported."""
    package = tmp_path / "libraries/torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(TORCH)
    (package / "inner.py").write_text("class Tensor: pass\n")
    return package.parent


def run(libraries: Path, code: str, program: str = "ts/model_service_worker.py") -> list[str]:
    """What a program prints, line by line."""
    path = libraries.parent / program
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)
    environment = {"PYTHONPATH": f"{SITE}{os.pathsep}{libraries}"}
    ended = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.returncode == 0
    return ended.stdout.splitlines()


def test_a_worker_that_uses_nothing_of_torch_does_not_load_it(libraries: Path) -> None:
    code = "import torch\nimport torch, sys\nprint(torch.__name__, torch.__file__, torch.__spec__.name)"
    assert run(libraries, code) == [f"torch {libraries / 'torch/__init__.py'} torch"]


@pytest.mark.parametrize(("program", "imported"), [("ts/model_service_worker.py", False), ("program.py", True)])
def test_a_worker_has_openvino_without_its_converter(libraries: Path, program: str, imported: bool) -> None:
    code = "import openvino, sys\nprint(sys.modules.get('openvino.tools.ovc') is not None, hasattr(openvino, 'Core'))"
    assert run(libraries, code, program) == [f"{imported} True"]


@pytest.mark.parametrize(
    "use",
    [
        "torch.Tensor",
        "isinstance(b'', torch.Tensor)",
        "from torch import Tensor",
        "import torch.inner",
        "from torch.inner import Tensor",
        "torch.VALUE",
        "dir(torch)",
        "torch.mine = 1",
        "del torch.VALUE",
    ],
)
def test_any_use_of_it_loads_torch_once(libraries: Path, use: str) -> None:
    code = f"import torch\nprint('worker begins')\n{use}\nimport torch as later\nprint(torch.inner is later.inner)"
    assert run(libraries, code) == ["worker begins", "torch begins", "torch is there", "True"]


def test_what_is_set_in_the_stand_in_is_set_in_torch(libraries: Path) -> None:
    code = "import torch\ntorch.VALUE = 2\nimport torch as later\nprint(torch is later, later.VALUE)\ndel torch.VALUE\n"
    assert run(libraries, code + "print(hasattr(later, 'VALUE'))")[2:] == ["False 2", "False"]


def test_threads_that_use_it_at_once_get_the_whole_of_torch(libraries: Path) -> None:
    code = """
import threading, torch

def use():
    barrier.wait()
    found.append(torch.VALUE)

barrier, found = threading.Barrier(8), []
threads = [threading.Thread(target=use) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(found)
"""
    assert run(libraries, code) == ["torch begins", "torch is there", str([1] * 8)]


def test_torch_that_cannot_be_imported_says_so_each_time(libraries: Path) -> None:
    (libraries / "torch/__init__.py").write_text("raise ImportError('libtorch.so is missing')")
    code = """
import torch
for _ in range(2):
    try:
        torch.Tensor
    except ImportError as error:
        print(error)
"""
    assert run(libraries, code) == ["libtorch.so is missing"] * 2


def test_every_other_program_gets_torch_at_once(libraries: Path) -> None:
    for program in ("ts/model_server.py", "model_service_worker.py", "tests/model_service_worker.py"):
        assert run(libraries, "import torch", program) == ["torch begins", "torch is there"]


def test_the_module_that_it_hides_runs_too(libraries: Path) -> None:
    (libraries / "sitecustomize.py").write_text("import sys\nprint('mine', 'worker_site' in str(sys.path))")
    assert run(libraries, "import sitecustomize\nprint(sitecustomize.__file__)") == [
        "mine False",
        str(libraries / "sitecustomize.py"),
    ]


def test_what_is_missing_in_the_module_that_it_hides_is_said(libraries: Path) -> None:
    (libraries / "sitecustomize.py").write_text("import not_there")
    with pytest.raises(AssertionError, match="Error in sitecustomize"):
        run(libraries, "")
