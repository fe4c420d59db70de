import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from scripts.torchserve.client import Client
from scripts.torchserve.described import ModelVersion
from scripts.torchserve.failures import RequestFailedError, failure_of
from tests.unit.conftest import HANG_UP, Answer, FakeTorchServe, StartServer, described, predicted

Call = Callable[[Client], Any]


@pytest.fixture
def client(torchserve: FakeTorchServe) -> Client:
    return Client(torchserve.addresses, connect_retries=0)


def test_a_picture_goes_as_the_body_and_its_answer_comes_back(client: Client, torchserve: FakeTorchServe) -> None:
    torchserve.answers["POST /predictions/tiny"] = [Answer(predicted())]
    assert client.predict(b"\x89PNG", "tiny") == predicted()
    (asked,) = torchserve.asked
    assert asked.body == b"\x89PNG"
    assert asked.headers["X-Top-K"] is None
    assert asked.headers["X-Answers"] == "full"  # also of a server that answers its clients in another form


def test_the_number_of_classes_goes_as_a_header_and_the_version_in_the_path(
    client: Client, torchserve: FakeTorchServe
) -> None:
    torchserve.answers["POST /predictions/tiny/2.0"] = [Answer(predicted())]
    client.predict(b"x", "tiny", version="2.0", top_k=3)
    assert torchserve.asked[0].headers["X-Top-K"] == "3"


def test_the_default_version_is_the_one_that_answers_for_the_model(client: Client, torchserve: FakeTorchServe) -> None:
    torchserve.answers = {
        "GET /models?next_page_token=0": [Answer({"models": [{"modelName": "a"}, {"modelName": "b"}]})],
        "GET /models/a": [Answer([described("2.0", model="a")])],
        "GET /models/b": [Answer([described("1.0", model="b")])],
    }
    assert client.defaults() == {"a": "2.0", "b": "1.0"}


def test_all_versions_of_all_models_come_from_all_pages(client: Client, torchserve: FakeTorchServe) -> None:
    torchserve.answers = {
        "GET /models?next_page_token=0": [Answer({"nextPageToken": "2", "models": [{"modelName": "a"}]})],
        "GET /models?next_page_token=2": [Answer({"models": [{"modelName": "b"}]})],
        "GET /models/a/all": [Answer([described("1.0", "READY", model="a"), described("2.0", model="a")])],
        "GET /models/b/all": [Answer([described("1.0", "READY", "UNLOADING", model="b", minimum=2)])],
    }
    assert [(item.name, item.version, item.workers, item.min_workers, item.archive) for item in client.versions()] == [
        ("a", "1.0", ["READY"], 1, "a-eager-1.0.mar"),
        ("a", "2.0", [], 1, "a-eager-2.0.mar"),
        ("b", "1.0", ["READY", "UNLOADING"], 2, "b-eager-1.0.mar"),
    ]


def test_the_versions_of_one_model_need_no_list(client: Client, torchserve: FakeTorchServe) -> None:
    torchserve.answers["GET /models/tiny/all"] = [Answer([described("1.0", "READY")])]
    assert [item.version for item in client.versions("tiny")] == ["1.0"]
    assert torchserve.questions() == ["GET /models/tiny/all"]


@pytest.mark.parametrize(
    ("workers", "minimum", "ready"),
    [
        (["READY"], 1, True),
        (["READY", "READY"], 1, True),
        (["READY", "UNLOADING"], 1, False),
        (["READY"], 2, False),
        (["UNLOADING"], 1, False),
        ([], 1, False),
        ([], 0, False),  # scaled down to nothing: nobody answers
        (["READY"], 0, False),
    ],
)
def test_ready_is_every_worker_that_should_be_there(workers: list[str], minimum: int, ready: bool) -> None:
    version = ModelVersion(name="tiny", version="1.0", archive="x.mar", workers=workers, min_workers=minimum)
    assert version.ready is ready


DONE = [Answer({"status": "done"})]


@pytest.mark.parametrize(
    ("call", "question", "answers", "result"),
    [
        (lambda client: client.ping(), "GET /ping", [Answer({"status": "Healthy"})], {"status": "Healthy"}),
        (lambda client: client.set_default("tiny", "2.0"), "PUT /models/tiny/2.0/set-default", DONE, "done"),
        (lambda client: client.unregister("tiny", "2.0"), "DELETE /models/tiny/2.0", DONE, "done"),
        (lambda client: client.unregister("a/b ?"), "DELETE /models/a%2Fb%20%3F", DONE, "done"),
        (
            lambda client: client.describe("tiny", "1.0"),
            "GET /models/tiny/1.0?customized=true",
            [Answer([{"customizedMetadata": "yes"}])],
            {"customizedMetadata": "yes"},
        ),
        (
            lambda client: client.metrics(),
            "GET /metrics",
            [Answer(b"ts_up 1\n", content_type="text/plain")],
            "ts_up 1\n",
        ),
    ],
)
def test_what_is_asked_and_what_comes_back(
    call: Call, question: str, answers: list[Answer], result: object, client: Client, torchserve: FakeTorchServe
) -> None:
    torchserve.answers[question] = answers
    assert call(client) == result
    assert torchserve.questions() == [question]


