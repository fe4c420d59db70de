import time
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import pytest

from scripts.measuring.labelled import Expected
from stress import clients as closed_loop
from stress.clients import Answer, clients, shuffled
from stress.questions import Body
from tests.unit.conftest import Answer as Said
from tests.unit.conftest import FakeTorchServe, predicted

URL = "/predictions/tiny"
STAR = Body("star", b"picture", 200, answer=Expected({"t04 star": 0.62}, 0.01))


def first_answer(address: str, question: Body) -> Answer:
    with clients(address + URL, [question], 1) as loop:
        while not loop.answers():
            time.sleep(0.01)
    return loop.answers()[0]


@pytest.mark.parametrize(
    ("question", "said", "kept", "wrong"),
    [
        (STAR, Said(predicted()), True, False),
        (Body("other", b"picture", 200, answer=Expected({"t01 square": 0.62}, 0.01)), Said(predicted()), False, True),
        (Body("less sure", b"picture", 200, answer=Expected({"t04 star": 0.5}, 0.01)), Said(predicted()), False, True),
        (Body("text", b"text", 415, "not_an_image"), Said({"code": "not_an_image"}, 415), True, False),
        (Body("text", b"text", 415, "not_an_image"), Said({"code": "image_broken"}, 415), False, False),
        (Body("text", b"text", 415, "not_an_image"), Said(predicted()), False, False),
        (STAR, Said({"code": 503, "message": "Worker died."}, 503), False, False),
    ],
)
def test_every_answer_is_held_to_what_its_question_expects(
    torchserve: FakeTorchServe, question: Body, said: Said, kept: bool, wrong: bool
) -> None:
    torchserve.answers[f"POST {URL}"] = [said]
    answer = first_answer(torchserve.address, question)
    assert (answer.kept, answer.wrong) == (kept, wrong)


def test_what_nobody_accepted_is_told_from_what_was_lost(refusing_address: str) -> None:
    assert first_answer(refusing_address, STAR).status == -1


def test_a_client_asks_every_question_as_often_and_no_two_clients_in_the_same_order() -> None:
    questions = [Body(str(index), b"picture", 200) for index in range(50)]
    one, again, other = ([body.name for body in islice(shuffled(questions, seed), 100)] for seed in (1, 1, 2))
    names = sorted(body.name for body in questions)
    assert sorted(one[:50]) == sorted(one[50:]) == sorted(other[:50]) == names
    assert one == again
    assert one[:50] != one[50:]
    assert one[:50] != other[:50]


def test_every_client_has_an_order_of_its_own(torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> None:
    torchserve.answers[f"POST {URL}"] = [Said(predicted())] * 50
    seeds = []

    def noted(questions: Sequence[Body], seed: int) -> Iterator[Body]:
        seeds.append(seed)
        return shuffled(questions, seed)

    monkeypatch.setattr(closed_loop, "shuffled", noted)
    with clients(torchserve.address + URL, [STAR], 4) as loop:
        while len(loop.answers()) < 4:
            time.sleep(0.01)
    assert len(set(seeds)) == 4


@pytest.mark.slow
def test_a_rate_is_kept_and_lateness_counts(torchserve: FakeTorchServe) -> None:
    """A hundred a second in the mean, at random times; the seconds of an answer begin when it was due."""
    torchserve.answers[f"POST {URL}"] = [Said(predicted())] * 400
    with clients(torchserve.address + URL, [STAR], 8, rate=100) as loop:
        while len(loop.answers()) < 100:
            time.sleep(0.01)
    answers = loop.answers()[:100]
    gaps = [later.sent - earlier.sent for earlier, later in pairwise(answers)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.01, rel=0.35)
    assert max(gaps) > 3 * min(gaps)
