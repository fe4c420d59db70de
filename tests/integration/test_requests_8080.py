"""Requests that are no good HTTP: each gets what docs/requests.md says, and nobody else notices."""

from collections.abc import Iterator

import pytest
from classifier.recipe import read_recipe

from scripts.shipping.openapi import RECIPES
from scripts.torchserve.server import Server
from tests.integration.contract import LITE0
from tests.integration.raw_http import CAT, PREDICT, connect, exchange, nothing_lost, read_answer, request

BAD_REQUEST, NOT_FOUND = "BadRequestException", "ModelNotFoundException"
CHUNKED = "Transfer-Encoding: chunked"
VERSION = read_recipe(RECIPES / f"{LITE0}.yaml").archives[0].version


@pytest.fixture(scope="module", autouse=True)
def unharmed(server: Server, cat: bytes) -> Iterator[None]:
    with nothing_lost(server, cat):
        yield


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, BAD_REQUEST),
        (b"GET /ping\r\n\r\n", 400, BAD_REQUEST),
        (b"GET\r\n\r\n", 400, BAD_REQUEST),
        (request(method="POST " + "x" * 5000), 400, BAD_REQUEST),
        (request(path="/predictions/" + "x" * 5000), 400, BAD_REQUEST),
        (request(b"", "X-Long: " + "x" * 9000), 400, BAD_REQUEST),
        (request(b"", *[f"X-{number}: x" for number in range(3000)]), 400, BAD_REQUEST),
        (request(b"", "X Y: x"), 400, BAD_REQUEST),
        (request(b"", "no colon"), 400, BAD_REQUEST),
        (request(b"", "X-Top-K: 1\x00"), 400, BAD_REQUEST),
        (request(b"", "X-Top-K: 1\rX-Injected: 1"), 400, BAD_REQUEST),
        (request(b"x", "Content-Length: five", length=False), 400, BAD_REQUEST),
        (request(b"x", f"Content-Length: {10**20}", length=False), 400, BAD_REQUEST),
        (request(b"xyz", "Content-Length: 3", "Content-Length: 5", length=False), 400, BAD_REQUEST),
        (request(b"xyz", "Content-Length: -1", length=False), 400, "empty_body"),
        (request(length=False), 400, "empty_body"),
        (request(b"xyz", "Transfer-Encoding: gzip", length=False), 400, "empty_body"),
        (request(b"zz\r\nabc\r\n0\r\n\r\n", CHUNKED, length=False), 400, BAD_REQUEST),
        (request(b"-5\r\nabc\r\n0\r\n\r\n", CHUNKED, length=False), 0, ""),
        (request(b"3\r\nabc\r\n0\r\n\r\n", CHUNKED, length=False), 415, "not_an_image"),
        (request(b"3\r\nabc\r\n0\r\n\r\n", CHUNKED, "Content-Length: 2", length=False), 415, "not_an_image"),
        (request(b"abc", "Expect: the unexpected"), 417, ""),
        (request(b"", f"Content-Length: {30_000_000}", "Expect: 100-continue", length=False), 413, ""),
        (request(b"abc", "Accept: " + "a/b;q=9," * 900), 415, "not_an_image"),
        (request(b"abc", "Host: y", "Upgrade: h2c", "Connection: Upgrade"), 415, "not_an_image"),
        (request(b"", "X-Top-K: \xff\xfe"), 400, "bad_parameter"),
        (request(b"", "X-Top-K: 1\r\n folded"), 400, "bad_parameter"),
        # TorchServe's own mistakes: no index is checked
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 500, "ArrayIndexOutOfBoundsException"),
        (request(method="OPTIONS", path="*"), 500, "ArrayIndexOutOfBoundsException"),
        (request(path="predictions"), 500, "ArrayIndexOutOfBoundsException"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_what_is_no_http_is_refused(server: Server, data: bytes, status: int, code: str) -> None:
    answer = exchange(server, data)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("head", ["HTTP/1.0", "HTTP/9.9"])
def test_versions_of_http_are_not_looked_at(server: Server, cat: bytes, head: str) -> None:
    assert exchange(server, request(cat).replace(b"HTTP/1.1", head.encode(), 1)).content["class"] == CAT


def test_continue_is_said_to_those_who_wait_for_it(server: Server, cat: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(request(cat, "Expect: 100-continue").removesuffix(cat))
        received = connection.recv(1000)
        assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(cat)
        assert read_answer(connection).content["class"] == CAT


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "TRACE", "CONNECT", "BREW", "post"])
def test_any_method_is_taken_for_post(server: Server, cat: bytes, method: str) -> None:
    if method == "HEAD":
        assert exchange(server, request(method=method)).status in (0, 400)  # a length, and no body
    else:
        assert exchange(server, request(cat, method=method)).content["class"] == CAT
        assert exchange(server, request(method=method)).code == "empty_body"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/", 405, "MethodNotAllowedException"),
        *((path, 404, "ResourceNotFoundException") for path in ("/predictions", "/predictions//", "//predictions/x")),
        *((path, 404, "ResourceNotFoundException") for path in ("/models", "/metrics", "/workflows", "/favicon.ico")),
        (f"http://elsewhere{PREDICT}", 404, "ResourceNotFoundException"),
        ("/predictions/nobody", 404, NOT_FOUND),
        ("/predictions/%00", 404, NOT_FOUND),
        ("/predictions/%ff", 404, NOT_FOUND),
        ("/predictions/caf%C3%A9", 404, NOT_FOUND),
        ("/predictions/\xff", 404, NOT_FOUND),
        ("/predictions/" + "x" * 3900, 404, NOT_FOUND),
        (f"/predictions/%2e%2e/{LITE0}", 404, NOT_FOUND),
        (f"/predictions/..%2f{LITE0}", 404, NOT_FOUND),
        (f"{PREDICT};x=1", 404, NOT_FOUND),
        ("/predictions/%zz", 403, "IllegalArgumentException"),
        *((f"{PREDICT}/{v}", 404, "ModelVersionNotFoundException") for v in ("9.9", "-1", "1", "1.00", "%2e%2e", "..")),
        *(
            (f"{PREDICT}{rest}", 415, "not_an_image")
            for rest in ("/", "//", f"/{VERSION}", f"/{VERSION}/x", "?top_k=0")
        ),
        (f"{PREDICT}%2f{VERSION}", 415, "not_an_image"),
        ("/v2/models//infer", 404, NOT_FOUND),
        ("/v1/models/:predict", 404, NOT_FOUND),
        (f"/models/{LITE0}/invoke?top_k=0", 400, "bad_parameter"),
        (f"/models/{LITE0}/invoke?top_k=five", 400, "bad_parameter"),
    ],
    ids=lambda value: value[:40].encode("unicode_escape").decode() if isinstance(value, str) else None,
)
def test_a_path_leads_to_a_model_or_nowhere(server: Server, path: str, status: int, code: str) -> None:
    answer = exchange(server, request(b"abc", path=path))
    assert (answer.status, answer.code) == (status, code)


