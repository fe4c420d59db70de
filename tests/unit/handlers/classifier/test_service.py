import base64
import gc
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from classifier import pipeline, service
from classifier.description import describe
from classifier.pipeline import Classifier
from classifier.problems import MEDIA_TYPE, Problem
from classifier.responses import JSON, Response
from classifier.runtimes import Forward
from classifier.service import Request, answer, answer_explanation
from numpy.typing import NDArray

SECRET = "/secret/path/of/the/weights"  # noqa: S105 - what an exception may say, and an answer may not


def b64(image: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(image).decode()}


def as_json(*images: bytes) -> bytes:
    return json.dumps({"instances": [b64(image) for image in images]}).encode()


def ask(classifier: Classifier, *bodies: object, **parameters: str) -> list[Response]:
    """The answers to a batch of requests, all with the same parameters."""
    requests = [
        Request(body=body, parameters=parameters, request_id=f"request-{index}") for index, body in enumerate(bodies)
    ]
    responses = answer(classifier, requests)
    assert len(responses) == len(requests)
    return responses


def read(response: Response) -> Any:
    """The content of an answer that is none of the problems."""
    assert (response.status, response.content_type) == (200, JSON)
    return json.loads(response.body)


def problem_code(response: Response) -> str:
    """The code of an answer that is a problem."""
    content = json.loads(response.body)
    assert response.content_type == MEDIA_TYPE == "application/problem+json"
    assert content["status"] == response.status
    assert set(content) == {"type", "title", "status", "code", "detail"}
    code: str = content["code"]
    return code


def assert_refused(responses: Sequence[Response], status: int, code: str) -> None:
    assert [(response.status, problem_code(response)) for response in responses] == [(status, code)] * len(responses)


