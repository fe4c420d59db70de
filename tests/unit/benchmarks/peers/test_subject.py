"""What the other servers are given to serve, and which models they cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from classifier.input import Input, Normalization
from msgspec.structs import replace

from benchmarks.peers.subject import UnlikePeersError, preparation, refuse_unlike, subject_of
from scripts.archives.store import find_archive, read_archive_recipe


@pytest.mark.slow
def test_a_subject_is_the_archives_own_files(tiny_archive: Callable[..., Path]) -> None:
    with subject_of(find_archive(str(tiny_archive()), Path())) as file:
        content = json.loads(file.read_text())
        assert content["architecture"] == "tiny_net"
        assert (file.parent / "tiny_net.py").is_file()
        assert (file.parent / "classifier/allocator.py").is_file()
        assert Path(content["weights"]).is_file()
        assert (content["batch_size"], len(content["labels"])) == (4, 10)
        assert content["labels"][4] == "t04 star"
    assert not file.exists()


def test_the_arguments_of_torchvisions_transforms() -> None:
    assert preparation(Input(resize=256, crop=224)) == {
        "mode": "RGB",
        "resize": 256,
        "interpolation": "bilinear",
        "crop": [224, 224],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    squashed = preparation(Input(crop=[96, 128], fit="squash", channels="grey", normalization="half"))
    assert (squashed["resize"], squashed["crop"]) == ([96, 128], [96, 128])
    assert (squashed["mode"], squashed["mean"], squashed["std"]) == ("L", [0.5], [0.5])


def test_a_recipes_own_scale_comes_to_the_same() -> None:
    spec = Input(normalization=Normalization(mean=[10, 20, 30], std=[50, 60, 70], scale=1))
    found, levels = preparation(spec), np.array([0.0, 100.0, 255.0])
    theirs = (levels / 255 - np.array(found["mean"])) / np.array(found["std"])
    assert theirs == pytest.approx((levels - [10, 20, 30]) / [50, 60, 70])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_input", "of_recipe", "why"),
    [
        ({"channels": "bgr"}, {}, "torchvision's transforms"),
        ({"fit": "pad", "resize": None}, {}, "torchvision's transforms"),
        ({"crop_offset": "floor"}, {}, "torchvision's transforms"),
        ({}, {"scores": "sigmoid"}, "its recipe says sigmoid"),
    ],
)
def test_what_they_cannot_serve_is_said(
    tiny_archive: Callable[..., Path], of_input: dict[str, object], of_recipe: dict[str, object], why: str
) -> None:
    archive = find_archive(str(tiny_archive()), Path())
    recipe = read_archive_recipe(archive.path)
    unlike = replace(recipe, input=replace(recipe.input, **of_input), **of_recipe)
    refuse_unlike(archive, recipe)
    with pytest.raises(UnlikePeersError, match=why):
        refuse_unlike(archive, unlike)


@pytest.mark.slow
def test_they_serve_eager_archives_only(tiny_archive: Callable[..., Path]) -> None:
    archive = find_archive(str(tiny_archive("torchscript")), Path())
    with pytest.raises(UnlikePeersError, match="no such archive of it"):
        refuse_unlike(archive, read_archive_recipe(archive.path))
