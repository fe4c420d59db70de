import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from classifier.digests import verify

from benchmarks.load import Load
from scripts.console import UserError
from scripts.measuring.labelled import Expected
from stress.clients import Answer, clients
from stress.questions import Body
from stress.scale_out import no_compute
from stress.scale_out.__main__ import Routing, outcome_cells, routing_cells, subject
from stress.scale_out.__main__ import main as scale_out
from stress.scale_out.network import network
from stress.scale_out.scenarios import Outcome
from tests.unit.conftest import HANG_UP, FakeTorchServe, predicted
from tests.unit.conftest import Answer as Said

URL = "/predictions/tiny"


def collect(torchserve: FakeTorchServe, *said: Said, number: int = 1) -> list[Answer]:
    """What clients write down until each of these was said."""
    torchserve.answers[f"POST {URL}"] = list(said)
    with clients(torchserve.address + URL, [Body("picture", b"picture", 200)], number) as loop:
        while len(loop.answers()) < len(said):
            time.sleep(0.01)
    return loop.answers()


def test_clients_write_down_every_outcome_and_try_nothing_twice(torchserve: FakeTorchServe) -> None:
    answers = collect(torchserve, Said(predicted()), Said({"code": 503}, 503), HANG_UP, Said(predicted()))
    assert [answer.status for answer in answers[:4]] == [200, 503, 0, 200]
    assert [(answer.version, answer.label) for answer in answers[:4:3]] == [("1.0", "t04 star")] * 2
    assert len(torchserve.asked) == len(answers)


def test_answers_since_a_moment_are_those_of_requests_sent_after_it(torchserve: FakeTorchServe) -> None:
    answers = collect(torchserve, *[Said(predicted())] * 4)
    assert answers == sorted(answers)
    with clients(torchserve.address + URL, [Body("picture", b"picture", 200)], 1) as loop:
        while len(loop.answers()) < 2:
            time.sleep(0.01)
    assert loop.answers(since=loop.answers()[1].sent) == loop.answers()[1:]


def test_lost_is_all_but_a_classification() -> None:
    answers = [Answer(1, 0.5, 200, "1.0", "cat"), Answer(2, 0.1, 503, "", "full"), Answer(3, 0.1, 0, "", "reset")]
    outcome = Outcome(scenario="x", replicas=2, answers=answers, seconds=2)
    assert outcome.lost == answers[1:]
    assert outcome.versions == ["1.0"]
    assert outcome.wrong({"1.0": Expected({"cat": 0.0}, 0.01)}) == []
    assert outcome.wrong({"1.0": Expected({"cat": 0.5}, 0.01)}) == answers[:1]  # so sure was not the model
    assert outcome.wrong({"1.0": Expected({"dog": 0.0}, 0.01)}) == answers[:1]
    head, line = outcome_cells([outcome])
    assert dict(zip(head, line, strict=True))["lost"] == "2"
    assert dict(zip(head, line, strict=True))["slowest ms"] == "500"


def test_the_subject_is_two_versions_of_the_model_at_hand_with_an_answer_of_each(
    few_archive: Callable[..., Path], flowers: Path
) -> None:
    few_archive("torchscript")
    tried = subject("few", few_archive("eager").parent, flowers / "rose")
    assert {tried.old.identity.model.version, tried.new.identity.model.version} == {"1.0", "2.0"}
    assert tried.picture.parent == flowers / "rose"
    assert {version: list(answer.classes) for version, answer in tried.expected.items()} == {
        "1.0": ["rose Röschen"],
        "2.0": ["rose Röschen"],
    }


def test_the_cost_of_routing_is_the_median_of_its_rounds() -> None:
    loads = [Load(seconds=2, answers=n, failed=0, p50_ms=n, p90_ms=n, p99_ms=2 * n) for n in (1, 2, 30)]
    _, line = routing_cells([Routing(way="direct", replicas=1, one=loads, many=loads)])
    assert line == ["direct", "1", "2.00", "4.00", "1"]


def test_the_model_without_computing_is_an_archive_like_every_other(tmp_path: Path) -> None:
    archive = no_compute.build(tmp_path)
    verify(archive.path)
    assert (archive.identity.model.name, archive.identity.model.version) == ("no_compute", "1.0")


def test_without_root_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="network namespaces need root: `sudo make scale-out`"), network(1):
        pass


def test_without_iproute2_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="need ip of iproute2; `make setup-system` installs it"), network(1):
        pass


@pytest.mark.parametrize(
    ("user", "programs", "missing"),
    [
        (1000, {"ip", "tc", "wrk"}, r"network namespaces need root: `sudo make scale-out`"),
        (0, {"tc", "wrk"}, r"network namespaces need ip of iproute2; `make setup-system` installs it, or says how"),
        (0, {"ip", "wrk"}, r"network namespaces need tc of iproute2; `make setup-system` installs it, or says how"),
        (0, {"ip", "tc"}, r"wrk, which sends the load, is missing; `make setup-system` installs it, or says how"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_built(
    user: int, programs: set[str], missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
    with pytest.raises(UserError, match=missing):
        scale_out(store=tmp_path / "store")
    assert not list(tmp_path.iterdir())