PROBLEM = {"type": "urn:x", "title": "No picture", "status": 415, "code": "not_an_image", "detail": "none begins so"}


@pytest.mark.parametrize(
    ("answer", "status", "code", "message"),
    [
        (
            Answer(PROBLEM, 415, "application/problem+json"),
            415,
            "not_an_image",
            "none begins so (415 not_an_image)",
        ),
        (
            Answer({"code": 503, "type": "ServiceUnavailableException", "message": "Queue is full"}, 503),
            503,
            "ServiceUnavailableException",
            "Queue is full (503 ServiceUnavailableException)",
        ),
        (Answer(b"<h1>Bad Gateway</h1>", 502, "text/html"), 502, "", "<h1>Bad Gateway</h1> (not JSON)"),
        (Answer(b"", 500, "text/plain"), 500, "", "Internal Server Error (not JSON)"),
        (Answer(["odd"], 400), 400, "", "['odd'] (400 )"),
    ],
)
def test_an_error_carries_status_code_and_words(
    answer: Answer, status: int, code: str, message: str, client: Client, torchserve: FakeTorchServe
) -> None:
    torchserve.answers["POST /predictions/tiny"] = [answer]
    with pytest.raises(RequestFailedError) as caught:
        client.predict(b"x", "tiny")
    assert (caught.value.status, caught.value.code, str(caught.value)) == (status, code, message)


def test_a_problem_that_came_by_another_way_is_the_same_error() -> None:
    error = failure_of(415, PROBLEM)
    assert (error.status, error.code, str(error)) == (415, "not_an_image", "none begins so (415 not_an_image)")


def test_nothing_is_sent_twice_when_the_connection_breaks(torchserve: FakeTorchServe) -> None:
    torchserve.answers["POST /predictions/tiny"] = [HANG_UP]
    with pytest.raises(RequestFailedError) as caught:
        Client(torchserve.addresses, connect_retries=3).predict(b"picture", "tiny")
    assert caught.value.status == 0
    assert [asked.body for asked in torchserve.asked] == [b"picture"]


@pytest.mark.parametrize("answer", [Answer({"status": "done"}, cut=5), Answer(b"<h1>not TorchServe</h1>")])
def test_an_answer_that_is_none_is_a_failed_request(answer: Answer, client: Client, torchserve: FakeTorchServe) -> None:
    torchserve.answers["DELETE /models/tiny"] = [answer]
    with pytest.raises(RequestFailedError):
        client.unregister("tiny")


def test_no_server_is_said_with_what_to_do(torchserve: FakeTorchServe, refusing_address: str) -> None:
    nowhere = replace(torchserve.addresses, inference=refusing_address)
    with pytest.raises(RequestFailedError, match=r"nothing answers at .*/ping; is the server running\?") as caught:
        Client(nowhere, connect_retries=0).ping()
    assert (caught.value.status, caught.value.code) == (0, "unreachable")


@pytest.fixture
def silent_server(web_server: StartServer) -> Iterator[tuple[str, list[str]]]:
    """A server that takes requests and never answers: its address, and the requests it took."""
    released = threading.Event()
    taken: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _wait(self) -> None:
            taken.append(self.command)
            released.wait(30)

        do_GET = do_POST = do_PUT = _wait  # noqa: N815 - the names that http.server looks for

    yield web_server(Handler), taken
    released.set()


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("GET", lambda client: client.ping()),
        ("POST", lambda client: client.predict(b"x", "tiny")),
        ("PUT", lambda client: client.scale("tiny", 2)),
    ],
)
def test_a_late_answer_is_a_timeout_and_the_request_was_sent_once(
    method: str, call: Call, silent_server: tuple[str, list[str]], torchserve: FakeTorchServe
) -> None:
    address, taken = silent_server
    addresses = replace(torchserve.addresses, inference=address, management=address)
    with pytest.raises(RequestFailedError, match="did not answer within") as caught:
        call(Client(addresses, timeout_s=0.2))
    assert (caught.value.status, caught.value.code) == (0, "timeout")
    assert taken == [method]


LOADING, LOADED = Answer([described("2.0", "UNLOADING")]), Answer([described("2.0", "READY")])
ACCEPTED = [Answer({"status": "Processing worker updates..."}, 202)]


