"""What people have, built into archives: architectures of libraries, and of modules of one's own with helpers."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from classifier import ImageClassifier, load
from classifier.explain import explain, overlay
from PIL import Image

from scripts.archives.store import read_archive_identity, sbom_of
from scripts.console import UserError
from scripts.shipping.image import requirements
from tests.unit.conftest import contents
from tests.unit.scripts.building.conftest import Workshop, of_the_source, seeded, shares

pytestmark = pytest.mark.slow


# ---- architectures of libraries


def test_a_model_of_torchvision_answers_as_torchvision_does(workshop: Workshop, cat: bytes, golden: Path) -> None:
    from torchvision.transforms._presets import ImageClassification

    module = seeded("torchvision:squeezenet1_1", {"num_classes": 3})
    path = workshop.build(
        architecture="torchvision:squeezenet1_1", arguments={"num_classes": 3}, weights=workshop.weights(module),
        input={"crop": 64},
    )  # fmt: skip
    with Image.open(golden / "chelsea.png") as picture:
        floats = ImageClassification(crop_size=64, resize_size=73)(picture.convert("RGB"))
    assert shares(load(path)(cat)) == pytest.approx(of_the_source(module, floats), abs=2e-3)
    identity = read_archive_identity(path)
    assert identity.requirements == [f"torchvision=={version('torchvision').partition('+')[0]}"]


def test_a_model_of_timm_answers_as_timm_does_and_from_its_recipe_too(
    workshop: Workshop, cat: bytes, golden: Path
) -> None:
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    module = seeded("timm:test_resnet", {"num_classes": 3})
    config = resolve_data_config({}, model=module)
    spec = {
        "crop": config["input_size"][1], "crop_percentage": config["crop_pct"],
        "interpolation": config["interpolation"],
        "normalization": {"mean": [*config["mean"]], "std": [*config["std"]]},
    }  # fmt: skip
    weights = workshop.weights(module)
    path = workshop.build(architecture="timm:test_resnet", arguments={"num_classes": 3}, weights=weights, input=spec)
    with Image.open(golden / "chelsea.png") as picture:
        floats = create_transform(**config)(picture.convert("RGB"))
    expected = of_the_source(module, floats)
    assert shares(load(path)(cat)) == pytest.approx(expected, abs=2e-3)
    from_recipe = load(workshop.folder / "flowers.yaml", weights=workshop.folder / "flowers.pth")
    assert shares(from_recipe(cat)) == pytest.approx(expected, abs=2e-3)
    assert read_archive_identity(path).requirements == [f"timm=={version('timm')}"]


TRANSFORMERS: dict[str, dict[str, Any]] = {
    "transformers:ResNetForImageClassification": {
        "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": 3,
    },
    "transformers:ViTForImageClassification": {
        "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "num_labels": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_model_of_transformers_answers_as_transformers_does(
    name: str, workshop: Workshop, cat: bytes, golden: Path
) -> None:
    module = seeded(name, TRANSFORMERS[name])
    path = workshop.build(
        architecture=name, arguments=TRANSFORMERS[name], weights=workshop.weights(module),
        input={"crop": 32, "fit": "squash", "normalization": "half"},
    )  # fmt: skip
    with Image.open(golden / "chelsea.png") as picture:
        levels = np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    floats = torch.from_numpy(levels.copy()).permute(2, 0, 1) / 127.5 - 1
    assert shares(load(path)(cat)) == pytest.approx(of_the_source(module, floats), abs=1e-5)


# ---- modules of one's own


FLOWERS = """
import einops_of_mine
import flowers_layers.head
import psutil
from torch import nn

class Other(nn.Module):
    pass

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        from flowers_late import channels
        self.body = nn.Conv2d(3, channels, 3, stride=4)
        self.head = flowers_layers.head.Head(channels, classes)

    def forward(self, pixels):
        return {"logits": self.head(einops_of_mine.mean(self.body(pixels))), "body": pixels}
