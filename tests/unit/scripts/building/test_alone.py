"""What is about to be packed is loaded where only what it declares can be imported.

The finder is tried here, in this process; whole archives in processes of their own are slow.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from classifier.pipeline import Classifier
from numpy.typing import NDArray

from scripts.building import alone, clean
from scripts.building.alone import outputs_alone
from scripts.building.clean import Declared
from scripts.building.packing import Content
from scripts.console import UserError


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> type[Declared]:
    """The finder where only torch and Pillow are declared."""
    monkeypatch.setattr(Declared, "names", frozenset({"torch", "PIL"}))
    monkeypatch.setattr(Declared, "distributions", frozenset({"torch", "pillow"}))
    return Declared


@pytest.mark.parametrize("name", ["torch", "PIL", "json", "email", "unittest.mock"])
def test_what_is_declared_or_pythons_own_is_found(name: str, declared: type[Declared]) -> None:
    parent, _, _ = name.rpartition(".")
    assert declared.find_spec(name, sys.modules[parent].__path__ if parent else None) is not None


def test_a_module_of_a_declared_package_is_found(declared: type[Declared]) -> None:
    import PIL

    assert declared.find_spec("PIL.Image", PIL.__path__) is not None


@pytest.mark.parametrize("name", ["numpy", "yaml", "filelock", "google", "no_such_module"])
def test_what_is_installed_but_not_declared_is_not_there(name: str, declared: type[Declared]) -> None:
    assert declared.find_spec(name) is None


def test_what_lies_beside_is_found_whatever_is_declared(
    declared: type[Declared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_it.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert declared.find_spec("beside_it") is not None


def test_the_metadata_of_packages_is_hidden_with_them(
    declared: type[Declared], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries ask it for what they may use."""
    from importlib.machinery import PathFinder
    from importlib.metadata import PackageNotFoundError, distribution, distributions

    hidden = [finder for finder in sys.meta_path if finder is not PathFinder]
    monkeypatch.setattr(sys, "meta_path", [*hidden, declared])
    assert distribution("Pillow").version == version("pillow")
    with pytest.raises(PackageNotFoundError):
        distribution("numpy")
    assert {found.name.lower() for found in distributions()} == {"torch", "pillow"}


Alone = Callable[..., NDArray[np.float32]]


@pytest.fixture
def loaded_alone(tiny_folder: Path, tmp_path: Path) -> Alone:
    """Load tiny's archive with another source of its architecture, in the clean process."""

    def outputs(source: str | None = None, requirements: tuple[str, ...] = (), **beside: str) -> NDArray[np.float32]:
        extra, elsewhere = tmp_path / "extra", tmp_path / "given"
        shutil.copytree(tiny_folder, extra)
        elsewhere.mkdir()
        for name in ("image_classifier_handler.py", "tiny_net.py", "tiny.pth", "model-config.yaml"):
            shutil.move(extra / name, elsewhere)
        if source is not None:
            (elsewhere / "tiny_net.py").write_text(source + (elsewhere / "tiny_net.py").read_text())
        for name, text in beside.items():
            (extra / f"{name}.py").write_text(text)
        content = Content(
            model_name="tiny",
            version="1.0",
            handler=elsewhere / "image_classifier_handler.py",
            serialized_file=elsewhere / "tiny.pth",
            model_file=elsewhere / "tiny_net.py",
            config_file=elsewhere / "model-config.yaml",
            extra_folder=extra,
        )
        return outputs_alone(content, "eager", requirements, PIXELS, tmp_path)

    return outputs


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.mark.slow
def test_the_outputs_are_those_of_a_worker(loaded_alone: Alone, tiny: Classifier, tmp_path: Path) -> None:
    found = loaded_alone()
    np.testing.assert_allclose(found, tiny.logits(PIXELS), atol=1e-5, rtol=0)
    assert not (tmp_path / "alone").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import psutil\n",
            f"tiny imports psutil, which its archive neither holds nor declares; add to the recipe: "
            f"requirements: [psutil=={version('psutil')}]",
        ),
        (
            "from yaml_of_mine import x\n",
            "tiny imports yaml_of_mine, which its archive does not hold: it must lie beside",
        ),
        ("import scripts.console\n", "tiny imports scripts, which its archive does not hold"),
        ("import torchvision.models\n", f"requirements: [torchvision=={version('torchvision').partition('+')[0]}]"),
        ("1 / 0\n", "tiny cannot be loaded from its archive: UnusableError: .*ZeroDivisionError: division by zero"),
        ("import os\nos.abort()\n", "the process ended with -6"),
    ],
    ids=["undeclared", "unknown", "of the project", "of a library", "error", "crash"],
)
def test_what_cannot_be_loaded_alone_is_refused_with_what_to_do(source: str, message: str, loaded_alone: Alone) -> None:
    pattern = message if message.startswith(("(?s)", "tiny cannot")) else message.replace("[", r"\[")
    with pytest.raises(UserError, match=pattern):
        loaded_alone(source)


@pytest.mark.slow
def test_what_is_declared_or_lies_beside_can_be_imported_and_found(loaded_alone: Alone) -> None:
    declared = (f"psutil=={version('psutil')}",)
    source = """
import importlib.metadata, importlib.util
import psutil, beside_it
assert importlib.metadata.version("psutil")
assert importlib.util.find_spec("torchvision") is None
try:
    importlib.metadata.version("torchvision")
except importlib.metadata.PackageNotFoundError:
    pass
else:
    raise AssertionError("torchvision")
try:
    import timm
except ImportError:
    timm = None  # what is optional may be missing
assert timm is None
"""
    assert loaded_alone(source, declared, beside_it="").shape == (5, 10)


@pytest.mark.parametrize(
    ("code", "output", "expected"),
    [
        (1, '{"error": "X: y", "missing": null}', "tiny cannot be loaded from its archive: X: y"),
        (
            1,
            'said before\n{"error": "X: y", "missing": "no_such.part"}\n',
            "tiny imports no_such, which its archive does not hold",
        ),
        (1, "", "the process ended with 1\n"),
        (1, "[1, 2]", "the process ended with 1\n"),
        (-11, "said before\nmuch", "the process ended with -11\nsaid before\nmuch"),
        (-9, '{"error": "X: y", "missing": null}', "the process ended with -9\n"),
    ],
)
def test_how_the_process_ended_is_told(code: int, output: str, expected: str) -> None:
    result: Any = SimpleNamespace(returncode=code, stdout=output, stderr="")
    assert expected in alone._explained(result, "tiny")


def test_a_module_that_two_packages_carry_is_declared_by_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "packages_distributions", lambda: {"net": ["pillow", "numpy", "pillow"]})
    result: Any = SimpleNamespace(returncode=1, stdout=json.dumps({"error": "", "missing": "net.part"}), stderr="")
    one, other = (f"requirements: [{name}=={version(name)}]" for name in ("numpy", "pillow"))
    assert alone._explained(result, "tiny").endswith(f"add to the recipe: {one} or {other}")


def test_the_program_that_loads_imports_nothing_of_the_project() -> None:
    """It runs isolated, from its file, where the checkout is not on the path."""
    result = subprocess.run([sys.executable, "-I", "-S", clean.__file__], capture_output=True, text=True, check=False)
    assert "not enough values to unpack" in result.stderr
