"""TorchServe's own metrics, at the metrics port; tests of the exporter have Prometheus."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from scripts.torchserve.client import Client
from scripts.torchserve.failures import RequestFailedError

LITE0 = "efficientnet_lite0"
DEADLINE_S = 30


def samples(client: Client) -> Counter[tuple[str, str | None]]:
    """The sum of every metric over all versions, by its name (the parser adds _total to counters) and the model's."""
    sums: Counter[tuple[str, str | None]] = Counter()
    for family in text_string_to_metric_families(client.metrics()):
        for sample in family.samples:
            sums[sample.name, sample.labels.get("model_name")] += sample.value  # type: ignore[assignment] # floats
    return sums


def poll(question: Callable[[], Any]) -> Any:
    """Ask until the answer is not empty, or the deadline has passed."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            if answer := question():
                return answer
        except requests.ConnectionError:
            pass  # not listening yet
        time.sleep(0.2)
    raise AssertionError("no answer in time")


def test_metrics_count_requests_and_their_time_in_queue_and_worker(client: Client, cat: bytes) -> None:
    client.predict(cat, LITE0)
    before = samples(client)
    for _ in range(3):
        client.predict(cat, LITE0)
    requests_key = ("ts_inference_requests_total", LITE0)
    # a counter moves a moment after its request was answered
    after = poll(lambda: now if (now := samples(client))[requests_key] >= before[requests_key] + 3 else None)
    assert after[requests_key] == before[requests_key] + 3
    for name in ("ts_inference_latency_microseconds_total", "ts_queue_latency_microseconds_total"):
        assert after[name, LITE0] > before[name, LITE0]


def test_refused_requests_are_counted_apart(client: Client) -> None:
    before = samples(client)
    with pytest.raises(RequestFailedError):
        client.predict(b"no picture", LITE0)
    assert poll(lambda: samples(client)["Requests4XX_total", None] == before["Requests4XX_total", None] + 1)
