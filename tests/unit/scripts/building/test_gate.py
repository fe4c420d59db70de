import platform
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from classifier.recipe import Recipe, Scores, Tolerance, read_recipe
from msgspec.structs import replace
from numpy.typing import NDArray

from scripts.building.gate import Report, check_outputs, compare
from scripts.building.golden import golden_pixels, golden_set
from scripts.console import UserError
from tests.conftest import TINY_RECIPE

ANY = Tolerance(max_abs_logit=100, top1_agreement=0, top5_agreement=0)
REFERENCE = np.array([[6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]], np.float32)


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(TINY_RECIPE)


def exported(*changes: tuple[int, list[float]]) -> NDArray[np.float32]:
    """The reference with some rows replaced."""
    logits = REFERENCE.copy()
    for row, values in changes:
        logits[row] = values
    return logits


@pytest.mark.parametrize(
    ("logits", "max_abs_logit", "top1", "top5"),
    [
        (exported(), 0.0, 1.0, 1.0),
        (exported((0, [6, 5, 4, 3, 2, 1.25])), 0.25, 1.0, 1.0),  # no rank changes
        (exported((0, [6, 5, 4, 3, 2, -1.5])), 2.5, 1.0, 1.0),  # the larger side may be below
        (exported((0, [6, 5, 4, 3, 1.5, 2])), 1.0, 1.0, 0.75),  # the fifth and the sixth change places
        (exported((1, [1, 3, 2, 4, 5, 6])), 1.0, 1.0, 0.75),  # two of the five change places
        (exported((0, [5.5, 6, 4, 3, 2, 1]), (1, [1, 2, 3, 4, 6, 5])), 1.0, 0.5, 0.5),  # the first and the second do
    ],
)
def test_the_figures_of_a_comparison(
    logits: NDArray[np.float32], max_abs_logit: float, top1: float, top5: float
) -> None:
    report = compare(REFERENCE, logits, ANY, "abc")
    assert (report.max_abs_logit, report.top1_agreement, report.top5_agreement) == (max_abs_logit, top1, top5)
    assert (report.pictures, report.weights_sha256, report.tolerance) == (4, "abc", ANY)


def test_a_model_of_fewer_than_five_classes_is_compared_on_all_of_them() -> None:
    report = compare(np.array([[1, 2]], np.float32), np.array([[2, 1]], np.float32), ANY, "")
    assert (report.top1_agreement, report.top5_agreement) == (0.0, 0.0)


def test_a_report_carries_the_versions_of_the_tools_that_made_it() -> None:
    tools = compare(REFERENCE, REFERENCE, ANY, "").tools
    assert tools["python"] == platform.python_version()
    assert tools["torch"] == version("torch")
    assert tools["torch-model-archiver"] == version("torch-model-archiver")


@pytest.mark.parametrize(
    ("limits", "failures"),
    [
        ((0.5, 0.75, 0.5), []),  # what is exactly at the limit is within it
        ((0.25, 0.75, 0.5), ["max |Δlogit| is 0.5, allowed is 0.25"]),
        ((0.5, 1.0, 0.5), ["top-1 agreement is 0.75, allowed is 1"]),
        (
            (1e-4, 0.8, 0.625),
            [
                "max |Δlogit| is 0.5, allowed is 0.0001",
                "top-1 agreement is 0.75, allowed is 0.8",
                "top-5 agreement is 0.5, allowed is 0.625",
            ],
        ),
    ],
)
def test_what_is_outside_the_tolerance_is_said_in_words(
    limits: tuple[float, float, float], failures: list[str]
) -> None:
    tolerance = Tolerance(max_abs_logit=limits[0], top1_agreement=limits[1], top5_agreement=limits[2])
    report = Report(
        pictures=4,
        calibration_pictures=None,
        max_abs_logit=0.5,
        top1_agreement=0.75,
        top5_agreement=0.5,
        tolerance=tolerance,
        weights_sha256="",
        tools={},
    )
    assert report.failures() == failures


@pytest.mark.parametrize("pictures", [None, 210])
def test_a_report_says_on_how_many_pictures_int8_chose_its_scales(pictures: int | None) -> None:
    assert compare(REFERENCE, REFERENCE, ANY, "", pictures).calibration_pictures == pictures