"""
HEAD = "from torch import nn\nfrom . import numbers\nclass Head(nn.Linear):\n    pass\n"


@pytest.fixture
def with_helpers(workshop: Workshop) -> dict[str, Any]:
    """A recipe of an architecture with helpers, one of them a package, and a requirement."""
    files = {
        "flowers_net.py": FLOWERS,
        "einops_of_mine.py": "def mean(pixels):\n    return pixels.relu().mean((2, 3))\n",
        "flowers_late.py": "channels = 8\n",
        "flowers_layers/__init__.py": "",
        "flowers_layers/head.py": HEAD,
        "flowers_layers/numbers.py": "",
        "flowers_layers/notes.txt": "lies in the package",
        "flowers_stranger.py": "",
    }
    for name, content in files.items():
        (workshop.folder / name).parent.mkdir(exist_ok=True)
        (workshop.folder / name).write_text(content)
    module = seeded("flowers_net:Net", {"classes": 3})
    return {
        "architecture": "flowers_net:Net", "arguments": {"classes": 3}, "weights": workshop.weights(module),
        "input": {"crop": 32}, "requirements": [f"psutil=={version('psutil')}"],
    }  # fmt: skip


def test_helpers_and_requirements_are_in_everything_that_lists_them(
    with_helpers: dict[str, Any], workshop: Workshop, cat: bytes
) -> None:
    path = workshop.build(**with_helpers)
    own = {name for name in contents(path) if "flowers" in name or "einops" in name}
    assert own == {
        "flowers.pth", "flowers_net.py", "einops_of_mine.py", "flowers_late.py", "flowers_layers/__init__.py",
        "flowers_layers/head.py", "flowers_layers/numbers.py", "flowers_layers/notes.txt",
    }  # fmt: skip
    wanted = f"psutil=={version('psutil')}"
    assert read_archive_identity(path).requirements == [wanted]
    assert wanted in requirements([path])
    bill = json.loads(sbom_of(path).read_text())
    found = {item["name"]: item["type"] for item in bill["components"]}
    assert {name: found.get(name) for name in own} == dict.fromkeys(own, "file")
    assert found["psutil"] == "library"
    model = load(path)
    assert len(model(cat)) == 3
    assert explain(model.core, cat, "1", "grad_cam").heatmap.shape == (8, 8)


def test_a_graph_of_it_needs_neither_helpers_nor_requirements(with_helpers: dict[str, Any], workshop: Workshop) -> None:
    path = workshop.build("onnxruntime", **with_helpers)
    assert {name for name in contents(path) if "flowers" in name or "einops" in name} == {"flowers.onnx"}
    assert read_archive_identity(path).requirements == []


def test_what_is_not_declared_is_refused_with_the_line_to_add(with_helpers: dict[str, Any], workshop: Workshop) -> None:
    line = rf"add to the recipe: requirements: \[psutil=={version('psutil')}\]"
    with pytest.raises(UserError, match=line):
        workshop.build(**with_helpers | {"requirements": []})
    assert list((workshop.folder / "store").iterdir()) == []


def test_an_architecture_in_a_package_is_packed_with_it(workshop: Workshop, cat: bytes) -> None:
    (workshop.folder / "flowers_nets").mkdir()
    (workshop.folder / "flowers_nets" / "__init__.py").touch()
    source = "from torch import nn\ndef small():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3))\n"
    (workshop.folder / "flowers_nets" / "small.py").write_text(source)
    module = seeded("flowers_nets.small:small", {})
    path = workshop.build(architecture="flowers_nets.small:small", weights=workshop.weights(module), input={"crop": 8})
    assert {"flowers_nets/__init__.py", "flowers_nets/small.py"} <= contents(path).keys()
    assert len(load(path)(cat)) == 3


# ---- unusual inputs and scores


@pytest.mark.parametrize(
    "runtime",
    ["eager", "onnxruntime", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("openvino", "torchscript"))],
)
def test_a_grey_rectangle_is_served_and_explained(runtime: str, workshop: Workshop, cat: bytes) -> None:
    (workshop.folder / "flowers_grey.py").write_text(
        "from torch import nn\n\ndef net():\n"
        "    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),"
        " nn.Linear(32, 3))\n"
    )
    module = seeded("flowers_grey:net", {})
    spec = {"crop": [28, 60], "resize": 64, "channels": "grey", "normalization": {"mean": 0.1307, "std": 0.3081}}
    path = workshop.build(
        runtime, architecture="flowers_grey:net", weights=workshop.weights(module), input=spec,
        scores="sigmoid", threshold=0.01,
    )  # fmt: skip
    model = load(path)
    assert len(model(cat)) == 3
    explained(model, cat, "occlusion")
    if runtime == "eager":
        explained(model, cat, "grad_cam")
        explained(model, cat, "integrated_gradients")


def explained(model: ImageClassifier, picture: bytes, method: str) -> None:
    """The heat map has the parts of what the model sees, one of them the strongest."""
    found = explain(model.core, picture, "1", method)
    rows, columns = (13, 29) if method == "grad_cam" else (7, 7)
    assert (found.prediction.class_name, found.pixels.shape) == ("rose", (28, 60, 3))
    assert found.heatmap.shape == (rows, columns)
    assert found.heatmap.max() in (0, 1)
    left, top, right, bottom = found.region
    assert (right - left) / (bottom - top) == pytest.approx(60 / 28, abs=0.01)
    assert overlay(found).size == (60, 28)
