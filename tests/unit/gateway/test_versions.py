"""A running Envoy sends requests to versions, before a server that says what it was asked."""

import http.server
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import requests
from classifier.recipe import read_recipe

from gateway.__main__ import gateway, settings_for
from gateway.applying import apply
from gateway.configuration import Settings
from gateway.endpoints import Gateway, Replica
from gateway.routes import RoutesFile, read_routes
from scripts.console import UserError
from tests.conftest import TINY_RECIPE

MODEL: Final = "tiny"
TIMEOUT_S: Final = 30


class Upstream(http.server.ThreadingHTTPServer):
    """Answers as TorchServe does, as far as Envoy sees it; notes the path of each picture."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.seconds = 0.0  # that a picture takes


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one packet, or the client's system waits 40 ms before it acknowledges
    server: Upstream

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if body:
            self.server.asked.append(self.path)
            time.sleep(self.server.seconds)
        status, text = (200, json.dumps({"path": self.path})) if body else (400, '{"code":"empty_body"}')
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def routes(text: str, folder: Path) -> RoutesFile:
    (folder / "mine.yaml").write_text(text)
    return read_routes(folder / "mine.yaml")


@contextmanager
def steered(folder: Path, upstream: Upstream, text: str) -> Iterator[Gateway]:
    replica = Replica("127.0.0.1", upstream.server_port)
    file = routes(text, folder)
    with gateway(MODEL, read_recipe(TINY_RECIPE), [replica], folder / "gateway", routes=file) as running:
        yield running


def settings(folder: Path) -> Settings:
    return settings_for(MODEL, read_recipe(TINY_RECIPE), folder / "gateway")


class Found(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    path: str  # that the server was asked
    version: str
    by: str


def ask(running: Gateway, path: str = "/predictions/tiny", **headers: str) -> Found:
    given = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": "image/png"}
    answer = requests.post(running.address + path, data=b"picture", headers=given, timeout=TIMEOUT_S)
    content: dict[str, Any] = answer.json() if answer.content[:1] == b"{" else {}
    asked = str(content.get("path", content.get("code", "")))
    return Found(
        answer.status_code, asked, answer.headers.get("x-model-version", ""), answer.headers.get("x-version-by", "")
    )


WHOLE = """
models:
  tiny:
    versions: {1.0: 90, 2.0: 10, 3.0: 0}
    sticky: {header: x-user}
