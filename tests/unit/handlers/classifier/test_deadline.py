import time

import pytest
from classifier.deadline import arrival, require_time
from classifier.pipeline import Classifier
from classifier.problems import BadParameter, DeadlineExceeded
from classifier.service import Request, answer
from msgspec import structs


def ago(seconds: float) -> str:
    return f"t={time.time() - seconds:.3f}"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("t=1700000000.123", 1_700_000_000.123),
        ("1700000000.123", 1_700_000_000.123),
        ("1700000000123", 1_700_000_000.123),
        ("t=1700000000123000", 1_700_000_000.123),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("t=1699000000", None),  # eleven days ago
        ("t=1700000009", None),  # the future
    ],
)
def test_the_arrival_is_read_in_any_unit_and_only_if_it_is_credible(header: str, found: float | None) -> None:
    assert arrival(header, 1_700_000_001.0) == (found if found is None else pytest.approx(found))


def test_without_a_time_that_is_known_to_be_over_nothing_is_refused() -> None:
    for timeout_ms, start in (("", ago(5)), ("10000", ago(5)), ("1", ""), ("1", "no time"), ("0", "")):
        require_time(timeout_ms, start)


def test_what_waited_longer_than_its_client_does_is_refused() -> None:
    with pytest.raises(DeadlineExceeded, match="longer than its 800 ms"):
        require_time("800", ago(1))


@pytest.mark.parametrize("timeout_ms", ["-1", "1.5", "soon", "٣", "1" * 10, "0x10", " 5"])
def test_what_is_no_number_of_milliseconds_is_refused(timeout_ms: str) -> None:
    with pytest.raises(BadParameter, match="X-Timeout-Ms must be a whole number of milliseconds"):
        require_time(timeout_ms, ago(1))


def test_no_picture_of_a_late_request_is_computed_and_the_others_of_its_batch_are(tiny: Classifier, cat: bytes) -> None:
    computed = list[int]()

    def forward(pixels: object) -> object:
        computed.append(len(pixels))  # type: ignore[arg-type] # an array
        return tiny.forward(pixels)  # type: ignore[arg-type]

    counting = structs.replace(tiny, forward=forward)
    late = Request(body=cat, timeout_ms="100", request_start=ago(1))
    batch = [late, Request(body=cat), structs.replace(late, wants="explanation"), structs.replace(late, timeout_ms="x")]
    assert [response.status for response in answer(counting, batch)] == [504, 200, 504, 400]
    assert computed == [1]
