from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from classifier.pipeline import Classifier
from classifier.problems import Problem
from msgspec.structs import replace
from PIL import Image

from scripts.archives.loaded import loaded
from scripts.building.golden import objects
from scripts.console import UserError
from scripts.measuring.labelled import Expected, expected, surest, trial_pictures


@pytest.fixture(scope="module")
def few(few_archive: Callable[..., Path]) -> Iterator[Classifier]:
    """The loaded model of three classes: the most of red, green, blue."""
    with loaded(few_archive()) as classifier:
        yield classifier


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Write a picture of one colour."""

    def write(name: str, *colour: int) -> Path:
        path = tmp_path / name
        Image.new("RGB", (60, 60), colour).save(path)
        return path

    return write


def test_an_answer_fits_by_class_and_by_probability() -> None:
    answer = Expected({"a": 0.5, "b": 0.495}, 0.01)
    assert answer.fits("a", 0.505)
    assert answer.fits("b", 0.49)  # a near tie, which rounding decides
    assert not answer.fits("a", 0.52)  # the answer to another picture of the same class
    assert not answer.fits("c", 0.5)
    assert str(answer) == "a 50.0% or b 49.5%"


def test_what_is_expected_is_the_archives_own_answer(few: Classifier, picture: Callable[..., Path]) -> None:
    red = expected(few, picture("red.png", 255, 0, 0).read_bytes())
    assert isinstance(red, Expected)
    (answered,) = few.classify([picture("red.png", 255, 0, 0).read_bytes()], [1])
    assert isinstance(answered, list)
    assert red.classes == {"rose Röschen": answered[0].probability}
    assert answered[0].probability > 0.9
    assert isinstance(expected(few, b"no picture"), Problem)


def test_a_lower_precision_has_a_wider_tolerance(few: Classifier, picture: Callable[..., Path]) -> None:
    tie = picture("grey.png", 140, 100, 119).read_bytes()  # two classes are a hundredth apart
    low = replace(few, identity=replace(few.identity, model=replace(few.identity.model, precision="int8")))
    whole, rough = expected(few, tie), expected(low, tie)
    assert isinstance(whole, Expected)
    assert isinstance(rough, Expected)
    assert whole.tolerance < rough.tolerance
    assert len(whole.classes) < len(rough.classes)


def test_a_threshold_that_no_class_reaches_is_an_answer_too(few: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "classify", lambda *_: [[]])
    nothing = expected(few, b"any")
    assert isinstance(nothing, Expected)
    assert nothing.fits("", 0.0)
    assert not nothing.fits("rose Röschen", 0.9)


def test_the_surest_pictures_of_each_class_come_first(few: Classifier, picture: Callable[..., Path]) -> None:
    pictures = [
        picture("rather-red.png", 160, 90, 90),
        picture("red.png", 255, 0, 0),
        picture("hardly-blue.png", 100, 100, 150),
        picture("redder.png", 240, 20, 20),
    ]
    found = [path.stem for path in surest(few, pictures)]
    assert found == ["red", "hardly-blue", "redder", "rather-red"]


def test_what_a_model_cannot_answer_is_left_out_and_nothing_at_all_is_refused(
    few: Classifier, picture: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    good = picture("red.png", 255, 0, 0)
    assert surest(few, [tmp_path / "notes.txt", good]) == [good]
    with pytest.raises(UserError, match=r"answers none of 1 pictures; .*notes\.txt"):
        surest(few, [tmp_path / "notes.txt"])


def test_by_default_photographs_are_tried_and_else_the_users_own(few: Classifier, flowers: Path) -> None:
    assert set(trial_pictures(few)) == set(objects())
    assert len(trial_pictures(few, flowers / "rose")) == 2
