"""A workshop: recipes of one's own with what they name, built into archives."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from classifier.architecture import build as architecture
from classifier.rank import Prediction
from torch import Tensor, nn

from scripts.building.build import build
from scripts.building.download import file_digest
from scripts.building.options import Options

LABELS = ["daisy", "rose", "tulip"]


class Workshop:
    """A folder of recipes with what they name, and modules that can be imported."""

    def __init__(self, folder: Path, golden: Path) -> None:
        self.folder, self.golden = folder, golden

    def weights(self, module: nn.Module) -> str:
        """Save the module's state_dict beside the recipe; returns how the recipe names it."""
        torch.save(module.state_dict(), self.folder / "flowers.pth")
        return self.place("flowers.pth")

    def place(self, name: str) -> str:
        """A file beside the recipe, as the recipe names it."""
        return f"{name}#sha256={file_digest(self.folder / name)}"

    def build(self, runtime: str = "eager", precision: str = "float32", **recipe: Any) -> Path:
        """Build an archive of a recipe of the few lines that suffice, and these."""
        path = self.folder / "flowers.yaml"
        path.write_text(yaml.safe_dump({"name": "flowers", "labels": LABELS} | recipe))
        options = Options(
            recipe=path,
            runtime=runtime,
            precision=precision,
            golden=self.golden,
            store=self.folder / "store",
            cache=self.folder / "cache",
        )
        return build(options)[0]


@pytest.fixture
def workshop(tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    folder = tmp_path / "handlers"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield Workshop(folder, golden)
    for name in set(sys.modules) - before:
        if str(folder) in str(sys.modules[name].__spec__):
            del sys.modules[name]


def shares(found: list[Prediction]) -> dict[str, float]:
    return {item.class_name: item.probability for item in found}


def of_the_source(module: nn.Module, floats: Tensor) -> dict[str, float]:
    """What the library's own model answers to the library's own input."""
    with torch.inference_mode():
        probabilities = module.eval()(floats[None]).softmax(1)[0]
    return dict(zip(LABELS, probabilities.tolist(), strict=True))


def seeded(name: str, arguments: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    module = architecture(name, arguments)
    for part in module.modules():  # far from their initial values, which some layers have in common
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.normal_(std=0.1)
    return module
