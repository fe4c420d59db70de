import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from classifier.digests import verify

from benchmarks.result import this_machine
from scripts.archives.loaded import loaded, unpacked
from scripts.archives.store import find_archive
from scripts.building.golden import noise
from stress.clients import Answer
from stress.faults.__main__ import cells, heading, impatient
from stress.faults.scenarios import allows_huge_pictures
from stress.faults.stand import Run, recover


def answer(sent: float, status: int = 200, label: str = "cat", *, kept: bool = True) -> Answer:
    return Answer(sent, 0.5, status, "1.0", label, "cat", kept)


def run(begin: float = 10, healthy_s: float = 4, extra: int = 0) -> Run:
    answers = [
        answer(9),
        answer(10, 500, "Worker died.", kept=False),
        answer(11, 0, "connection reset", kept=False),
        *[answer(12, -1, "refused", kept=False)] * (2 + extra),
        answer(20),
    ]
    return Run(fault="x", answers=answers, begin=begin, healthy_s=healthy_s, pings={"Healthy"}, note="n")


def test_an_impatient_copy_is_the_same_model_with_a_short_timeout(
    few_archive: Callable[..., Path], tmp_path: Path
) -> None:
    archive = find_archive(str(few_archive()), tmp_path)
    hurried = impatient(archive, tmp_path / "hurried")
    verify(hurried.path)
    with unpacked(hurried.path) as content:
        assert yaml.safe_load((content / "model-config.yaml").read_text())["responseTimeout"] == 5
        assert yaml.safe_load((content / "recipe.yaml").read_text())["serving"]["response_timeout_s"] == 5
    with loaded(archive.path) as one, loaded(hurried.path) as other:
        pixels = noise(one.recipe.input, 2)
        assert (one.logits(pixels) == other.logits(pixels)).all()


def test_a_recipe_of_small_pictures_spares_the_faults_of_memory(
    few_archive: Callable[..., Path], tmp_path: Path
) -> None:
    assert not allows_huge_pictures(find_archive(str(few_archive()), tmp_path))


def test_failures_are_told_apart() -> None:
    found = run()
    assert found.refused == Counter({"500 Worker died": 1})
    assert (found.number(0), found.number(-1)) == (1, 2)
    assert found.failed_after_s == (0.5, 2.5)
    assert len(found.failed) == 4


class Well:
    """Stands for a stand that is well the second time that somebody looks."""

    def __init__(self) -> None:
        self.looks = 0

    def ping(self) -> str:
        return "Healthy"

    def healthy(self, _: set[int]) -> bool:
        self.looks += 1
        return self.looks == 2


def test_recovery_counts_from_the_end_of_a_fault_and_failures_from_its_beginning() -> None:
    begin = time.monotonic() - 100
    found = Run(fault="x", begin=begin, lasted_s=90, answers=[answer(begin + 1, 503, "full", kept=False)])
    recover(Well(), found, set())  # type: ignore[arg-type]
    assert 10 <= found.healthy_s < 20
    assert found.failed_after_s == pytest.approx((1.5, 1.5))
    assert (found.begin, found.pings) == (begin, {"Healthy"})


def test_a_run_without_failures_has_no_span() -> None:
    assert Run(fault="x", answers=[answer(1)]).failed_after_s is None


def test_the_front_ends_words_are_shortened_to_what_they_mean() -> None:
    words = 'Model "efficientnet_lite0" has no worker to serve inference request. Please use scale workers API'
    assert Run(fault="x", answers=[answer(1, 503, words, kept=False)]).refused == Counter({"503 has no worker": 1})


def test_another_requests_result_is_wrong_and_nothing_else_is() -> None:
    assert answer(1, 200, "dog", kept=False).wrong
    assert not answer(1).wrong
    assert not answer(1, 500, "dog", kept=False).wrong
    assert not Answer(1, 0.5, 200, "1.0", "dog").wrong  # nobody knows what it shows


def test_the_table_has_the_median_and_the_worst_of_all_runs() -> None:
    head, line = cells([[run(), run(healthy_s=5, extra=1), run(healthy_s=9)]])
    row = dict(zip(head, line, strict=True))
    assert row["runs"] == "3"
    assert row["refused"] == "500 Worker died: 1 (1)"
    assert row["no connection"] == "2 (3)"
    assert row["recovered, s after"] == "5.00 (9.00)"
    assert row["failures, s after"] == "0.50 to 2.50 (2.50)"
    assert row["wrong answers"] == "0"


@pytest.mark.parametrize("wrong", [1, 3])
def test_the_table_sums_what_is_wrong(wrong: int) -> None:
    answers = [answer(1, 200, "dog", kept=False)] * wrong
    head, line = cells([[Run(fault="x", answers=answers), Run(fault="x", answers=answers)]])
    assert dict(zip(head, line, strict=True))["wrong answers"] == str(2 * wrong)


def test_the_table_says_on_which_machine_and_how_many_requests_there_were() -> None:
    machine, requests = this_machine(), len(run().answers)
    assert f"{machine.cores} cores of {machine.processor}, {3 * requests} requests" in heading(
        [[run(), run()], [run()]]
    )