def test_logits_that_are_no_numbers_are_a_failure_however_wide_the_tolerance() -> None:
    assert compare(REFERENCE, exported((0, [float("nan")] * 6)), ANY, "").failures() != []


def test_the_golden_set_as_the_model_sees_it(golden: Path, recipe: Recipe) -> None:
    pixels = golden_pixels(golden_set(golden), recipe)
    assert (pixels.shape, pixels.dtype) == ((2, 32, 32, 3), np.dtype(np.uint8))
    assert not np.array_equal(pixels[0], pixels[1])


def test_the_default_golden_set_suits_every_recipe_whatever_its_limit_of_pixels(recipe: Recipe) -> None:
    modest = replace(recipe, input=replace(recipe.input, max_pixels=1_000_000))
    pictures = golden_set()
    assert len(golden_pixels(pictures, modest)) == len(pictures)


def test_a_picture_that_cannot_be_used_is_named(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'notes.txt'}: none of JPEG")):
        golden_pixels(golden_set(tmp_path), recipe)


LOGIT_ROWS = np.array([[-2.0, 0.5, 1.5], [3.0, 0.0, -1.0]], np.float32)
PROBABILITY_ROWS = np.array([[0.25, 0.5, 0.25], [0.125, 0.75, 0.125]], np.float32)
SHARE_ROWS = np.array([[0.25, 0.5, 0.75], [0.0, 1.0, 1.0005]], np.float32)  # each for itself, rounded in half precision


def scored(recipe: Recipe, scores: Scores) -> Recipe:
    return replace(recipe, scores=scores)


@pytest.mark.parametrize(
    ("outputs", "scores"),
    [
        (LOGIT_ROWS, "softmax"),
        (LOGIT_ROWS, "sigmoid"),
        (LOGIT_ROWS[:, :1], "sigmoid"),
        (PROBABILITY_ROWS, "none"),
        (SHARE_ROWS, "none"),
        (SHARE_ROWS[:, :1], "none"),
        (SHARE_ROWS, "softmax"),  # between 0 and 1, but they do not sum to one
    ],
)
def test_outputs_that_fit_the_recipe_pass_without_a_word(
    outputs: NDArray[np.float32], scores: Scores, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    check_outputs(outputs, outputs.shape[1], scored(recipe, scores))
    assert capsys.readouterr().err == ""


def test_outputs_and_labels_must_be_equally_many(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="tiny: 1000 labels for 3 logits"):
        check_outputs(LOGIT_ROWS, 1000, recipe)


def test_one_logit_under_softmax_is_refused_because_everything_would_be_certain(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="one logit, of which softmax makes 100 %; write `scores: sigmoid`"):
        check_outputs(LOGIT_ROWS[:, :1], 1, recipe)


@pytest.mark.parametrize(
    ("outputs", "scores"), [(PROBABILITY_ROWS, "softmax"), (PROBABILITY_ROWS, "sigmoid"), (SHARE_ROWS, "sigmoid")]
)
def test_probabilities_that_would_be_made_into_probabilities_again_are_warned_of(
    outputs: NDArray[np.float32], scores: Scores, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    check_outputs(outputs, 3, scored(recipe, scores))
    said = capsys.readouterr().err
    assert "probabilities already" in said
    assert "`scores: none`" in said


@pytest.mark.parametrize("outputs", [LOGIT_ROWS, np.array([[0.0, 1.01]], np.float32)])
def test_what_is_no_probability_is_not_passed_on_as_one(outputs: NDArray[np.float32], recipe: Recipe) -> None:
    with pytest.raises(UserError, match="not between 0 and 1; `scores: none` is for probabilities"):
        check_outputs(outputs, outputs.shape[1], scored(recipe, "none"))


@pytest.mark.parametrize("scores", ["softmax", "sigmoid", "none"])
def test_outputs_that_are_no_numbers_are_refused(scores: Scores, recipe: Recipe) -> None:
    with pytest.raises(UserError, match="tiny gives outputs that are not finite numbers"):
        check_outputs(np.array([[0.5, float("nan")]], np.float32), 2, scored(recipe, scores))
