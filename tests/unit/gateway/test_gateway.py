import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from classifier.recipe import read_recipe

from gateway.__main__ import recipe_of, settings_for
from gateway.applying import prepare
from gateway.configuration import Settings, check
from gateway.endpoints import Gateway, Host, Replica, parse_replicas, read_endpoints, write_endpoints
from gateway.envoy import running
from gateway.routes import Routes, RoutesFile
from scripts.console import UserError
from scripts.torchserve.config import read_config
from tests.conftest import TINY_RECIPE

DEADLINE_S = 30
FIRST, SECOND = Replica("127.0.0.1", 8080), Replica("127.0.0.2", 80)


NO_ROUTES = RoutesFile(Routes(), "none")


def settings(folder: Path) -> Settings:
    return settings_for("tiny", read_recipe(TINY_RECIPE), folder)


def replicas_cluster(folder: Path) -> dict[str, Any]:
    (cluster,) = settings(folder).clusters(Routes())
    return cluster


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def started(folder: Path, *replicas: Replica) -> Iterator[Gateway]:
    """An Envoy, without waiting for servers."""
    prepare(settings(folder), NO_ROUTES, replicas)
    with (folder / "envoy.log").open("wb") as log, running(folder, settings(folder).bootstrap(), log):
        yield Gateway(folder)


def test_envoy_itself_accepts_the_configuration(tmp_path: Path) -> None:
    write_endpoints(tmp_path, {FIRST: False, SECOND: True})
    check(settings(tmp_path), Routes())


def test_limits_come_from_config_properties_and_the_recipe(tmp_path: Path) -> None:
    config, serving = read_config(), read_recipe(TINY_RECIPE).serving
    cluster = replicas_cluster(tmp_path)
    assert f"max_request_bytes: {config['max_request_size']}\n" in settings(tmp_path).bootstrap()
    (host,) = settings(tmp_path).routes(Routes())["virtual_hosts"]
    assert host["request_body_buffer_limit"] == int(config["max_request_size"])
    assert host["routes"][-1]["route"]["retry_policy"]["per_try_timeout"] == f"{serving.response_timeout_s}s"
    breakers = cluster["circuit_breakers"]
    assert breakers["per_host_thresholds"] == [{"max_connections": 2 * serving.batch_size * serving.workers}]
    assert breakers["thresholds"][0]["max_pending_requests"] == int(config["job_queue_size"])


def test_the_health_check_asks_a_worker_of_the_model(tmp_path: Path) -> None:
    (check,) = replicas_cluster(tmp_path)["health_checks"]
    asked = check["http_health_check"]
    assert (asked["method"], asked["path"]) == ("POST", "/predictions/tiny")
    assert bytes.fromhex(asked["receive"][0]["text"]) == b"empty_body"


def test_endpoints_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_endpoints(tmp_path, {FIRST: False, SECOND: True})
    assert read_endpoints(tmp_path) == {FIRST: False, SECOND: True}
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.yaml"]


def test_replicas_are_hosts_and_ports() -> None:
    assert parse_replicas("127.0.0.1:8080 127.0.0.2:80") == [FIRST, SECOND]
    assert parse_replicas("localhost:8080") == [FIRST]


@pytest.mark.parametrize("word", ["10.0.0.1", ":8080", "10.0.0.1:http", "http://10.0.0.1"])
def test_what_is_no_replica_is_said_with_the_form(word: str) -> None:
    with pytest.raises(UserError, match=r"is not a replica: pass REPLICAS='<host>:<port> …'"):
        parse_replicas(word)


def test_an_unknown_host_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"the replica's host nowhere\.invalid cannot be resolved"):
        parse_replicas("nowhere.invalid:8080")


