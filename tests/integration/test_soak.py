"""Three minutes at 80 % of the capacity, good and bad pictures mixed: what half an hour shows is in docs/soak.md."""

import pytest

from scripts.archives.store import find_archive
from stress.soak.__main__ import soak_archive
from stress.soak.statistics import verdicts
from tests.integration.conftest import STORE, make
from tests.integration.contract import LITE0

DEFAULT = f"{LITE0}-openvino-int8"
MINUTES = 3
QUICK_MINUTES = 0.2


def test_a_short_soak_of_good_and_bad_pictures_is_answered_as_the_contract_says() -> None:
    result = make("archive", f"MODEL={LITE0}", "RUNTIME=openvino", "PRECISION=int8")
    assert result.returncode == 0, result.stderr
    measured = soak_archive(find_archive(DEFAULT, STORE), QUICK_MINUTES)
    refused = sum(answer.status >= 400 for answer in measured.answers)
    assert 0 < refused < len(measured.answers)
    assert [answer for answer in measured.answers if not answer.kept] == []


@pytest.mark.thorough
def test_three_minutes_of_good_and_bad_pictures_leave_the_server_as_it_was() -> None:
    result = make("archive", f"MODEL={LITE0}", "RUNTIME=openvino", "PRECISION=int8")
    assert result.returncode == 0, result.stderr
    measured = soak_archive(find_archive(DEFAULT, STORE), MINUTES)
    refused = sum(answer.status >= 400 for answer in measured.answers)
    assert 0 < refused < len(measured.answers)
    assert [verdict for verdict in verdicts(measured) if not (verdict.good or verdict.timed)] == []
