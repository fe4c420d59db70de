"""Bodies that are no picture and no JSON of the contract's: forms, media types, base64, sizes."""

import base64
import gzip
import json
from collections.abc import Iterator

import pytest

from scripts.torchserve.config import CONFIG_FILE, read_config
from scripts.torchserve.server import Server
from tests.integration.contract import LITE0
from tests.integration.raw_http import CAT, Answer, exchange, nothing_lost, request

FORM = "Content-Type: multipart/form-data; boundary=XX"
JSON = "Content-Type: application/json"
URLENCODED = "Content-Type: application/x-www-form-urlencoded"
DATA = b'Content-Disposition: form-data; name="data"; filename="a.png"\r\nContent-Type: image/png'
UNREADABLE = "ErrorDataDecoderException"  # TorchServe calls it its own fault; the gateway refuses such forms
LIMIT = int(read_config(CONFIG_FILE)["max_request_size"])


@pytest.fixture(scope="module", autouse=True)
def unharmed(server: Server, cat: bytes) -> Iterator[None]:
    with nothing_lost(server, cat):
        yield


def field(name: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%s"' % name


def form(*parts: tuple[bytes, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    """Parts, each a head and a content."""
    return b"".join(b"--XX\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts) + end


def outcome(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code or answer.content["class"]


# What each form gets, with the photograph of a cat in it where it says PICTURE
PICTURE = b"<the photograph>"
FORMS: dict[str, tuple[bytes, int, str]] = {
    "a file": (form((DATA, PICTURE)), 200, CAT),
    "a field": (form((field(b"data"), PICTURE)), 200, CAT),
    "another name": (form((field(b"picture"), PICTURE)), 400, "empty_body"),
    "nothing": (b"", 400, "empty_body"),
    "only an end": (b"--XX--\r\n", 400, "empty_body"),
    "an empty part": (form((DATA, b"")), 400, "empty_body"),
    "no end": (form((DATA, b"abc"), end=b"")[:-10], 400, "empty_body"),
    "another boundary": (form((DATA, PICTURE)).replace(b"--XX", b"--YY"), 400, "empty_body"),
    "two pictures": (form((DATA, PICTURE), (field(b"file"), b"abc")), 400, "several_pictures"),
    "two pictures of one name": (form((DATA, PICTURE), (DATA, PICTURE)), 400, "several_pictures"),
    "three of one name": (form((DATA, b"abc"), (DATA, PICTURE), (DATA, b"")), 400, "several_pictures"),
    "a file that nobody chose": (form((DATA, PICTURE), (field(b"file"), b"")), 200, CAT),
    "the same, of one name": (form((DATA, PICTURE), (DATA, b"")), 200, CAT),
    "top_k five": (form((DATA, PICTURE), (field(b"top_k"), b"five")), 400, "bad_parameter"),
    "top_k twice": (form((DATA, PICTURE), *[(field(b"top_k"), b"2")] * 2), 400, "bad_parameter"),
    "top_k in no encoding": (form((DATA, PICTURE), (field(b"top_k"), b"\xff\xfe")), 400, "bad_parameter"),
    "a header's name": (form((DATA, PICTURE), (field(b"describe"), b"True")), 200, CAT),
    "a header's name for top_k": (form((DATA, PICTURE), (field(b"X-Top-K"), b"2")), 400, "bad_parameter"),
    "a name of a megabyte": (form((DATA, PICTURE), (field(b"x" * 1_000_000), b"")), 200, CAT),
    "a name in no encoding": (form((DATA, PICTURE), (field(b"\xff\xfe\x00"), b"")), 200, CAT),
    "a thousand fields": (form((DATA, PICTURE), *[(field(b"f%d" % i), b"") for i in range(1000)]), 200, CAT),
    "a path for a file name": (form((DATA.replace(b"a.png", b"../../etc/passwd"), PICTURE)), 200, CAT),
    "JSON in a field": (form((field(b"data"), b'{"instances": 5}')), 400, "bad_json"),
    "no name": (form((b"Content-Disposition: form-data", PICTURE)), 500, UNREADABLE),
    "no disposition": (form((b"X: y", PICTURE)), 500, UNREADABLE),
    "an empty name": (form((field(b""), PICTURE)), 500, UNREADABLE),
    "a transfer encoding": (form((DATA + b"\r\nContent-Transfer-Encoding: base64", PICTURE)), 500, UNREADABLE),
    "an unknown charset": (form((field(b"data") + b"\r\nContent-Type: text/plain; charset=x", b"")), 500, UNREADABLE),
    "a form in a form, without boundary": (
        form((field(b"data") + b"\r\nContent-Type: multipart/mixed", b"")),
        500,
        "ArrayIndexOutOfBoundsException",
    ),
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_is_read_or_refused(server: Server, cat: bytes, kind: str) -> None:
    body, status, code = FORMS[kind]
    assert outcome(exchange(server, request(body.replace(PICTURE, cat), FORM))) == (status, code)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (form((DATA, b"abc")), ["Content-Type: multipart/form-data"], 415, "not_an_image"),
        (form((DATA, b"abc")), ["Content-Type: multipart/mixed; boundary=XX"], 415, "not_an_image"),
        (b"\xff\xd8\xff", [URLENCODED], 400, "empty_body"),
        (b"data=%zz", [URLENCODED], 500, UNREADABLE),
        (b"&=&=&", [URLENCODED], 500, UNREADABLE),
        (b"data=abc", [URLENCODED], 415, "not_an_image"),
        (b"data=abc&top_k=0", [URLENCODED], 400, "bad_parameter"),
        (b'{"instances":[{"b64":"aaaa"}]}', [URLENCODED], 400, "empty_body"),
        (b'{"instances":[{"b64":"aaa="}]}', [URLENCODED], 400, "empty_body"),
        (b"abc", [JSON], 400, "bad_json"),
        (b"abc", ["Content-Type: image/png", JSON], 400, "bad_json"),
        (b"abc", ["Content-Type: ;;/="], 415, "not_an_image"),
        (b"abc", ["Content-Type:"], 415, "not_an_image"),
        (gzip.compress(b"abc", mtime=0), ["Content-Encoding: gzip"], 415, "not_an_image"),  # nothing is unpacked
        (b"x" * LIMIT, [], 415, "not_an_image"),
        (b"x" * (LIMIT + 1), [], 413, ""),
        (b"{" + b" " * (LIMIT - 1), [], 400, "bad_json"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes | list) else None,
)
def test_a_media_type_says_how_to_read(server: Server, body: bytes, headers: list[str], status: int, code: str) -> None:
    answer = exchange(server, request(body, *headers))
    assert (answer.status, answer.code) == (status, code)
    if code == "empty_body" and headers == [URLENCODED]:
        assert "curl -T <file>" in answer.content["detail"]


def one(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


BASE64 = {
    "": "empty_body",
    "%%%": "bad_base64",
    "QUJ": "not_an_image",
    "QUJDR": "bad_base64",
    "QUI=QUJD": "bad_base64",
    "QUJD QUJD": "bad_base64",
    "QUJD\nQUJD": "not_an_image",
    "QUJD_-QU": "not_an_image",
    "QUJD_+QU": "bad_base64",
    "data:image/png;base64,QUJD": "not_an_image",
    "data:image/png,QUJD": "bad_base64",
    "QUJD\u00e9": "bad_base64",
    "QUJD\x00": "bad_base64",
    "QUJD": "not_an_image",
}


def test_base64_of_every_shape_beside_a_picture(server: Server, cat: bytes) -> None:
    body = json.dumps({"instances": [{"b64": text} for text in [one(cat), *BASE64]]}).encode()
    first, *others = exchange(server, request(body, JSON)).content["instances"]
    assert first["class"] == CAT
    assert [other["code"] for other in others] == list(BASE64.values())


@pytest.mark.parametrize(
    "text",
    [
        *(f'{{"instances": {value}}}' for value in ("5", '"x"', "null", "{}", "true", "[5]", "[null]", "[[]]", "[{}]")),
        *(f'{{"instances": [{{"b64": {value}}}]}}' for value in ("5", "null", '["QUJD"]', '"\\ud800"')),
        *(f'{{"instances": {number}}}' for number in ("NaN", "Infinity", "1e999999999", "01", "9" * 1_000_000)),
        *("", "[", "{", "{}", "null", "{'instances': []}", '/**/{"instances": []}', '{"instances": []}{}'),
        *("[" * 100_000, '{"instances":' * 100_000, '{"x":' * 100_000),
    ],
    ids=lambda text: repr(text[:30]),
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_of_no_documented_shape(server: Server, text: str, encoding: str) -> None:
    answer = exchange(server, request(text.encode(encoding), JSON))
    assert (answer.status, answer.code) == (400, "bad_json" if text or encoding != "utf-8" else "empty_body")


@pytest.mark.parametrize("count", [65, 10_000, 1_000_000])
def test_too_many_pictures_are_counted_before_any_is_read(server: Server, count: int) -> None:
    body = b'{"instances":[' + b",".join([b'{"b64":"x"}'] * count) + b"]}"
    answer = exchange(server, request(body, JSON))
    assert (answer.status, answer.code) == (413, "too_many_instances")


TENSOR = {"name": "", "shape": [1], "datatype": "BYTES", "data": ["QUJD"]}


@pytest.mark.parametrize("top_k", ["0", "-1", "1000000000", '"five"', "5.0", "true", '""', '" 5"', "9" * 30])
def test_top_k_of_protocol_v2_in_every_broken_shape(server: Server, top_k: str) -> None:
    body = json.dumps({"parameters": {"top_k": 0}, "inputs": [TENSOR]}).replace('"top_k": 0', f'"top_k": {top_k}')
    answer = exchange(server, request(body.encode(), JSON, path=f"/v2/models/{LITE0}/infer"))
    assert (answer.status, answer.code) == (400, "bad_parameter")


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": [2]},
        {"shape": [-2]},
        {"shape": [10**30]},
        {"shape": [1.5]},
        {"data": None},
        {"datatype": "x" * 1_000_000},
    ],
    ids=lambda wrong: repr(wrong)[:30],
)
def test_a_tensor_of_another_shape(server: Server, wrong: dict[str, object]) -> None:
    body = json.dumps({"inputs": [TENSOR | wrong]}).encode()
    answer = exchange(server, request(body, JSON, path=f"/v2/models/{LITE0}/infer"))
    assert (answer.status, answer.code) == (400, "bad_json")


def test_an_id_that_would_make_the_answer_too_long_for_the_front_end(server: Server) -> None:
    """It cost the worker its life, and its neighbours their answers: see test_answer_sizes.py."""
    frame = json.dumps({"id": "", "parameters": {"top_k": 1000}, "inputs": [TENSOR]})
    body = frame.replace('"id": ""', f'"id": "{"x" * (LIMIT - len(frame))}"').encode()
    answer = exchange(server, request(body, JSON, path=f"/v2/models/{LITE0}/infer"))
    assert (len(body), answer.status, answer.code) == (LIMIT, 400, "bad_json")
