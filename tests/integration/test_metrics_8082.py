"""The metrics port: read with prometheus-client, and scraped by a real Prometheus."""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from scripts.ports import free_port
from scripts.torchserve.client import Client
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.server import Server
from tests.integration.conftest import CHECKOUT

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


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A real Prometheus with the project's configuration, its target replaced; yields its URL."""
    config = yaml.safe_load((CHECKOUT / "monitoring/prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with ExitStack() as stack:
        port = free_port(stack)
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_the_shipped_target_is_the_metrics_address_of_the_configuration() -> None:
    config = yaml.safe_load((CHECKOUT / "monitoring/prometheus.yml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert f"metrics_address=http://{target}\n" in (CHECKOUT / "config.properties").read_text()


RULES = """
rule_files: [{alerts}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      # restarted in the 1st, 2nd and 3rd minute, as TorchServe tells it; and never, since its only load
      - {series: 'WorkerLoadTime{WorkerName="W-9000-x_1.0"}', values: '4500 9300 14100 19000x20'}
      - {series: 'WorkerLoadTime{WorkerName="W-9001-x_1.0"}', values: '4500x25'}
      - {series: 'up{job="torchserve"}', values: '1x25'}
      - {series: 'Requests5XX', values: '7x25'}
    alert_rule_test:
      - eval_time: 4m
        alertname: WorkerKeepsDying
        exp_alerts:
          - exp_labels: {severity: page, WorkerName: W-9000-x_1.0}
            exp_annotations:
              summary: "W-9000-x_1.0 was restarted 3 times in ten minutes; `make status` says why"
      - {eval_time: 20m, alertname: WorkerKeepsDying, exp_alerts: []}
      - {eval_time: 20m, alertname: RequestsFail, exp_alerts: []}
      - {eval_time: 20m, alertname: ServerGone, exp_alerts: []}
"""


def test_a_worker_that_keeps_dying_wakes_somebody_and_one_that_does_not_nobody(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("prometheus is not installed; `make setup-system` says how")
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES.replace("{alerts}", str(CHECKOUT / "monitoring/alerts.yml")))
    result = subprocess.run(["promtool", "test", "rules", rules], capture_output=True, text=True, check=False)  # noqa: S607
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_real_prometheus_scrapes_the_server_and_answers_a_query(
    server: Server, client: Client, cat: bytes, tmp_path: Path
) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed; `make setup-system` says how")
    client.predict(cat, LITE0)
    with prometheus(tmp_path, server.addresses.metrics.removeprefix("http://")) as url:

        def ask(query: str) -> Any:
            response = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=5)
            return response.json()["data"]["result"] if response.ok else None

        (up,) = poll(lambda: [entry for entry in ask('up{job="torchserve"}') or [] if entry["value"][1] == "1"])
        assert up["metric"]["instance"] == server.addresses.metrics.removeprefix("http://")
        query = f'sum(ts_inference_requests_total{{model_name="{LITE0}"}})'

        def counted_as_the_server_says() -> bool:
            (entry,) = ask(query) or [{"value": (0, "-1")}]
            return float(entry["value"][1]) == samples(client)["ts_inference_requests_total", LITE0]

        assert poll(counted_as_the_server_says)
