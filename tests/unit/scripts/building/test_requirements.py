"""Which packages an archive declares, and which its workers may import because of them."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import pytest
from classifier.recipe import Recipe

from scripts.building.requirements import PROJECT, modules, packages, requirements_of
from scripts.console import UserError


def recipe(architecture: str = "own_net", **fields: Any) -> Recipe:
    given = {"name": "own", "architecture": architecture, "weights": "own-0123abcd.pth", "labels": ["a", "b"]}
    return msgspec.convert(given | fields, Recipe)


FILELOCK = f"filelock=={version('filelock')}"


def test_an_eager_archive_declares_what_its_recipe_does() -> None:
    assert requirements_of(recipe(requirements=[FILELOCK]), "eager") == [FILELOCK]
    assert requirements_of(recipe(), "eager") == []


@pytest.mark.parametrize("runtime", ["torchscript", "aotinductor", "onnxruntime", "openvino", "ncnn"])
def test_a_graph_needs_nothing_of_the_architectures_python(runtime: Any) -> None:
    assert requirements_of(recipe("timm:resnet18", requirements=[FILELOCK]), runtime) == []


@pytest.mark.parametrize("library", ["torchvision", "timm", "transformers"])
def test_the_library_of_the_architecture_is_declared_by_its_public_version(library: str) -> None:
    (line,) = requirements_of(recipe(f"{library}:resnet18"), "eager")
    assert line == f"{library}=={version(library).partition('+')[0]}"


def test_of_a_build_for_one_kind_of_machine_the_public_version_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own index has torchvision as 0.29.1+cpu, which PyPI and the index for GPUs do not have."""
    from importlib.metadata import Distribution

    monkeypatch.setattr(Distribution, "version", property(lambda _: "0.29.1+cpu"))
    assert requirements_of(recipe("torchvision:resnet18"), "eager") == ["torchvision==0.29.1"]


def test_a_library_that_the_recipe_pins_is_declared_once() -> None:
    pinned = f"Timm[fast]=={version('timm')}"
    assert requirements_of(recipe("timm:resnet18", requirements=[pinned]), "eager") == [pinned]


def test_a_library_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.building import requirements

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(requirements, "distribution", missing)
    with pytest.raises(UserError, match="the archive needs timm, which is not installed: pip install timm"):
        requirements_of(recipe("timm:resnet18"), "eager")


@pytest.mark.parametrize("runtime", ["eager", "torchscript"])
def test_another_version_than_the_one_that_is_declared_is_refused(runtime: Any) -> None:
    """The gate would test one version, and the image install another."""
    asked = recipe(requirements=["filelock==0.0.1"])
    if runtime == "eager":
        with pytest.raises(
            UserError, match=rf"requirements: filelock==0\.0\.1, but {version('filelock')} is installed"
        ):
            requirements_of(asked, runtime)
    else:
        assert requirements_of(asked, runtime) == []


def test_what_is_not_for_this_python_is_not_asked_for() -> None:
    elsewhere = "no-such-package==1.0; sys_platform == 'nowhere'"
    assert requirements_of(recipe(requirements=[elsewhere]), "eager") == [elsewhere]
    assert "no-such-package" not in packages("eager", [elsewhere])


@pytest.mark.parametrize("text", ["filelock==1.0; nonsense", "filelock[==1.0"])
def test_what_pip_would_not_take_is_refused(text: str) -> None:
    asked = msgspec.structs.replace(recipe(), requirements=[text])  # past the recipe's own pattern
    with pytest.raises(UserError, match=r"requirements: .*\n +filelock"):
        requirements_of(asked, "eager")


def test_a_worker_may_import_what_its_runtime_and_its_requirements_need() -> None:
    eager, openvino = packages("eager"), packages("openvino")
    assert {"torch", "numpy", "pillow", "msgspec", "pyyaml", "captum", "sympy"} <= eager.keys()
    assert not {"openvino", "filelock", "timm", "torchvision", "requests"} & eager.keys() - eager["torch"]
    assert "openvino" in openvino.keys() - eager.keys()
    with_timm = packages("eager", [f"timm=={version('timm')}"])
    assert {"timm", "torchvision", "huggingface-hub", "safetensors"} <= with_timm.keys()
    assert with_timm[PROJECT] == eager[PROJECT] | {"timm"}


@pytest.mark.parametrize(
    ("package", "expected"), [("pillow", "PIL"), ("pyyaml", "yaml"), ("protobuf", "google"), ("timm", "timm")]
)
def test_the_modules_of_a_package(package: str, expected: str) -> None:
    assert expected in modules(package)


def test_a_folder_of_scripts_or_caches_is_no_module() -> None:
    assert not {"", "..", "__pycache__", "bin"} & modules("timm")
