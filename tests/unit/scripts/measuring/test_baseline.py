import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from classifier.baseline import read_baseline
from classifier.labels import read_labels

from scripts.console import UserError
from scripts.measuring.baseline import baseline_of, main
from tests.conftest import TINY_RECIPE


def test_frequent_classes_have_bins_of_their_own_and_probabilities_as_many_pictures_each() -> None:
    labels = ["a"] * 500 + ["b"] * 300 + [f"rare {number}" for number in range(200)]
    found = baseline_of(labels, np.linspace(0.001, 1, 1000).tolist())
    assert found.classes == pytest.approx({"a": 0.5, "b": 0.3, "other": 0.2})
    assert found.bounds == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], abs=0.002)
    assert found.confidence == pytest.approx([0.1] * 10, abs=0.002)
    assert found.pictures == 1000


def test_a_model_that_is_always_sure_has_one_bin_of_probability() -> None:
    found = baseline_of(["a"] * 200, [1.0] * 200)
    assert (found.bounds, found.confidence) == ([1.0], [1.0])
    assert found.classes == {"a": 1.0, "other": 0.0}


def test_its_own_pictures_fill_the_bins_as_the_baseline_says() -> None:
    random = np.random.default_rng(0)
    confidences = random.beta(8, 2, 5000).tolist()
    found = baseline_of(["a"] * 5000, confidences)
    bins = [found.confidence_bin(value) for value in confidences]
    for bound, share in zip(found.bounds, found.confidence, strict=True):
        assert bins.count(f"{bound:.4g}") / 5000 == pytest.approx(share)


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    shutil.copy(TINY_RECIPE, folder)
    return folder


def pictures(folder: Path, cat: bytes, number: int) -> Path:
    (folder / "data" / "inside").mkdir(parents=True)
    for index in range(number):
        (folder / "data" / "inside" / f"{index}.png").write_bytes(cat)
    return folder / "data"


def test_it_is_written_beside_the_recipe_and_says_what_to_do(
    tmp_path: Path,
    recipes: Path,
    tiny_archive: Callable[..., Path],
    tiny_folder: Path,
    cat: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = pictures(tmp_path, cat, 120)
    (data / "broken.jpg").write_bytes(b"no picture")
    archive = tiny_archive()
    main(data, archive=archive.name, recipes=recipes, store=archive.parent)
    found = read_baseline(recipes / "tiny.baseline.json", read_labels(tiny_folder / "labels.json"))
    assert found.pictures == 120
    assert max(found.classes.values()) == 1
    said = capsys.readouterr()
    assert "write `baseline: tiny.baseline.json` into" in said.out + said.err
    assert "121 pictures are few" in said.out + said.err
    assert "1 of 121 pictures could not be classified" in said.out + said.err


def test_too_few_pictures_are_refused(
    tmp_path: Path, recipes: Path, tiny_archive: Callable[..., Path], cat: bytes
) -> None:
    archive = tiny_archive()
    with pytest.raises(UserError, match="20 pictures are too few to compare with; take 1,000 or more"):
        main(pictures(tmp_path, cat, 20), archive=archive.name, recipes=recipes, store=archive.parent)
