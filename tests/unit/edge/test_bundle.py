"""What programs in other languages need of a model, and which models they cannot run."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from classifier.input import Input
from classifier.pipeline import Classifier
from classifier.recipe import Recipe
from msgspec.structs import replace

from edge.bundle import constants, write_bundle
from scripts.console import UserError


def with_recipe(classifier: Classifier, spec: dict[str, Any], **fields: Any) -> Classifier:
    made = msgspec.convert(spec, Input)
    return replace(classifier, recipe=replace(classifier.recipe, input=made, **fields))


@pytest.mark.parametrize(
    ("spec", "fields", "lacking"),
    [
        ({"fit": "squash"}, {}, "fit: squash"),
        ({"fit": "pad"}, {}, "fit: pad"),
        ({"crop": [192, 224]}, {}, "a rectangular crop"),
        ({"crop_offset": "floor"}, {}, "crop_offset: floor"),
        ({"channels": "bgr"}, {}, "channels: bgr"),
        ({"channels": "grey", "normalization": {}}, {}, "channels: grey"),
        ({"interpolation": "lanczos"}, {}, "interpolation: lanczos"),
        ({"interpolation": "nearest"}, {}, "interpolation: nearest"),
        ({}, {"scores": "sigmoid"}, "scores: sigmoid"),
        ({}, {"scores": "none"}, "scores: none"),
        ({"channels": "bgr", "fit": "pad"}, {"scores": "none"}, "fit: pad, channels: bgr, scores: none"),
    ],
)
def test_what_those_programs_cannot_do_is_refused_with_all_that_they_lack(
    spec: dict[str, Any], fields: dict[str, Any], lacking: str, tiny: Classifier
) -> None:
    asked = with_recipe(tiny, {"crop": 224} | spec, **fields)
    with pytest.raises(UserError, match=f"^tiny: the programs in other languages lack {lacking} of its recipe$"):
        constants(asked)


def test_of_a_refused_model_nothing_is_written(tiny: Classifier, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lack"):
        write_bundle(with_recipe(tiny, {"channels": "bgr"}), tmp_path / "bundle", [])
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_has_the_model_its_facts_and_golden_vectors(tiny: Classifier, golden: Path, tmp_path: Path) -> None:
    write_bundle(tiny, tmp_path / "new" / "bundle", [golden / "chelsea.png"])
    found = {path.relative_to(tmp_path / "new" / "bundle").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "model.pt", "bundle.json", "golden/chelsea.png", "golden/chelsea.npy", "golden/chelsea.json",
    }  # fmt: skip


def test_a_programs_own_layout_is_refused(tiny: Classifier) -> None:
    fields = {"name": "tiny", "program": "torchscript:tiny-0123abcd.pt", "labels": ["a"], "input": {"layout": "nhwc"}}
    with pytest.raises(UserError, match="lack layout: nhwc"):
        constants(replace(tiny, recipe=msgspec.convert(fields, Recipe)))


@pytest.mark.parametrize(
    "normalization",
    ["imagenet", "half", {"mean": [123.5, 116.25, 103.5], "std": 57.5, "scale": 1}, {"mean": 0.5, "scale": 0.01}],
)
def test_the_constants_are_for_levels_of_0_to_1_whatever_the_recipe_scales_by(
    normalization: object, tiny: Classifier
) -> None:
    asked = with_recipe(tiny, {"crop": 32, "normalization": normalization})
    found: Any = constants(asked)["input"]
    spec = asked.recipe.input
    levels = np.arange(256)[:, None]
    theirs = (levels / 255 - np.array(found["mean"])) / np.array(found["std"])
    ours = (levels * spec.statistics.scale - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-9)
    assert (found["resize"], found["crop"], found["interpolation"]) == (36, 32, "bilinear")
    assert json.loads(msgspec.json.encode(constants(asked)))["labels"][0] == {"class_id": "t00", "class_name": "circle"}
