"""A server that asks for tokens, behind a load balancer and for a web page: neither has a token when it asks first."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import requests
from classifier.recipe import read_recipe

from gateway.__main__ import gateway
from gateway.endpoints import parse_replicas
from scripts.exporter.listener import listening, ready_page
from scripts.torchserve.readiness import Readiness
from scripts.torchserve.server import Server, stop, workers
from tests.conftest import TINY_RECIPE
from tests.integration.conftest import serving
from tests.integration.contract import TIMEOUT_S, post, torchserve

MODEL = "tiny"
PATH = "/readyz"
ORIGIN = "https://pictures.example:8443"
DEADLINE_S = 120


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def server(tiny_archive: Callable[..., Path], state: Path) -> Iterator[Server]:
    archive = tiny_archive()
    with serving(state, str(archive), store=archive.parent, disable_token_authorization="false") as running:  # noqa: S106 - a switch
        yield running


@pytest.fixture
def address(state: Path) -> Iterator[str]:
    with listening("exporter", {PATH: partial(ready_page, Readiness(state))}, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


def wait_for(address: str, status: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while requests.get(address + PATH, timeout=TIMEOUT_S).status_code != status:
        assert time.monotonic() < deadline, f"never {status}"
        time.sleep(0.1)


def test_an_address_without_a_token_is_ready_when_every_worker_is(address: str, state: Path, server: Server) -> None:
    for method, path in (("GET", "/ping"), ("OPTIONS", f"/predictions/{MODEL}")):  # why there is an address of its own
        refused = requests.request(method, torchserve(server) + path, timeout=TIMEOUT_S)
        assert (refused.status_code, refused.json()["type"]) == (400, "InvalidKeyException")
    wait_for(address, 200)
    assert requests.get(address + PATH, timeout=TIMEOUT_S).text == "ready\n"
    assert requests.head(f"{address}{PATH}?x=1", timeout=TIMEOUT_S).status_code == 200
    for path in ("/", "/models", "/readyz/", "/ping"):
        assert requests.get(address + path, timeout=TIMEOUT_S).status_code == 404
    assert requests.post(address + PATH, timeout=TIMEOUT_S).status_code == 501

    workers(server)[0].kill()
    wait_for(address, 503)  # TorchServe's own /ping would still be Healthy
    wait_for(address, 200)  # TorchServe has started another worker
    client = server.client()
    client.scale(MODEL, 0)
    wait_for(address, 503)
    client.scale(MODEL, 1)
    wait_for(address, 200)
    stop(state)
    wait_for(address, 503)


def test_where_no_server_was_started_nothing_is_ready(address: str) -> None:
    response = requests.get(address + PATH, timeout=TIMEOUT_S)
    assert (response.status_code, response.text) == (503, "not ready\n")


def test_the_gateway_answers_a_web_pages_preflight_and_passes_its_token_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cat: bytes
) -> None:
    token = server.client().tokens.headers("inference")
    monkeypatch.setenv("INFERENCE_TOKEN", token["Authorization"].removeprefix("Bearer "))
    replicas = parse_replicas(torchserve(server).removeprefix("http://"))
    folder = tmp_path / "gateway"
    with gateway(MODEL, read_recipe(TINY_RECIPE), replicas, folder, [ORIGIN]) as running:
        assert (folder / "clusters.yaml").stat().st_mode & 0o777 == 0o600
        url = f"{running.address}/predictions/{MODEL}"
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-top-k"}
        preflight = requests.options(url, headers={"Origin": ORIGIN} | asked, timeout=TIMEOUT_S)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
        allowed = preflight.headers["Access-Control-Allow-Headers"].split(",")
        assert {"authorization", "content-type", "x-top-k"} <= set(allowed)
        other = requests.options(url, headers={"Origin": "https://elsewhere.example"} | asked, timeout=TIMEOUT_S)
        assert other.status_code == 200  # answered by Envoy, with no word that would let the page go on
        assert "Access-Control-Allow-Origin" not in other.headers
        assert requests.options(url, headers={"Origin": ORIGIN}, timeout=TIMEOUT_S).status_code == 405  # no preflight
        answer = post(running.address, MODEL, cat, headers={"Origin": ORIGIN} | token)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        without = post(running.address, MODEL, cat, headers={"Origin": ORIGIN})
        assert (without.status_code, without.json()["type"]) == (400, "InvalidKeyException")
        assert requests.get(f"{running.address}/ping", timeout=TIMEOUT_S).status_code == 200
