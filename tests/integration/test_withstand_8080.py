"""The whole corpus of hostile pictures, in batches mixed with good ones, through a real TorchServe."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.building.overlay import Tuned
from scripts.torchserve.server import CONSOLE_LOG, Server
from stress.questions import Body, good, known
from stress.withstand import Report, withstand
from tests.integration.conftest import PHOTOGRAPHS, STORE, serving, store_with
from tests.integration.contract import LITE0, TIMEOUT_S, assert_problem, post, torchserve

BATCH = 8
CAT, ESPRESSO, MISSILE, MOPED = (
    "n02124075 Egyptian cat", "n07920052 espresso", "n03773504 missile", "n03785016 moped",
)  # fmt: skip
SEEN = {"chelsea": CAT, "coffee": ESPRESSO, "rocket": MISSILE, "motorcycle_left": MOPED, "motorcycle_right": MOPED}


@pytest.fixture(scope="module")
def mixing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server whose one worker waits a little for full batches, and its log."""
    folder = tmp_path_factory.mktemp("mixing")
    settings = Tuned(workers=1, threads=1, batch_size=BATCH, max_batch_delay_ms=50)
    with serving(folder / "state", LITE0, store=store_with(settings, folder), log_config=None) as server:
        yield server, folder / "state" / CONSOLE_LOG


def trial(hostile: list[Body]) -> tuple[list[Body], list[Body]]:
    """The hostile bodies and the photographs, each with the archive's own answer."""
    with loaded(find_archive(f"{LITE0}-eager", STORE).path) as classifier:
        return known(classifier, hostile), known(classifier, good(PHOTOGRAPHS))


@pytest.fixture(scope="module")
def report(mixing: tuple[Server, Path], hostile: list[Body]) -> Report:
    server, _ = mixing
    return withstand(server, LITE0, *trial(hostile))


@pytest.mark.thorough
def test_every_hostile_picture_gets_its_one_answer_and_the_workers_live_on(report: Report, hostile: list[Body]) -> None:
    assert report.differences() == []
    asked = Counter(answer.body.name for answer in report.answers)
    assert all(asked[body.name] == 2 for body in hostile)


@pytest.mark.thorough
def test_no_answer_is_a_server_error(report: Report) -> None:
    assert {answer.status for answer in report.answers} == {200, 400, 413, 415, 422}


@pytest.mark.thorough
def test_good_pictures_are_recognised_among_them(report: Report) -> None:
    seen = [answer for answer in report.answers if answer.body.name.startswith("good/")]
    assert len(seen) > len(report.answers) / 5
    assert [answer for answer in seen if answer.label != SEEN[Path(answer.body.name).stem]] == []


@pytest.mark.thorough
def test_a_good_picture_in_another_dress_is_the_same_picture(report: Report) -> None:
    """Whatever its orientation, profile, frames, media type or name: the coffee is an espresso."""
    groups = ("exif", "profile", "frames", "typed", "named")
    seen = [item for item in report.answers if item.body.name.split("/")[0] in groups and item.body.status == 200]
    assert len(seen) > 80
    assert [answer.body.name for answer in seen if answer.label != ESPRESSO] == []


@pytest.mark.thorough
def test_the_batches_were_mixed(report: Report, mixing: tuple[Server, Path]) -> None:
    _, log = mixing
    batches = log.read_text(errors="replace").count("Backend received inference at")
    assert len(report.answers) / batches > BATCH / 2


@pytest.mark.thorough
def test_hostile_pictures_do_not_fill_the_log(report: Report, mixing: tuple[Server, Path]) -> None:
    _, log = mixing
    text = log.read_text(errors="replace")
    assert "Traceback" not in text
    assert not re.search("UserWarning|DecompressionBombWarning", text)


def test_what_the_front_end_takes_for_a_form_harms_nobody(mixing: tuple[Server, Path], cat: bytes) -> None:
    """TorchServe 0.12.0 answers 500 by itself: no worker hears of it."""
    server, _ = mixing
    address = torchserve(server)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert post(address, LITE0, cat, headers=form).status_code == 500
    response = requests.post(f"{address}/predictions/{LITE0}", data=cat, timeout=TIMEOUT_S)
    assert response.json()["class"] == "n02124075 Egyptian cat"
    assert_problem(post(address, LITE0, b""), 400, "empty_body")


def test_every_tenth_hostile_picture_gets_its_one_answer(mixing: tuple[Server, Path], hostile: list[Body]) -> None:
    server, _ = mixing
    tenth = [body for body in hostile[::10] if not body.same_as]
    some = withstand(server, LITE0, *trial(tenth))
    assert some.differences() == []
    assert max(answer.status for answer in some.answers) < 500