predict: tiny
"""


@pytest.mark.slow
def test_requests_are_divided_by_weight_and_callers_keep_their_version(tmp_path: Path, upstream: Upstream) -> None:
    with steered(tmp_path, upstream, WHOLE) as running, requests.Session() as session:
        url = f"{running.address}/predictions/tiny"
        for given, by in (({}, "weights"), ({"x-user": "{}"}, "caller")):
            versions, of = Counter[str](), dict[int, set[str]]()
            for number in range(4000):
                headers = {name: value.format(number % 2000) for name, value in given.items()}
                answer = session.post(url, data=b"picture", headers=headers, timeout=TIMEOUT_S)
                version = answer.headers["x-model-version"]
                assert answer.json()["path"] == f"/predictions/tiny/{version}"
                assert answer.headers["x-version-by"] == by
                versions[version] += 1
                of.setdefault(number % 2000, set()).add(version)
            assert versions["3.0"] == 0
            assert abs(versions["2.0"] / 4000 - 0.1) < 0.03  # of 2000 callers: four standard deviations
            assert not given or all(len(found) == 1 for found in of.values())


@pytest.mark.slow
def test_callers_move_only_to_the_version_that_gets_more(tmp_path: Path, upstream: Upstream) -> None:
    text = "models: {{tiny: {{versions: {{1.0: {}, 2.0: {}}}, sticky: {{header: x-user}}}}}}"

    def versions(running: Gateway) -> list[str]:
        return [ask(running, x_user=f"caller {number}").version for number in range(200)]

    with steered(tmp_path, upstream, text.format(95, 5)) as running:
        before = versions(running)
        for weights in ((3, 1), (0, 1)):
            apply(settings(tmp_path), routes(text.format(*weights), tmp_path))
            after = versions(running)
            assert {move for move in zip(before, after, strict=True) if move[0] != move[1]} == {("1.0", "2.0")}
            before = after
        assert set(before) == {"2.0"}


@pytest.mark.slow
def test_a_caller_names_its_version_in_a_header_or_in_the_path(tmp_path: Path, upstream: Upstream) -> None:
    with steered(tmp_path, upstream, WHOLE) as running:
        for path in ("/predictions/tiny", "/predict"):
            assert ask(running, path, x_model_version="3.0") == Found(200, "/predictions/tiny/3.0", "3.0", "pin")
            assert ask(running, path, x_model_version="4.0") == Found(404, "no_such_version", "", "")
            assert ask(running, path, x_model_version="3.0", x_user="a").by == "pin"
        assert ask(running, "/predictions/tiny/3.0") == Found(200, "/predictions/tiny/3.0", "3.0", "path")
        assert ask(running, "/explanations/tiny/2.0") == Found(200, "/explanations/tiny/2.0", "2.0", "path")
        found = ask(running, "/explanations/tiny", x_user="a")
        assert found.path == f"/explanations/tiny/{found.version}"
        assert ask(running, "/predictions/other") == Found(200, "/predictions/other", "", "")
        assert ask(running, "/predictions/tiny/9.9") == Found(200, "/predictions/tiny/9.9", "", "")
        assert requests.get(f"{running.address}/predict", timeout=TIMEOUT_S).status_code == 405
        for path in ("/models", "/predict/x", "/predictions"):
            assert ask(running, path).status == 404


@pytest.mark.slow
def test_a_cookie_keeps_the_version_of_a_browser(tmp_path: Path, upstream: Upstream) -> None:
    text = "models: {tiny: {versions: {1.0: 1, 2.0: 1}, sticky: {cookie: who}}}"
    with steered(tmp_path, upstream, text) as running:
        for _ in range(8):
            with requests.Session() as session:  # keeps cookies
                versions = {
                    session.post(f"{running.address}/predictions/tiny", data=b"x", timeout=TIMEOUT_S).headers[
                        "x-model-version"
                    ]
                    for _ in range(8)
                }
                assert len(versions) == 1
                assert "who" in session.cookies


@pytest.mark.slow
def test_a_shadow_gets_copies_and_no_caller_its_answers(tmp_path: Path, upstream: Upstream) -> None:
    text = "models: {tiny: {versions: {1.0: 1}, shadow: {version: 2.0, percent: 50}}}"
    with steered(tmp_path, upstream, text) as running:
        for _ in range(200):
            assert ask(running) == Found(200, "/predictions/tiny/1.0", "1.0", "weights")
        asked = Counter(upstream.asked)
        assert asked["/predictions/tiny/1.0"] == 200
        assert 50 < asked["/predictions/tiny/2.0"] < 150


@pytest.mark.slow
def test_weights_and_versions_change_under_load_and_no_request_is_lost(tmp_path: Path, upstream: Upstream) -> None:
    with steered(tmp_path, upstream, "models: {tiny: {versions: {1.0: 1}}}") as running:
        end, statuses = threading.Event(), list[int]()

        def client() -> None:
            with requests.Session() as session:
                while not end.is_set():
                    answer = session.post(f"{running.address}/predictions/tiny", data=b"x", timeout=TIMEOUT_S)
                    statuses.append(answer.status_code)

        with ThreadPoolExecutor(4) as clients:
            for _ in range(4):
                clients.submit(client)
            for versions in ("1.0: 50, 2.0: 50", "2.0: 1", "3.0: 1, 2.0: 99", "3.0: 1", "1.0: 1"):
                apply(settings(tmp_path), routes(f"models: {{tiny: {{versions: {{{versions}}}}}}}", tmp_path))
            end.set()
        assert set(statuses) == {200}
        assert len(statuses) > 50
        assert ask(running).version == "1.0"
        assert running.clusters() == {"replicas", "tiny_1.0"}


@pytest.mark.slow
def test_routes_that_envoy_refuses_change_nothing(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with steered(tmp_path, upstream, WHOLE) as running:
        monkeypatch.setattr("gateway.versions.PIN", "not a header\n")
        with pytest.raises(UserError, match="Envoy refuses the routes"):
            apply(settings(tmp_path), routes("models: {tiny: {versions: {2.0: 1}}}", tmp_path))
        assert running.routes_digest() == routes(WHOLE, tmp_path).digest
        assert ask(running, x_model_version="3.0").version == "3.0"


@pytest.mark.slow
def test_beyond_the_queue_the_answer_is_429_with_the_time_after_which_there_is_room(
    tmp_path: Path, upstream: Upstream
) -> None:
    upstream.seconds = 1.2
    with steered(tmp_path, upstream, WHOLE) as running, ThreadPoolExecutor(200) as clients:
        url = f"{running.address}/predictions/tiny"

        def ask_once(_: int) -> requests.Response:
            return requests.post(url, data=b"x", timeout=TIMEOUT_S)

        answers = list(clients.map(ask_once, range(200)))
        assert {answer.status_code for answer in answers} == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "busy"
                assert 1 <= int(answer.headers["retry-after"]) <= 10
        last = [answer for answer in clients.map(ask_once, range(200)) if answer.status_code == 429]
        assert max(int(answer.headers["retry-after"]) for answer in last) >= 2  # by now answers have taken longer


@pytest.mark.slow
def test_a_client_is_answered_when_its_time_is_over(tmp_path: Path, upstream: Upstream) -> None:
    upstream.seconds = 1.0
    with steered(tmp_path, upstream, WHOLE) as running:
        begin = time.monotonic()
        late = requests.post(
            f"{running.address}/predict", data=b"x", headers={"X-Timeout-Ms": "100"}, timeout=TIMEOUT_S
        )
        assert time.monotonic() - begin < upstream.seconds
        assert (late.status_code, late.headers["content-type"]) == (504, "application/problem+json")
        assert late.json()["code"] == "deadline_exceeded"
        assert ask(running, x_timeout_ms="5000").status == 200


@pytest.mark.slow
def test_a_gateway_that_finishes_answers_everything_that_it_has_taken(tmp_path: Path, upstream: Upstream) -> None:
    upstream.seconds = 0.1
    statuses, errors = list[int](), list[str]()

    def client(url: str) -> None:
        with requests.Session() as session:
            while True:
                try:
                    statuses.append(session.post(url, data=b"x", timeout=TIMEOUT_S).status_code)
                except requests.ConnectionError as error:
                    errors.append(str(error))
                    return

    with steered(tmp_path, upstream, WHOLE) as running, ThreadPoolExecutor(8) as clients:
        ended = [clients.submit(client, f"{running.address}/predict") for _ in range(8)]
        while len(statuses) < 20:
            time.sleep(0.05)
        running.finish()
        for one in ended:
            one.result()
    assert set(statuses) == {200}
    assert len(errors) == 8
    assert all("Connection refused" in error for error in errors)
