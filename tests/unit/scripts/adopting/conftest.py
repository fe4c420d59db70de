"""Small things to adopt."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from classifier.recipe import Recipe, read_recipe

from scripts.adopting.adopt import main
from scripts.adopting.adoption import Request

if TYPE_CHECKING:
    from torch import nn

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3))) * 30


class Squashed(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Several(Net):
    def forward(self, x):
        return super().forward(x).sigmoid()


class Faint(Net):  # logits between 0 and 1 on every picture
    def forward(self, x):
        return super().forward(x) / 1000 + 0.5


class Grey(Net):
    def forward(self, x):
        return super().forward(x[:, :1].expand(-1, 3, -1, -1))
"""


class Project:
    """A folder with recipes, architectures and files, in which `make adopt` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipes = folder / "recipes"
        self.handlers = folder / "handlers"
        for made in (self.recipes, self.handlers, folder / "scratch"):
            made.mkdir()
        (self.handlers / "adopted_net.py").write_text(NET)

    def request(self, **others: Any) -> Request:
        """What somebody asks for."""
        scratch = self.folder / "scratch"
        return Request(recipes=self.recipes, handlers=self.handlers, scratch=scratch, **others)

    def adopt(self, source: object, **variables: Any) -> Recipe:
        """Adopt; the one recipe that appeared, or was changed."""
        before = {path: path.read_bytes() for path in self.recipes.iterdir()}
        main(from_=str(source), recipes=self.recipes, handlers=self.handlers, **variables)
        (path,) = [path for path in self.recipes.glob("*.yaml") if before.get(path) != path.read_bytes()]
        return read_recipe(path)

    def raw(self, name: str) -> dict[str, Any]:
        """The fields that stand in a recipe."""
        fields: dict[str, Any] = yaml.safe_load(self.text(name))
        return fields

    def text(self, name: str) -> str:
        """A recipe's text."""
        return (self.recipes / f"{name}.yaml").read_text()

    def net(self, kind: str = "Net", classes: int = 5) -> nn.Module:
        """The architecture of handlers/adopted_net.py, seeded."""
        import importlib

        import torch

        with torch.random.fork_rng():
            torch.manual_seed(0)
            built: nn.Module = getattr(importlib.import_module("adopted_net"), kind)(classes).eval()
        return built

    def saved(self, module: nn.Module, name: str = "flowers.pth") -> Path:
        """Its state_dict in a file."""
        import torch

        torch.save(module.state_dict(), self.folder / name)
        return self.folder / name

    def traced(self, module: nn.Module, shape: tuple[int, ...] = (2, 3, 32, 32), name: str = "net.pt") -> Path:
        """It as a TorchScript program."""
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.jit.trace(module, torch.zeros(shape), check_trace=False).save(self.folder / name)
        return self.folder / name

    def archive(self, files: dict[str, bytes], name: str = "old.mar", **model: str) -> Path:
        """An archive of TorchServe."""
        whole = {"modelName": "old", "handler": "image_classifier", "modelVersion": "1.0", **model}
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": whole}))
            for member, content in files.items():
                archive.writestr(member, content)
        return self.folder / name


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project whose handlers can be imported."""
    made = Project(tmp_path)
    monkeypatch.syspath_prepend(str(made.handlers))
    monkeypatch.delitem(__import__("sys").modules, "adopted_net", raising=False)
    return made


def write_json(path: Path, content: object) -> None:
    """Write a JSON file."""
    path.write_bytes(msgspec.json.encode(content))
