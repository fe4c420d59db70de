"""Compose: brought up as far as images can be made here. Debian's Prometheus stands in for its own image."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import yaml

from monitoring.rules import Objectives, Rules
from scripts.building.golden import photograph
from scripts.ports import free_port
from tests.integration.conftest import CHECKOUT, STORE
from tests.integration.container import ARCHIVE
from tests.integration.contract import LITE0, TIMEOUT_S
from tests.integration.engine import Engine

pytestmark = pytest.mark.timeout(3000)  # the first test builds the image
COMPOSE = CHECKOUT / "docker" / "compose.yaml"
PROMETHEUS = """\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/* \\
    && install --directory --owner=prometheus /prometheus
USER prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
"""


@pytest.fixture(scope="module")
def prometheus_image(engine: Engine, image: str) -> str:
    context = engine.folder / "prometheus"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(PROMETHEUS)
    engine.build("prometheus:debian", context)
    return "localhost/prometheus:debian"


@pytest.fixture(scope="module")
def ports(engine: Engine, image: str, prometheus_image: str) -> Iterator[dict[str, int]]:
    """The services up, on free ports of loopback; down in the end."""
    names = ("INFERENCE_PORT", "GRPC_PORT", "PROMETHEUS_PORT")
    with ExitStack() as stack:
        found = {name: free_port(stack) for name in names}
    variables = engine.environment | {name: str(port) for name, port in found.items()}
    variables |= {"MODELS": ARCHIVE, "MODEL_STORE": str(STORE), "PROMETHEUS_IMAGE": prometheus_image}
    compose = [sys.executable, "-m", "podman_compose", "--file", str(COMPOSE), "--profile", "cpu"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*compose, *arguments]
        return subprocess.run(
            command, env=os.environ | variables, capture_output=True, text=True, timeout=300, check=False
        )

    try:
        up = run("up", "--detach", "classifier", "prometheus")
        assert up.returncode == 0, up.stdout + up.stderr
        yield found
    finally:
        run("down", "--volumes")


def wait_for(ask: Callable[[], Any], deadline_s: float = 120) -> Any:
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            if found := ask():
                return found
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.thorough
def test_a_photograph_is_classified(ports: dict[str, int]) -> None:
    url = f"http://127.0.0.1:{ports['INFERENCE_PORT']}/predictions/{LITE0}"
    coffee = photograph("coffee.png").read_bytes()  # not the cat: int8 decides between its two breeds by processor

    def ask() -> Any:
        response = requests.post(url, data=coffee, timeout=TIMEOUT_S)
        return response.json() if response.ok else None  # 503 and 404 until it is ready

    assert wait_for(ask)["class"] == "n07920052 espresso"


@pytest.mark.thorough
def test_prometheus_scrapes_it(ports: dict[str, int]) -> None:
    url = f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}/api/v1/query"

    def ask() -> Any:
        answer = requests.get(url, params={"query": 'up{job="classifier"}'}, timeout=TIMEOUT_S).json()
        return [item for item in answer["data"]["result"] if item["value"][1] == "1"]

    (up,) = wait_for(ask)
    assert up["metric"]["instance"] == "torchserve:8083"


@pytest.mark.thorough
def test_prometheus_knows_the_alerts(ports: dict[str, int]) -> None:
    url = f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}/api/v1/rules"
    groups = wait_for(lambda: requests.get(url, timeout=TIMEOUT_S).json()["data"]["groups"])
    found = {rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"}
    assert found == {alert.name for alert in Rules(Objectives()).alerts()}


def test_both_variants_of_the_classifier_are_hardened_alike_and_publish_on_loopback_only() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name in ("classifier", "classifier-gpu"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any(service["image"].endswith(("latest", "latest}")) for service in services.values())
