from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from classifier.labels import Label
from numpy.typing import NDArray

from benchmarks.everywhere import cells, visit
from benchmarks.homes import Answer, Home, timed
from scripts.pages import markdown

LABELS = [Label(f"n{index}", name) for index, name in enumerate(("cat", "dog", "cup"))]
REFERENCE = np.array([[0.7, 0.2, 0.1], [0.41, 0.4, 0.19]], np.float32)  # sure of the first picture, not of the second
PICTURES = [Path("first.png"), Path("second.png")]


def home(rows: NDArray[np.float32], precision: str = "float32") -> Home:
    def ask(picture: Path) -> Answer:
        return Answer(rows[PICTURES.index(picture)], 3.0)

    return Home(name="somewhere", precision=precision, size=2_500_000, ask=ask)


def changed(by: float) -> NDArray[np.float32]:
    """The reference with some of the probability of the second picture's first class given to its second."""
    return REFERENCE + np.array([[0, 0, 0], [-by, by, 0]], np.float32)


def test_the_same_answers_are_the_same() -> None:
    row = visit(home(REFERENCE), PICTURES, REFERENCE, LABELS)
    assert (row.same, row.difference, row.megabytes, row.milliseconds) == (True, 0, 2.5, 3)
    assert [item.class_name for item in row.best] == ["cat", "cat"]


@pytest.mark.parametrize(("precision", "by", "same"), [
    ("float32", 5e-5, True), ("float32", 0.001, False),
    ("int8", 0.1, True), ("int8", 0.2, False), ("float16", 0.1, False),
])  # fmt: skip
def test_each_precision_has_its_own_tolerance(precision: str, by: float, same: bool) -> None:
    assert visit(home(changed(by), precision), PICTURES, REFERENCE, LABELS).same is same


def test_another_class_is_the_same_answer_in_a_near_tie_only() -> None:
    tie = visit(home(changed(0.05), "int8"), PICTURES, REFERENCE, LABELS)
    assert (tie.same, tie.best[1].class_name) == (True, "dog")
    swapped = REFERENCE[:, [1, 0, 2]]
    other = visit(home(swapped, "int8"), PICTURES, REFERENCE, LABELS)
    assert (other.same, other.best[0].class_name) == (False, "dog")


def test_answers_that_are_no_numbers_are_not_the_same() -> None:
    broken = np.full_like(REFERENCE, np.nan)
    assert visit(home(broken, "int8"), PICTURES, REFERENCE, LABELS).same is False


def test_what_warms_up_is_not_timed() -> None:
    durations: Iterator[int] = iter(range(1000, 0, -1))

    def ask(picture: Path) -> Answer:
        return Answer(REFERENCE[PICTURES.index(picture)], float(next(durations)))

    row = visit(Home(name="slow at first", precision="float32", size=1, ask=ask), PICTURES, REFERENCE, LABELS)
    assert row.milliseconds < 1000 - len(PICTURES) * 5


def test_the_table_has_a_line_for_each_home() -> None:
    row = visit(home(REFERENCE), PICTURES, REFERENCE, LABELS)
    lines = cells(PICTURES, [row, row])
    assert lines[0][2:4] == ["first.png", "second.png"]
    assert lines[1] == ["somewhere", "float32", "cat 70.0%", "cat 41.0%", "0e+00", "2.5", "3.0"]
    text = markdown(lines).splitlines()
    assert len(text) == 4
    assert text[1] == "|" + " --- |" * len(lines[0])


def test_the_time_is_that_of_the_classification() -> None:
    answer = timed(lambda _: REFERENCE[0])(PICTURES[0])
    assert answer.probabilities is not None
    assert 0 <= answer.milliseconds < 1000
