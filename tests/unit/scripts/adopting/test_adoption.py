from pathlib import Path

import pytest
from classifier.input import Input
from classifier.labels import Label

from scripts.adopting.adoption import (
    Adoption,
    inline,
    input_fields,
    input_of,
    labels_in,
    labels_of,
    model_name,
    place,
    whole_input,
)
from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import Project


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("resnet50", "resnet50"),
        ("resnet18.a1_in1k", "resnet18_a1_in1k"),
        ("3-Blumen v2", "model_3_Blumen_v2"),
        ("Müllsortierung", "Mullsortierung"),
        ("花", "model"),
        ("", "model"),
        ("_a_", "a"),
        ("a" * 99, "a" * 64),
    ],
)
def test_any_text_becomes_a_name(text: str, name: str) -> None:
    assert model_name(text) == name


def test_an_input_says_only_what_differs() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert input_fields(input_of((224, 224), mean, std, resize=256)) == {}
    assert input_fields(input_of((224, 224), mean, std, crop_percentage=0.875)) == {}
    assert input_fields(input_of((224, 224), [0.5] * 3, [0.5] * 3)) == {"normalization": "half"}
    assert input_fields(input_of((224, 192), 0, 1, 1.0, fit="squash", crop_percentage=1.0)) == {
        "crop": [224, 192], "fit": "squash", "normalization": {"scale": 1.0},
    }  # fmt: skip
    assert input_fields(input_of((32, 32), [0.1, 0.2, 0.3], 0.5, resize=40, interpolation="bicubic")) == {
        "crop": 32, "resize": 40, "interpolation": "bicubic", "normalization": {"mean": [0.1, 0.2, 0.3], "std": 0.5},
    }  # fmt: skip
    with pytest.raises(ValueError, match="Invalid enum value 'hamming'"):
        input_of((32, 32), 0, 1, interpolation="hamming")


def test_an_assumed_input_says_all_that_matters() -> None:
    assert whole_input(Input()) == {
        "crop": 224, "interpolation": "bilinear", "normalization": "imagenet", "resize": 256,
    }  # fmt: skip
    assert "resize" not in whole_input(Input(crop_percentage=0.9))


def test_assumptions_stand_above_their_lines() -> None:
    adoption = Adoption(
        name="flowers", source="flowers.pth", fields={"architecture": "net", "weights": "a-01234567.pth"}
    )
    adoption.assume("scores", "none", "they sum to one")
    adoption.assume("input.crop", 64, "the smallest")
    adoption.input["fit"] = "squash"
    adoption.assume("labels", None, "numbers")
    assert adoption.text(["a", "ü"]) == (
        "# flowers: adopted from flowers.pth by `make adopt`. recipes/README.md explains every field.\n"
        "name: flowers\narchitecture: net\nweights: a-01234567.pth\n# Assumed: numbers\nlabels: [a, ü]\n"
        "\ninput:\n  # Assumed: the smallest\n  crop: 64\n  fit: squash\n"
        "\n# Assumed: they sum to one\nscores: none\n"
    )


def test_another_recipe_is_followed_except_in_what_is_certain(project: Project) -> None:
    (project.recipes / "other.yaml").write_text(
        "name: other\narchitecture: net\nweights: a-01234567.pth\nlabels: [a]\nscores: sigmoid\nthreshold: 0.3\n"
        "input: {crop: 64, resize: 70, normalization: half}\nserving: {workers: 2}\n"
    )
    adoption = Adoption(name="flowers", source="x", known={"crop": 32, "layout": "nhwc"})
    adoption.assume("input.normalization", "imagenet", "the usual")
    adoption.assume("scores", "none", "they sum to one")
    adoption.follow(project.recipes / "other.yaml")
    assert adoption.input == {"crop": 32, "normalization": "half", "layout": "nhwc"}
    assert adoption.fields == {"scores": "sigmoid", "threshold": 0.3, "serving": {"workers": 2}}
    assert adoption.assumed == {}
    assert adoption.taken[-1] == "crop, layout from the model itself, not from other.yaml"


def test_a_recipe_that_cannot_be_followed_is_named(project: Project) -> None:
    with pytest.raises(UserError, match=r"LIKE=other: there is no recipe .*other\.yaml; there are: none"):
        Adoption(name="flowers", source="x").follow(project.recipes / "other.yaml")


def test_files_of_the_project_have_relative_places(project: Project, tmp_path: Path) -> None:
    adoption = Adoption(name="flowers", source="x")
    for path, written in ((project.folder / "a.pth", "../a.pth"), (project.recipes / "a.pth", "a.pth")):
        path.write_bytes(b"a")
        found = place(path, adoption, project.request(), {"entry": "a&b", "prefix": ""})
        assert found.startswith(f"{written}#sha256=ca978112")
        assert found.endswith("&entry=a%26b&prefix=")
    assert adoption.taken == []


def test_a_file_elsewhere_keeps_its_whole_path_and_that_is_said(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("elsewhere") / "a.pth"
    path.write_bytes(b"a")
    adoption = Adoption(name="flowers", source="x")
    assert place(path, adoption, project.request()).startswith(f"{path}#sha256=")
    assert "is outside the project" in adoption.taken[0]
    other = path.with_name("a#b.pth")
    other.write_bytes(b"a")
    with pytest.raises(UserError, match="rename the file"):
        place(other, adoption, project.request())


def test_few_labels_without_ids_stand_in_the_recipe() -> None:
    assert inline([Label("0", "a"), Label("1", "b")]) == ["a", "b"]
    assert inline([Label("n1", "a")]) is None
    assert inline(labels_of(["a", "a"])) == ["a", "a"]
    assert inline([Label(str(index), str(index)) for index in range(21)]) is None


def test_fields_that_contradict_each_other_are_refused() -> None:
    adoption = Adoption(name="flowers", source="x.pth", fields={"architecture": "net"})
    with pytest.raises(UserError, match=r"x\.pth cannot be said in a recipe: weights are missing"):
        adoption.recipe(["a"])


def test_labels_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the id 'n1' is there already"):
        labels_of([("n1", "a"), ("n1", "b")])
    (tmp_path / "labels.json").write_text('{"0": "a", "2": "b"}')
    with pytest.raises(UserError, match=r"labels\.json: no class has the index 1"):
        labels_in(tmp_path / "labels.json")