def test_a_request_id_is_torchserves_own(server: Server) -> None:
    """So that nobody writes into the log under the id of somebody else."""
    with connect(server) as connection:
        connection.sendall(request(b"abc", "X-Request-Id: forged"))
        head = connection.recv(1 << 16).partition(b"\r\n\r\n")[0].lower()
    assert b"x-request-id: " in head
    assert b"forged" not in head


KSERVE = f"/v2/models/{LITE0}"


@pytest.mark.parametrize("name", ["explain", "Explain", "EXPLAIN", "explaiN"])
@pytest.mark.parametrize("path", [PREDICT, f"{PREDICT}/{VERSION}", f"/v1/models/{LITE0}:predict", f"{KSERVE}/infer"])
def test_a_clients_own_mark_buys_no_explanation(server: Server, cat: bytes, path: str, name: str) -> None:
    """TorchServe marks a row of `/explanations` with a header, whose name a client may use too, in any case."""
    marked = [f"{name}: True", f"{name}: True", "url_path: "]
    answer = exchange(server, request(cat, *marked, path=path))
    assert answer.content["class"] == CAT
    assert answer.content.keys() == {"class", "probability", "predictions", "model"}


@pytest.mark.parametrize("name", ["explain", "Explain", "EXPLAIN", "explaiN"])
@pytest.mark.parametrize("path", [f"/explanations/{LITE0}", f"/v1/models/{LITE0}:explain", f"{KSERVE}/explain"])
def test_a_clients_own_mark_costs_no_explanation(server: Server, cat: bytes, path: str, name: str) -> None:
    answer = exchange(server, request(cat, f"{name}: False", path=path))
    assert (answer.content["class"], answer.content["method"]) == (CAT, "grad_cam")


@pytest.mark.parametrize("path", [f"/models/{LITE0}/invoke", f"/invocations?model_name={LITE0}", f"/{LITE0}/predict"])
def test_where_torchserve_marks_nothing_the_clients_mark_is_the_only_one(server: Server, cat: bytes, path: str) -> None:
    """docs/requests.md says so: who closes `/explanations` must close these too."""
    assert exchange(server, request(cat, "Explain: True", path=path)).content.keys() >= {"predictions"}
    assert exchange(server, request(cat, "explain: True", path=path)).content["method"] == "grad_cam"
