"""What `make withstand` calls a difference: each kind is planted."""

import pytest

from scripts.measuring.labelled import Expected
from stress.questions import Body
from stress.withstand import Answer, Report, groups

BROKEN = Body("truncated/jpeg-3", b"", 422, "image_broken")
CAT = Body("good/cat", b"", 200, answer=Expected({"cat": 0.5, "tiger": 0.495}, 0.01))
UNKNOWN = Body("mode/jpeg", b"", 200)
RIGHT = [
    Answer(BROKEN, 422, "image_broken", "", 0.0, 0.1),
    Answer(CAT, 200, "", "cat", 0.505, 0.2),
    Answer(CAT, 200, "", "tiger", 0.5, 0.2),
    Answer(UNKNOWN, 200, "", "whatever it is", 0.9, 0.3),
]
ALIVE, STEADY = ([1, 2], [1, 2]), [500.0, 600.0, 610.0]


def test_answers_as_they_should_be_differ_in_nothing() -> None:
    assert Report(RIGHT, ALIVE, STEADY).differences() == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(BROKEN, 500, "internal", "", 0.0, 0.1), "truncated/jpeg-3: 500 internal instead of 422 image_broken"),
        (Answer(BROKEN, 422, "not_an_image", "", 0.0, 0.1), "422 not_an_image instead of 422 image_broken"),
        (Answer(BROKEN, 0, "timeout", "", 0.0, 0.1), "0 timeout instead of 422 image_broken"),
        (Answer(CAT, 200, "", "dog", 0.5, 0.1), "good/cat: 200 dog 50.0% instead of 200 cat 50.0% or tiger 49.5%"),
        (Answer(CAT, 200, "", "cat", 0.6, 0.1), "good/cat: 200 cat 60.0% instead of 200 cat 50.0% or tiger 49.5%"),
        (Answer(UNKNOWN, 503, "", "", 0.0, 0.1), "mode/jpeg: 503 instead of 200"),
    ],
)
def test_every_other_answer_is_a_difference(answer: Answer, said: str) -> None:
    (found,) = Report([*RIGHT, answer], ALIVE, STEADY).differences()
    assert said in found


@pytest.mark.parametrize("pids", [([1, 2], [1, 3]), ([1, 2], [1]), ([], [])])
def test_workers_that_did_not_live_on_are_a_difference(pids: tuple[list[int], list[int]]) -> None:
    (found,) = Report(RIGHT, pids, STEADY).differences()
    assert "must stay the same" in found


def test_memory_that_grows_after_the_first_round_is_a_difference_and_what_the_first_took_is_not() -> None:
    assert Report(RIGHT, ALIVE, [500.0, 1500.0, 1600.0]).differences() == []
    (found,) = Report(RIGHT, ALIVE, [500.0, 600.0, 900.0]).differences()
    assert "grew by 300 MB more" in found


def test_the_table_has_a_line_for_each_group() -> None:
    head, *lines = groups([*RIGHT, Answer(BROKEN, 500, "internal", "", 0.0, 4.0)])
    assert head[0] == "group"
    assert ["truncated", "2", "422 x 1, 500 x 1", "4.00 s"] in lines
    assert len(lines) == 3
