"""Architectures by name: of a module of one's own, of torchvision, timm and transformers."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from classifier.architecture import build
from classifier.errors import UnusableError
from torch import nn

NETS = """
from torch import nn

class Small(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.fc = nn.Linear(3, classes)

class Large(Small):
    pass

def doubled(classes):
    return Small(2 * classes)

def no_module():
    return "Small"

width = 7
"""

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into a folder that modules are imported from; it is forgotten when the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def module(path: str, source: str) -> None:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(source)

    yield module
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def classes(module: nn.Module) -> int:
    found = module.get_submodule("fc")
    assert isinstance(found, nn.Linear)
    return found.out_features


@pytest.mark.parametrize(
    ("architecture", "arguments", "expected"),
    [
        ("nets_here:Small", None, 2),
        ("nets_here:Small", {"classes": 5}, 5),
        ("nets_here:Large", {"classes": 5}, 5),
        ("nets_here:doubled", {"classes": 5}, 10),
    ],
)
def test_a_class_or_a_function_of_a_module_is_chosen_by_its_name(
    architecture: str, arguments: dict[str, Any] | None, expected: int, write: Write
) -> None:
    write("nets_here.py", NETS)
    assert classes(build(architecture, arguments)) == expected


def test_a_module_may_lie_in_a_package(write: Write) -> None:
    write("nets_packed/__init__.py", "")
    write("nets_packed/small.py", NETS)
    assert classes(build("nets_packed.small:Small", {"classes": 4})) == 4


def test_of_several_classes_one_must_be_named(write: Write) -> None:
    write("nets_here.py", NETS)
    with pytest.raises(UnusableError, match="Large, Small; name one, as nets_here:Large"):
        build("nets_here")


def test_classes_that_the_module_imports_are_not_its_own(write: Write) -> None:
    write("nets_base.py", NETS)
    write("nets_here.py", "from nets_base import Small\nclass Mine(Small):\n    pass\n")
    assert type(build("nets_here")).__name__ == "Mine"


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("nets_here:Huge", None, "nets_here has no class or function Huge"),
        ("nets_here:width", None, "nets_here has no class or function width"),
        ("nets_here:no_module", None, "gives a str, not an nn.Module"),
        ("nets_here:Small", {"width": 3}, r"cannot be built with arguments {'width': 3}: TypeError: .*width"),
        ("nets_here:doubled", None, "cannot be built: TypeError: .*classes"),
        ("no_nets", None, r"there is no handlers/no_nets\.py"),
        ("no_nets.small:Net", None, r"there is no handlers/no_nets/small\.py"),
        ("nets_here.small:Net", None, r"there is no handlers/nets_here/small\.py"),
    ],
)
def test_what_cannot_be_built_is_refused_with_why(
    architecture: str, arguments: dict[str, Any] | None, message: str, write: Write
) -> None:
    write("nets_here.py", NETS)
    with pytest.raises(UnusableError, match=message):
        build(architecture, arguments)


def test_a_script_that_ends_the_program_is_refused(write: Write) -> None:
    """One that reads its command line when it is imported, for instance."""
    write("train_it.py", "import argparse\nargparse.ArgumentParser().parse_args(['--unknown'])")
    with pytest.raises(UnusableError, match="architecture train_it cannot be built: SystemExit: 2"):
        build("train_it")


@pytest.mark.parametrize("source", ["import no_such_helper", "def net():\n    import no_such_helper\n"])
def test_a_missing_import_of_the_architecture_is_named_with_what_to_do(source: str, write: Write) -> None:
    write("nets_here.py", source)
    with pytest.raises(UnusableError, match=r"module no_such_helper is missing.*beside the architecture or into"):
        build("nets_here:net")


def test_a_library_that_is_not_installed_is_no_file_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UnusableError, match=r"architecture timm:resnet18: .*pip install timm") as refused:
        build("timm:resnet18")
    assert "handlers/" not in str(refused.value)


def test_a_module_of_ones_own_may_have_a_librarys_name(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    write("timm.py", NETS.replace("class Large(Small):\n    pass", ""))
    assert classes(build("timm")) == 2


def test_torchvisions_model_has_the_arguments_and_no_weights() -> None:
    torch.manual_seed(0)
    first = build("torchvision:squeezenet1_1", {"num_classes": 3})
    torch.manual_seed(0)
    from torchvision.models import squeezenet1_1

    expected = squeezenet1_1(weights=None, num_classes=3).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    ("name", "near"), [("resnet5", "resnet50"), ("Vgg16", "vgg16"), ("mobilenetv2", "mobilenet_v2")]
)
def test_a_name_that_torchvision_does_not_have_is_refused_with_a_near_one(name: str, near: str) -> None:
    with pytest.raises(UnusableError, match=rf"torchvision has no model {name}; did you mean {near}\?"):
        build(f"torchvision:{name}")


@pytest.mark.slow  # two seconds to import
def test_timms_model_is_built_by_its_name() -> None:
    module = build("timm:test_resnet", {"num_classes": 3}).eval()
    assert module(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    with pytest.raises(UnusableError, match=r"timm has no model resnt18; did you mean resnet18\?"):
        build("timm:resnt18")


RESNET: dict[str, Any] = {
    "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": 3,
}  # fmt: skip


@pytest.mark.slow  # seconds to import
def test_a_class_of_transformers_gives_its_logits_alone() -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    expected = ResNetForImageClassification(ResNetConfig(**RESNET)).eval()
    torch.manual_seed(0)
    module = build("transformers:ResNetForImageClassification", RESNET).eval()
    pixels = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        found = module(pixels)
        assert torch.equal(found, expected(pixels).logits)
    assert module.state_dict().keys() == expected.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNetForPictures", "ResNetConfig", "pipeline", "AutoModelForImageClassification"])
def test_what_is_no_model_class_of_transformers_is_refused(name: str) -> None:
    with pytest.raises(UnusableError, match=f"transformers has no model class {name}"):
        build(f"transformers:{name}")


@pytest.mark.slow
def test_arguments_that_a_configuration_cannot_take_are_refused() -> None:
    with pytest.raises(UnusableError, match=r"cannot be built with arguments {'hidden_sizes': 3}"):
        build("transformers:ResNetForImageClassification", {"hidden_sizes": 3})


@pytest.mark.parametrize("architecture", ["script", "script:Net", "sys:exit"])
def test_an_architecture_that_ends_the_program_is_an_error_like_any_other(architecture: str, write: Write) -> None:
    write("script.py", "import argparse\nargparse.ArgumentParser().parse_args(['--epochs', '3'])\nclass Net: ...")
    with pytest.raises(UnusableError, match=f"^architecture {architecture} cannot be built: SystemExit: "):
        build(architecture)
