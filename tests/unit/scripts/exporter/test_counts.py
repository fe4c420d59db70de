from prometheus_client import CollectorRegistry

from scripts.exporter.answers_log import Answer
from scripts.exporter.counts import Requests

REGISTERED = {"tiny_1.0": ("tiny", "1.0"), "my_tiny_2.0_b": ("my_tiny", "2.0_b")}


def answer(path: tuple[str, str] = ("tiny", ""), worker: str = "tiny_1.0", **changed: object) -> Answer:
    given: dict[str, object] = {
        "entrance": "http",
        "wants": "prediction",
        "status": 200,
        "seconds": 0.02,
        "queue_s": 0.004,
    }
    return Answer(path=path, worker=worker, **given | changed)  # type: ignore[arg-type]


def count(*answers: Answer) -> CollectorRegistry:
    registry = CollectorRegistry()
    Requests(registry).count(answers, lambda: REGISTERED)
    return registry


def requests(registry: CollectorRegistry, **labels: str) -> float | None:
    given = {
        "entrance": "http",
        "wants": "prediction",
        "model": "tiny",
        "version": "1.0",
        "status": "200",
        "by": "worker",
    }
    return registry.get_sample_value("classifier_requests_total", given | labels)


def test_a_workers_answers_are_counted_and_timed_by_the_version_that_answered() -> None:
    registry = count(answer(), answer(status=415), answer(worker="my_tiny_2.0_b"))
    assert requests(registry) == requests(registry, status="415") == 1
    assert requests(registry, model="my_tiny", version="2.0_b") == 1
    labels = {"model": "tiny", "version": "1.0"}
    assert registry.get_sample_value("classifier_queue_seconds_sum", labels) == 0.008
    for bound, found in (("0.01", 0.0), ("0.025", 2.0)):
        labels = {"wants": "prediction", "model": "tiny", "version": "1.0", "le": bound}
        assert registry.get_sample_value("classifier_request_seconds_bucket", labels) == found


def test_what_no_worker_answered_is_counted_apart_and_not_timed() -> None:
    registry = count(answer(("tiny", "1.0"), "", status=503, queue_s=None), answer(status=503, queue_s=None))
    assert requests(registry, status="503", by="torchserve") == 2
    labels = {"wants": "prediction", "model": "tiny", "version": "1.0"}
    assert registry.get_sample_value("classifier_request_seconds_count", labels) is None


def test_names_that_clients_think_of_become_no_time_series() -> None:
    made_up = [answer((f"name-{number}", "1.0"), "", status=404, queue_s=None) for number in range(1000)]
    registry = count(*made_up, answer(("tiny", "9.9"), "", status=404, queue_s=None))
    assert requests(registry, model="", version="", status="404", by="torchserve") == 1000
    assert requests(registry, version="", status="404", by="torchserve") == 1


def test_a_version_that_is_gone_keeps_its_last_answers() -> None:
    registry = count(answer(worker="gone_3.0"))
    assert requests(registry, model="gone", version="3.0") == 1


def test_the_server_is_not_asked_without_a_reason() -> None:
    def refuse() -> dict[str, tuple[str, str]]:
        raise AssertionError("asked")

    Requests(CollectorRegistry()).count([], refuse)


def test_failures_are_shown_from_zero_on_and_go_on_from_there() -> None:
    """Of a series that begins with 84 failures, Prometheus' rate is 0."""
    registry = CollectorRegistry()
    counting = Requests(registry)
    counting.begin(REGISTERED)
    failed = {"status": "503", "by": "torchserve"}
    for version in ("1.0", ""):
        assert requests(registry, version=version, **failed) == 0
    assert requests(registry, status="500") == requests(registry) == 0
    assert requests(registry, entrance="grpc", model="", version="", status="13", by="torchserve") == 0
    counting.count([answer(status=503, queue_s=None)] * 84, lambda: REGISTERED)
    counting.begin(REGISTERED)
    assert requests(registry, **failed) == 84
