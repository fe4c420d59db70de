"""Cards of tiny archives: what the tests of the page's parts have in common."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scripts.archives.store import sbom_of
from scripts.building.build import build
from scripts.building.options import Options
from scripts.card import speed

HOSTILE = "<script>alert(1)</script>"
LABELS = [
    {"class_id": "c1", "class_name": "猫 кошка"},
    {"class_id": "c2", "class_name": HOSTILE},
    {"class_id": "c3", "class_name": '" onload="alert(2)'},
]
MODULE = """\
from torch import nn


class ThreeNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(3 * 4 * 4, 3))
"""
RECIPE = """\
name: three
architecture: three_net
weights: https://weights.invalid/three-0123abcd.pth
labels: labels.json
input: {resize: 36, crop: 32, max_pixels: 4000000}
serving: {batch_size: 4, max_batch_delay_ms: 1, workers: 1, threads: 1, max_instances: 5}
archives:
  - {runtime: torchscript, version: "2.0", tolerance: {max_abs_logit: 1.0e-5}}
"""


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn is one call or two: a tiny model's speed is of no interest."""
    monkeypatch.setattr(speed, "_TURN_S", 1e-3)


@pytest.fixture(scope="session")
def pair(tiny_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of tiny in eager and TorchScript, with their bills of materials. Do not change it: copy it first."""
    store = tmp_path_factory.mktemp("pair")
    for runtime in ("eager", "torchscript"):
        path = tiny_archive(runtime)
        shutil.copy(path, store)
        shutil.copy(sbom_of(path), store)
    return store


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory, golden: Path) -> Path:
    """An archive of three hostile classes, alone in its store: no reference, no signature, no bill of materials."""
    folder = tmp_path_factory.mktemp("three")
    (folder / "labels.json").write_text(json.dumps(LABELS))
    (folder / "three.yaml").write_text(RECIPE)
    (folder / "three_net.py").write_text(MODULE)
    torch.save(
        {"2.weight": torch.linspace(-1, 1, 3 * 48).sin().reshape(3, 48), "2.bias": torch.zeros(3)}, folder / "three.pth"
    )
    options = Options(
        recipe=folder / "three.yaml",
        runtime="torchscript",
        weights=str(folder / "three.pth"),
        golden=golden,
        store=folder / "store",
        cache=folder,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        path, _ = build(options)
    sbom_of(path).unlink()
    return path