def fail(_: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise RuntimeError(SECRET)


def test_a_picture_is_answered_as_the_contract_says(tiny: Classifier, cat: bytes) -> None:
    content = read(ask(tiny, cat)[0])
    assert list(content) == ["class", "probability", "predictions", "model"]
    assert content["model"] == {
        "name": "tiny",
        "version": "1.0",
        "runtime": "eager",
        "precision": "float32",
        "weights": "tiny-trained",
    }
    best, *others = content["predictions"]
    assert list(best) == ["class_id", "class_name", "probability"]
    assert content["class"] == f"{best['class_id']} {best['class_name']}"
    assert content["probability"] == best["probability"]
    assert {"class_id": best["class_id"], "class_name": best["class_name"]} in msgspec.to_builtins(tiny.labels)
    probabilities = [prediction["probability"] for prediction in (best, *others)]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(probabilities) == 5


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_may_come_as_either_type(tiny: Classifier, cat: bytes, kind: type[bytes]) -> None:
    assert read(ask(tiny, kind(cat))[0]) == read(ask(tiny, cat)[0])


@pytest.mark.parametrize("body", [None, b"", bytearray(), ""])
def test_no_body_is_empty(tiny: Classifier, body: object) -> None:
    assert_refused(ask(tiny, body), 400, "empty_body")


@pytest.mark.parametrize("body", ["a cat", "\ud800", "[]", b"[]", b"null", b"   ", b"<html>"])
def test_what_is_neither_a_picture_nor_an_object_is_not_an_image(tiny: Classifier, body: object) -> None:
    assert_refused(ask(tiny, body), 415, "not_an_image")


@pytest.mark.parametrize("top_k", ["1", "2", "10", "05"])
def test_top_k_is_the_number_of_predictions(tiny: Classifier, cat: bytes, top_k: str) -> None:
    one, many = ask(tiny, cat, as_json(cat, cat), top_k=top_k)
    assert len(read(one)["predictions"]) == int(top_k)
    assert [len(item["predictions"]) for item in read(many)["instances"]] == [int(top_k)] * 2


FOREIGN_DIGITS = ["\uff15", "\u00b2", "\u0665"]  # a fullwidth 5, a superscript 2, an Arabic 5


@pytest.mark.parametrize(
    "top_k",
    ["0", "-1", "+1", "abc", "", " 5", "5 ", "5.0", "1e1", "1_0", "0x5", "11", "1001", "9" * 10**6, *FOREIGN_DIGITS],
    ids=lambda top_k: repr(top_k[:8]),
)
def test_any_other_top_k_is_refused_with_the_range(tiny: Classifier, cat: bytes, top_k: str) -> None:
    responses = ask(tiny, cat, as_json(cat), b"", top_k=top_k)
    assert_refused(responses, 400, "bad_parameter")
    detail = json.loads(responses[0].body)["detail"]
    assert "top_k" in detail
    assert "1 to 10" in detail


def test_other_parameters_change_nothing(tiny: Classifier, cat: bytes) -> None:
    assert read(ask(tiny, cat, colour="red")[0]) == read(ask(tiny, cat)[0])


def test_the_default_top_k_is_all_classes_where_there_are_fewer_than_five(tiny: Classifier, cat: bytes) -> None:
    three = msgspec.structs.replace(tiny, labels=tiny.labels[:3], forward=lambda batch: tiny.forward(batch)[:, :3])
    assert len(read(ask(three, cat)[0])["predictions"]) == 3
    assert_refused(ask(three, cat, top_k="4"), 400, "bad_parameter")


def test_a_batch_of_all_kinds_gives_each_request_its_own_answer(tiny: Classifier, cat: bytes, coffee: bytes) -> None:
    bodies = [cat, b"", as_json(coffee, b"a cat", cat), b"{", coffee, b'{"instances": [{"b64": "\xff"}]}', cat[:900]]
    responses = ask(tiny, *bodies)
    assert [response.status for response in responses] == [200, 400, 200, 400, 200, 400, 422]
    one, other = read(responses[0]), read(responses[4])
    assert one["class"] == read(ask(tiny, cat)[0])["class"]
    first, problem, last = read(responses[2])["instances"]
    assert first["probability"] == pytest.approx(other["probability"], abs=1e-6)
    assert problem["code"] == "not_an_image"
    assert last["probability"] == pytest.approx(one["probability"], abs=1e-6)
    assert one["probability"] != pytest.approx(other["probability"], abs=1e-6)


def test_each_request_of_a_batch_has_its_own_parameters(tiny: Classifier, cat: bytes) -> None:
    requests = [Request(body=cat, parameters={"top_k": top_k}) for top_k in ("1", "x", "7")]
    one, refused, seven = answer(tiny, requests)
    assert_refused([refused], 400, "bad_parameter")
    assert [len(read(response)["predictions"]) for response in (one, seven)] == [1, 7]


def test_no_requests_get_no_answers(tiny: Classifier) -> None:
    assert answer(tiny, []) == []


@pytest.mark.parametrize(
    "forward", [fail, lambda batch: np.full((len(batch), 10), np.nan, np.float32)], ids=["raises", "nan"]
)
def test_a_failing_model_is_a_500_for_pictures_and_for_nothing_else(
    tiny: Classifier, cat: bytes, caplog: pytest.LogCaptureFixture, forward: Forward
) -> None:
    broken = msgspec.structs.replace(tiny, forward=forward)
    responses = ask(broken, cat, b"", b"{", b"a cat", as_json(cat, b"a cat"))
    assert_refused(responses[:1], 500, "internal")
    assert [problem_code(response) for response in responses[1:4]] == ["empty_body", "bad_json", "not_an_image"]
    assert [item["code"] for item in read(responses[4])["instances"]] == ["internal", "not_an_image"]
    assert "request-0" in caplog.text
    assert_refused(ask(broken, cat, top_k="0"), 400, "bad_parameter")


def test_the_reason_of_a_failure_is_in_the_log_and_not_in_the_answer(
    tiny: Classifier, cat: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (response,) = ask(msgspec.structs.replace(tiny, forward=fail), cat)
    assert SECRET in caplog.text
    assert SECRET not in response.body.decode()
    assert "RuntimeError" not in response.body.decode()


def test_a_picture_that_runs_out_of_memory_is_logged_under_the_id_of_its_request(
    tiny: Classifier, cat: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def decode(*_: object) -> None:
        raise MemoryError(SECRET)

    monkeypatch.setattr(pipeline, "decode_scaled", decode)
    with caplog.at_level(logging.ERROR):
        responses = ask(tiny, b"", cat)
    assert_refused(responses[1:], 500, "internal")
    assert SECRET not in responses[1].body.decode()
    assert SECRET in caplog.text
    assert "request-1" in caplog.text
    assert "request-0" not in caplog.text


def test_a_request_that_cannot_be_read_for_a_reason_of_ours_fails_alone(
    tiny: Classifier, cat: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def b64decode(*_: object, **__: object) -> None:
        raise MemoryError(SECRET)

    monkeypatch.setattr(base64, "b64decode", b64decode)
    good, bad = ask(tiny, cat, as_json(cat))
    assert good.status == 200
    assert_refused([bad], 500, "internal")
    assert SECRET not in bad.body.decode()
    assert SECRET in caplog.text
    assert "request-1" in caplog.text


def test_describe_tells_what_the_model_takes(tiny: Classifier) -> None:
    content = read(describe(tiny))
    assert content["model"] == msgspec.to_builtins(tiny.identity.model)
    assert content["weights_sha256"] == tiny.identity.weights_sha256
    assert content["classes"] == 10
    assert content["max_instances"] == 5
    assert content["input"] == msgspec.to_builtins(tiny.recipe.input)
    assert content["formats"] == ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]


def problems_in_memory() -> list[object]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Problem)]


@pytest.fixture
def no_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is freed but by the end of its last reference."""
    monkeypatch.setattr(service.logger, "disabled", True)  # pytest keeps what is logged, with its exceptions
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("forward", [None, fail], ids=["model works", "model fails"])
def test_what_was_wrong_with_a_request_does_not_stay_in_memory(
    tiny: Classifier, cat: bytes, forward: Forward | None
) -> None:
    """A problem that stays keeps the picture with it."""
    classifier = tiny if forward is None else msgspec.structs.replace(tiny, forward=forward)
    broken, huge = cat[: len(cat) // 2], cat[:16] + (65_535).to_bytes(4, "big") * 2 + cat[24:]
    bodies = [
        broken,
        b"text",
        b"",
        huge,
        cat,
        b'{"instances": 1}',
        as_json(broken, cat),
        b'{"instances": [{"b64": "?"}]}',
    ]
    before = problems_in_memory()  # other tests' own
    for batch in (bodies, *([body] for body in bodies)):
        ask(classifier, *batch)
        assert problems_in_memory() == before


@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
def test_what_was_wrong_with_an_explanation_does_not_stay_in_memory(tiny: Classifier, cat: bytes) -> None:
    before = problems_in_memory()
    for body in (cat[: len(cat) // 2], b"text", b"", as_json(cat, cat)):
        assert answer_explanation(tiny, Request(body=body)).status >= 400
        assert problems_in_memory() == before
