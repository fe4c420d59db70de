import json
from pathlib import Path
from typing import Any

import pytest
from requests import Response, Session

from scripts.console import UserError
from scripts.torchserve.client import Client
from scripts.torchserve.config import Addresses
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.tokens import REFUSED, Api, Tokens
from tests.unit.conftest import Answer, FakeTorchServe, described

KEYS = {
    "inference": {"key": "of-file", "expiration time": "2026-11-25T17:49:10Z"},
    "management": {"key": "managing", "expiration time": "2026-11-25T17:49:10Z"},
    "API": {"key": "renewing"},
}
REFUSAL = Answer({"code": 400, "type": REFUSED, "message": "Token Authorization failed."}, 400)
DESCRIBE = "GET /models/tiny/1.0"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key_file.json"
    path.write_text(json.dumps(KEYS))
    return path


def test_the_token_of_the_file_goes_along(key_file: Path) -> None:
    tokens = Tokens(key_file, {})
    assert tokens.headers("inference") == {"Authorization": "Bearer of-file"}
    assert tokens.headers("management") == {"Authorization": "Bearer managing"}
    assert tokens.renewal_headers() == {"Authorization": "Bearer renewing"}


def test_the_environment_comes_first_and_is_of_one_api(key_file: Path) -> None:
    tokens = Tokens(key_file, {"INFERENCE_TOKEN": "of-environment"})
    assert tokens.headers("inference") == {"Authorization": "Bearer of-environment"}
    assert tokens.headers("management") == {"Authorization": "Bearer managing"}
    assert (tokens.explicit("inference"), tokens.explicit("management")) == (True, False)


@pytest.mark.parametrize("content", [None, "", '{"inference": {"key'])
def test_a_file_that_is_not_written_yet_has_no_token(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key_file.json"
    if content is not None:
        path.write_text(content)
    assert Tokens(path, {}).headers("inference") == {}


def test_a_server_without_tokens_has_none() -> None:
    assert Tokens(None, {}).headers("inference") == {}
    with pytest.raises(UserError, match="no key file"):
        Tokens(None, {}).renewal_headers()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: .*; set the tokens in the environment"):
        Tokens(tmp_path, {}).headers("inference")  # a folder: root may read every file


@pytest.mark.parametrize(
    ("api", "environment", "message"),
    [
        ("inference", {"INFERENCE_TOKEN": "wrong"}, "refuses the token of INFERENCE_TOKEN"),
        ("management", {"MANAGEMENT_TOKEN": "wrong"}, "refuses the token of MANAGEMENT_TOKEN"),
        ("management", {}, r"valid until 2026-11-25T17:49:10Z; `make token API=management RENEW=1` renews it"),
    ],
)
def test_a_refused_token_says_where_it_came_from(
    key_file: Path, api: Api, environment: dict[str, str], message: str
) -> None:
    assert_matches(message, Tokens(key_file, environment).refusal(api))


def test_a_missing_token_says_where_it_belongs() -> None:
    assert_matches("the token of its management API into MANAGEMENT_TOKEN", Tokens(None, {}).refusal("management"))


ONE_PORT = "http://h:80"


@pytest.mark.parametrize(
    ("inference", "management", "metrics"),
    [
        (ONE_PORT, "http://h:8081", "http://h:8082"),
        ("http://h:8080", ONE_PORT, "http://h:8082"),
        ("http://h:8080", "http://h:8081", ONE_PORT),
        (ONE_PORT, ONE_PORT, ONE_PORT),
    ],
)
def test_every_call_carries_the_token_of_its_own_api(
    inference: str, management: str, metrics: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one address is the beginning of another, or all are one."""
    addresses = Addresses(
        inference=inference, management=management, metrics=metrics, grpc_inference="", grpc_management=""
    )
    client = Client(addresses, key_file=key_file)
    sent: list[tuple[str, str | None]] = []

    def answer(_: Session, method: str, url: str, **options: Any) -> Response:
        sent.append((f"{method} {url}", options["headers"].get("Authorization")))
        answered = Response()
        answered.status_code, answered._content = 200, b'{"status": "", "models": []}'
        return answered

    monkeypatch.setattr(Session, "request", answer)
    monkeypatch.setattr(client, "wait_ready", lambda *_: None)
    client.ping()
    client.predict(b"", "tiny")
    client.versions()
    client.register("x.mar", "tiny", "1.0")
    client.scale("tiny", 1, "1.0")
    client.set_default("tiny", "1.0")
    client.unregister("tiny", "1.0")
    client.renew_token("inference")
    client.metrics()
    asking, managing, renewing = "Bearer of-file", "Bearer managing", "Bearer renewing"
    assert sent == [
        (f"GET {inference}/ping", asking),
        (f"POST {inference}/predictions/tiny", asking),
        (f"GET {management}/models", managing),
        (f"POST {management}/models", managing),
        (f"PUT {management}/models/tiny/1.0", managing),
        (f"PUT {management}/models/tiny/1.0/set-default", managing),
        (f"DELETE {management}/models/tiny/1.0", managing),
        (f"GET {management}/token", renewing),
        (f"GET {metrics}/metrics", None),
    ]


def assert_matches(part: str, text: str) -> None:
    assert part in text


def test_the_client_says_the_refusal(torchserve: FakeTorchServe, key_file: Path) -> None:
    torchserve.answers = {"GET /ping": [REFUSAL]}
    with pytest.raises(RequestFailedError, match="valid until") as caught:
        Client(torchserve.addresses, key_file=key_file).ping()
    assert (caught.value.status, caught.value.code) == (400, REFUSED)


def test_waiting_ends_at_once_when_the_environments_token_is_refused(
    torchserve: FakeTorchServe, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANAGEMENT_TOKEN", "of another server")
    torchserve.answers = {DESCRIBE: [REFUSAL]}
    client = Client(torchserve.addresses, key_file=key_file)
    with pytest.raises(RequestFailedError, match="MANAGEMENT_TOKEN"):
        client.wait_ready([("tiny", "1.0")], deadline_s=60)


def test_waiting_goes_on_while_the_file_is_not_written_yet(torchserve: FakeTorchServe, tmp_path: Path) -> None:
    torchserve.answers = {DESCRIBE: [REFUSAL, REFUSAL, Answer([described("1.0", "READY")])]}
    Client(torchserve.addresses, key_file=tmp_path / "later.json").wait_ready([("tiny", "1.0")], deadline_s=60)
    assert torchserve.questions() == [DESCRIBE] * 3


def test_a_new_token_is_asked_for_with_the_key_for_that(torchserve: FakeTorchServe, key_file: Path) -> None:
    renew = "GET /token?type=inference"
    torchserve.answers = {renew: [Answer({})]}
    Client(torchserve.addresses, key_file=key_file).renew_token("inference")
    (asked,) = torchserve.asked
    assert (asked.what, asked.headers["Authorization"]) == (renew, "Bearer renewing")