def test_without_a_gateway_there_is_nothing_to_drain(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no gateway is running; start one with `make gateway`"):
        Gateway(tmp_path).drain(FIRST)
    with pytest.raises(UserError, match="no gateway was started from"):
        Gateway(tmp_path).restore(FIRST)


@pytest.fixture
def nobody(refusing_address: str) -> Replica:
    """A replica that is not there, on a port that nothing else on this machine can open meanwhile."""
    (replica,) = parse_replicas(refusing_address.removeprefix("http://"))
    return replica


def test_a_running_envoy_shows_its_replicas_and_drains_one(tmp_path: Path, nobody: Replica) -> None:
    """Without servers: an Envoy alone knows the endpoints, and finds none of them healthy."""
    with started(tmp_path, nobody, SECOND) as gateway:
        write_endpoints(tmp_path, {nobody: False, SECOND: True})
        wait_for(lambda: gateway.hosts()[SECOND].draining)
        assert gateway.hosts().keys() == {nobody, SECOND}
        assert gateway.hosts()[SECOND] == Host(draining=True, healthy=False, active=0, sent=0)
        assert gateway.retries() == 0
        assert gateway.address.startswith("http://127.0.0.1:")
        with pytest.raises(UserError, match=f"{nobody} is the only healthy replica"):
            gateway.drain(nobody)


@pytest.mark.slow
def test_envoy_runs_only_when_it_accepts_requests(tmp_path: Path) -> None:
    """It checks each replica once before it listens, and a slow one holds it up for the whole timeout of a check."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with started(tmp_path, Replica(*silent.getsockname())) as gateway:
            url = f"{gateway.address}/predictions/tiny"
            assert requests.get(url, timeout=10).status_code == 405


def test_an_admin_address_that_is_not_written_to_its_end_is_none_yet(tmp_path: Path) -> None:
    (tmp_path / "admin").touch()
    assert not Gateway(tmp_path).accepts()


def test_what_torchserve_should_not_have_to_read_is_refused_at_the_door(tmp_path: Path, nobody: Replica) -> None:
    """Without servers: what would go to one is 503."""
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    with started(tmp_path, nobody) as gateway:
        url = f"{gateway.address}/predictions/tiny"
        assert requests.post(url, data=b"a=1", headers=form, timeout=10).status_code == 415
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert requests.request(method, url, timeout=10).status_code == 405, method
        none = requests.post(url, data=b"a picture", timeout=10)
        assert (none.status_code, none.json()["code"]) == (503, "no_replica")
        assert none.headers["content-type"] == "application/problem+json"


def test_slow_senders_and_idle_connections_end(tmp_path: Path) -> None:
    (listener,) = yaml.safe_load(settings(tmp_path).bootstrap())["static_resources"]["listeners"]
    (http,) = (filter_["typed_config"] for filter_ in listener["filter_chains"][0]["filters"])
    assert http["request_headers_timeout"] == "10s"
    assert http["request_timeout"] == "60s"
    assert http["common_http_protocol_options"]["idle_timeout"] == "60s"


def test_a_sender_of_half_a_head_is_closed(tmp_path: Path, nobody: Replica) -> None:
    prepare(settings(tmp_path), NO_ROUTES, (nobody,))
    quick = settings(tmp_path).bootstrap().replace("request_headers_timeout: 10s", "request_headers_timeout: 0.2s")
    with (tmp_path / "envoy.log").open("wb") as log, running(tmp_path, quick, log):
        host, port = Gateway(tmp_path).address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(b"POST /predictions/tiny HTTP/1.1\r\nHost: ")
            assert b"408 Request Timeout" in connection.recv(1000)


def test_a_refused_configuration_is_told_in_envoys_words(tmp_path: Path) -> None:
    with (
        (tmp_path / "envoy.log").open("wb") as log,
        pytest.raises(UserError, match=r"(?s)Envoy ended while starting:.*nonsense"),
        running(tmp_path, "nonsense: 1\n", log),
    ):
        pass


@pytest.mark.parametrize("origin", ["*", "https://a.example/", "a.example", "https://*.example", "https://a.example b"])
def test_only_pages_that_are_named_may_send_requests(tmp_path: Path, origin: str) -> None:
    with pytest.raises(UserError, match="ORIGINS="):
        settings_for("tiny", read_recipe(TINY_RECIPE), tmp_path, [origin]).routes(Routes())


def test_the_limits_of_a_model_without_a_recipe_here_are_those_of_its_archive(
    tiny_archive: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tiny_archive().parent
    assert recipe_of("tiny", store).serving == read_recipe(TINY_RECIPE).serving
    with pytest.raises(UserError, match=r"MODEL=other: there is neither recipes/other\.yaml nor an archive"):
        recipe_of("other", store)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.yaml").write_text(TINY_RECIPE.read_text())
    assert recipe_of("tiny", tmp_path).name == "tiny"