@pytest.mark.parametrize(
    ("call", "question", "waits"),
    [
        (
            lambda client: client.register("tiny-eager-2.0.mar", "tiny", "2.0"),
            "POST /models?url=tiny-eager-2.0.mar&initial_workers=1&synchronous=false",
            ["GET /models/tiny/2.0"] * 2,
        ),
        (
            lambda client: client.scale("tiny", 2, "2.0"),
            "PUT /models/tiny/2.0?min_worker=2&max_worker=2&synchronous=false",
            ["GET /models/tiny/2.0"] * 2,
        ),
        (
            lambda client: client.scale("tiny", 2),
            "PUT /models/tiny?min_worker=2&max_worker=2&synchronous=false",
            ["GET /models/tiny", *["GET /models/tiny/2.0"] * 2],
        ),
        (
            lambda client: client.scale("tiny", 0, "2.0"),
            "PUT /models/tiny/2.0?min_worker=0&max_worker=0&synchronous=false",
            [],
        ),
    ],
)
def test_new_workers_are_waited_for_here_not_in_torchserve_whose_thread_other_clients_need(
    call: Call, question: str, waits: list[str], client: Client, torchserve: FakeTorchServe
) -> None:
    torchserve.answers = {
        question: ACCEPTED,
        "GET /models/tiny": [LOADED],
        "GET /models/tiny/2.0": [LOADING, LOADED],
    }
    call(client)
    assert torchserve.questions() == [question, *waits]


def test_what_is_found_while_workers_load_ends_the_wait(client: Client, torchserve: FakeTorchServe) -> None:
    def check() -> None:
        if len(torchserve.asked) > 2:
            raise ArithmeticError("it will never load")

    torchserve.answers = {
        "POST /models?url=x.mar&initial_workers=1&synchronous=false": ACCEPTED,
        "GET /models/tiny/2.0": [LOADING],
    }
    with pytest.raises(ArithmeticError):
        client.register("x.mar", "tiny", "2.0", check)


def test_waiting_ends_when_every_version_was_ready_once(client: Client, torchserve: FakeTorchServe) -> None:
    loading, ready = Answer([described("1.0", "UNLOADING")]), Answer([described("1.0", "READY")])
    torchserve.answers = {
        "GET /models/a/1.0": [ready, loading],
        "GET /models/b/1.0": [Answer({"code": 404}, 404), loading, ready],
    }
    checks: list[int] = []
    client.wait_ready([("a", "1.0"), ("b", "1.0")], 30, lambda: checks.append(len(torchserve.asked)))
    assert torchserve.questions() == ["GET /models/a/1.0", *["GET /models/b/1.0"] * 3]
    assert checks == [0, 2, 3]


def test_waiting_for_nothing_ends_at_once(client: Client) -> None:
    client.wait_ready([], 0)


def test_waiting_ends_at_the_deadline_and_names_who_is_missing(client: Client, torchserve: FakeTorchServe) -> None:
    torchserve.answers["GET /models/a/1.0"] = [Answer([described("1.0", "READY")])]
    with pytest.raises(TimeoutError, match=r"^b 2\.0, c 1: no READY worker after 0 s$"):
        client.wait_ready([("a", "1.0"), ("b", "2.0"), ("c", "1")], 0)


def test_waiting_ends_when_the_check_has_seen_enough(client: Client) -> None:
    def check() -> None:
        raise RuntimeError("the server died")

    with pytest.raises(RuntimeError, match="died"):
        client.wait_ready([("a", "1.0")], 30, check)


def test_each_api_gets_its_own_token_read_anew_each_time(torchserve: FakeTorchServe, tmp_path: Path) -> None:
    torchserve.answers["GET /ping"] = [Answer({"status": "Healthy"})]
    key_file = tmp_path / "key_file.json"
    addresses = replace(torchserve.addresses, management=f"{torchserve.address}/management")
    client = Client(addresses, key_file=key_file)
    client.ping()  # before the server has written any
    key_file.write_text('{"inference": {"key')
    client.ping()  # while it writes them
    for key in ("first", "second"):
        key_file.write_text(json.dumps({"inference": {"key": key}, "management": {"key": f"{key}-managing"}}))
        client.ping()
        with pytest.raises(RequestFailedError):
            client.set_default("tiny", "1.0")
    sent = [asked.headers["Authorization"] for asked in torchserve.asked]
    assert sent == [None, None, "Bearer first", "Bearer first-managing", "Bearer second", "Bearer second-managing"]


def test_the_type_of_one_body_is_not_that_of_the_next(client: Client, torchserve: FakeTorchServe) -> None:
    torchserve.answers["POST /predictions/tiny"] = [Answer({"predictions": []})]
    client.predict(b"{}", "tiny", content_type="application/json")
    client.predict(b"a picture", "tiny")
    assert [asked.headers["Content-Type"] for asked in torchserve.asked] == ["application/json", None]
