"""Which models TorchServe's own handler can serve, and what the benchmark says of the others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from classifier.digests import members
from classifier.recipe import read_recipe
from msgspec.structs import replace

from benchmarks.stock import NoCounterpartError, _refuse_unlike, build_stock
from scripts.archives.loaded import unpacked
from scripts.archives.store import find_archive
from scripts.building.build import build
from scripts.building.options import Options
from tests.conftest import FEW_RECIPE, THIRD_MODEL, TINY_RECIPE


@pytest.mark.parametrize(
    ("size", "classes", "module", "why"),
    [
        (48, 10, TINY_RECIPE, "pictures of 224 x 224, and this one takes 48 x 48"),
        (224, 3, TINY_RECIPE, "five classes, and this model has 3"),
        (224, 10, TINY_RECIPE.with_name("none.py"), "one file of its own"),
    ],
)
def test_what_it_cannot_serve_is_said(size: int, classes: int, module: Path, why: str) -> None:
    recipe = read_recipe(FEW_RECIPE)
    recipe = replace(recipe, input=replace(recipe.input, resize=256, crop=size))
    with pytest.raises(NoCounterpartError, match=why):
        _refuse_unlike(recipe, classes, module)


def test_a_model_of_three_classes_has_no_counterpart(few_archive: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(NoCounterpartError):
        build_stock(find_archive(str(few_archive()), tmp_path), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_counterpart_has_the_archives_own_weights_and_labels(options: Options, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    text = TINY_RECIPE.read_text().replace("crop: 32", "crop: 224").replace("resize: 36", "resize: 256")
    (tmp_path / "recipes/tiny.yaml").write_text(text)
    (tmp_path / "recipes/labels.json").write_bytes((THIRD_MODEL / "labels.json").read_bytes())
    path, _ = build(replace(options, recipe=tmp_path / "recipes/tiny.yaml"))
    eager = find_archive(str(path), tmp_path)
    (tmp_path / "stock").mkdir()
    stock = build_stock(eager, tmp_path / "stock")
    assert stock.identity.weights_sha256 == eager.identity.weights_sha256
    inside = {name: stream.read() for name, stream in members(stock.path)}
    assert json.loads(inside["index_to_name.json"])["4"] == ["t04", "star"]
    (tmp_path / "model.pth").write_bytes(inside["model.pth"])
    theirs = torch.load(tmp_path / "model.pth", weights_only=True)
    with unpacked(eager.path) as folder:
        ours = torch.load(folder / eager.identity.serialized_file, weights_only=True)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
