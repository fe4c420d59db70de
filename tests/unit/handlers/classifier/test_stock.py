"""The form of TorchServe's own handler, which tests/integration/test_stock_clients.py compares with that handler."""

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from classifier import stock
from classifier.description import describe
from classifier.pipeline import Classifier
from classifier.rank import Prediction
from classifier.responses import JSON, Response
from classifier.service import Request, answer, answer_explanation

from tests.unit.handlers.classifier.test_service import as_json, assert_refused, read
from tests.unit.handlers.classifier.test_v2 import infer

MEGABYTE = 1_000_000


def b64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def ask(classifier: Classifier, body: object, content_type: str = "", **parameters: str) -> Response:
    (response,) = answer(classifier, [Request(body=body, content_type=content_type, parameters=parameters)], "stock")
    return response


@pytest.fixture(scope="module")
def expected(tiny: Classifier) -> Any:
    """What the tiny model sees in a picture, by the name of the class."""

    def by_name(picture: bytes) -> dict[str, float]:
        (full,) = answer(tiny, [Request(body=picture)])
        return {item["class_name"]: item["probability"] for item in read(full)["predictions"]}

    return by_name


@pytest.mark.parametrize("kind", ["bytes", "text", "wrapped", "text as bytes", "string", "data", "data b64", "decoded"])
def test_every_body_of_one_picture_is_answered_by_one_object(
    tiny: Classifier, expected: Any, cat: bytes, kind: str
) -> None:
    body: object = {
        "bytes": cat,
        "text": b64(cat),
        "wrapped": base64.encodebytes(cat).decode(),
        "text as bytes": b64(cat).encode(),
        "string": json.dumps(b64(cat)).encode(),
        "data": json.dumps({"data": b64(cat)}).encode(),
        "data b64": json.dumps({"data": {"b64": b64(cat)}}).encode(),
        "decoded": {"data": b64(cat)},
    }[kind]
    found = read(ask(tiny, body, JSON if kind == "string" else ""))
    assert found == pytest.approx(expected(cat), abs=1e-6)
    assert list(found) == list(expected(cat))
    assert len(found) == 5


@pytest.mark.parametrize("decoded", [False, True])
def test_kserves_v1_is_answered_by_predictions_in_order(
    tiny: Classifier, expected: Any, cat: bytes, coffee: bytes, decoded: bool
) -> None:
    body = {"instances": [{"data": b64(cat)}, {"data": {"b64": b64(coffee)}}, {"b64": b64(cat)}]}
    content = read(ask(tiny, body if decoded else json.dumps(body).encode()))
    assert list(content) == ["predictions"]
    for found, picture in zip(content["predictions"], (cat, coffee, cat), strict=True):
        assert found == pytest.approx(expected(picture), abs=1e-6)


def test_top_k_says_how_many(tiny: Classifier, cat: bytes) -> None:
    assert [len(read(ask(tiny, cat, top_k=str(count)))) for count in (1, 10)] == [1, 10]


def test_kserves_v2_is_as_everywhere(tiny: Classifier, cat: bytes) -> None:
    body = infer([b64(cat)], id="7")
    (full,) = answer(tiny, [Request(body=body)])
    assert read(ask(tiny, body)) == read(full)
    assert read(ask(tiny, json.loads(body))) == read(full)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"no picture!", 415, "not_an_image"),
        (b"a" * 5, 400, "bad_base64"),
        (b"YWJjZA==", 415, "not_an_image"),
        (b'{"data": "%%%"}', 400, "bad_base64"),
        (b'{"data": 1}', 400, "bad_json"),
        (b'{"data": [[[0.1]]]}', 400, "bad_json"),
        (b"{}", 400, "bad_json"),
        (b'{"instances": []}', 400, "empty_body"),
        (b'{"instances": [{}]}', 400, "bad_json"),
        (b'{"instances": ["YQ=="]}', 400, "bad_json"),
        (b'{"instances": ' + b"[" * 100_000, 400, "bad_json"),
        (b'{"inputs": 1}', 400, "bad_json"),
        (b'{"inputs": [], "id": 1}', 400, "bad_json"),
        ({"inputs": 1}, 400, "bad_json"),
        ([1, 2], 400, "bad_json"),
    ],
)
def test_problems_stay_problems(tiny: Classifier, body: object, status: int, code: str) -> None:
    assert_refused([ask(tiny, body)], status, code)


def test_a_picture_that_cannot_be_read_is_the_problem_of_its_whole_request(tiny: Classifier, cat: bytes) -> None:
    body = json.dumps({"instances": [{"data": b64(cat)}, {"data": b64(b"no")}, {"data": "%"}]}).encode()
    response = ask(tiny, body)
    assert_refused([response], 415, "not_an_image")
    assert json.loads(response.body)["detail"].startswith("picture 2 of 3: ")
    too_many = json.dumps({"instances": [{"data": b64(cat)}] * 6}).encode()
    assert_refused([ask(tiny, too_many)], 413, "too_many_instances")


def test_what_looks_like_base64_is_told_in_linear_time(tiny: Classifier) -> None:
    assert_refused([ask(tiny, b" " * 20 * MEGABYTE + b"\xff")], 415, "not_an_image")


def test_no_class_is_lost_and_the_likelier_of_one_name_has_the_plain_one() -> None:
    predictions = [
        Prediction("n1", "crane", 0.5),
        Prediction("n2", "crane", 0.25),
        Prediction("n3", "crane (n4)", 0.125),
        Prediction("n4", "crane", 0.0625),
    ]
    assert stock.by_name(predictions) == {
        "crane": 0.5, "crane (n2)": 0.25, "crane (n4)": 0.125, "crane (n4) (n4)": 0.0625,
    }  # fmt: skip


def test_the_request_wins_over_the_server_and_the_server_over_the_recipe(tiny: Classifier, cat: bytes) -> None:
    recipe = msgspec.structs.replace(tiny.recipe, answers="stock")
    said = msgspec.structs.replace(tiny, recipe=recipe)

    def is_full(classifier: Classifier, server: Any, **parameters: str) -> bool:
        (response,) = answer(classifier, [Request(body=cat, parameters=parameters)], server)
        return "predictions" in read(response)

    assert is_full(tiny, None)
    assert not is_full(said, None)
    assert is_full(said, "full")
    assert not is_full(tiny, "stock")
    assert is_full(said, "stock", answers="full")
    assert not is_full(tiny, "full", answers="stock")
    assert_refused([ask(tiny, cat, answers="short")], 400, "bad_parameter")
    assert_refused([answer_explanation(tiny, Request(body=cat, parameters={"answers": "short"}))], 400, "bad_parameter")
    assert [read(describe(tiny))["answers"], read(describe(said))["answers"]] == ["full", "stock"]
    assert read(describe(said, "full"))["answers"] == "full"


def test_one_batch_may_have_both_forms(tiny: Classifier, cat: bytes) -> None:
    requests = [Request(body=cat, parameters={"answers": form}) for form in ("full", "stock", "full")]
    assert ["model" in read(response) for response in answer(tiny, requests)] == [True, False, True]


# ---- explanations


def explained(classifier: Classifier, body: object, **parameters: str) -> Any:
    return read(answer_explanation(classifier, Request(body=body, parameters=parameters), "stock"))


def test_an_explanation_has_a_number_for_each_value_of_the_input(tiny: Classifier, cat: bytes) -> None:
    found = np.array(explained(tiny, cat))
    assert found.shape == (3, 32, 32)
    assert np.abs(found).max() > 0
    enveloped = explained(tiny, json.dumps({"instances": [{"data": b64(cat)}]}).encode())
    assert list(enveloped) == ["explanations"]
    assert np.allclose(enveloped["explanations"], [found])


def test_the_attributions_add_up_to_the_difference_of_the_logits(tiny: Classifier, cat: bytes) -> None:
    """What integrated gradients promise: from the picture that is zero after normalisation to this one."""
    import torch
    from classifier.explain import _differentiable, attributions
    from classifier.pipeline import load_pixels

    pixels = load_pixels(cat, tiny.recipe.input)
    assert isinstance(pixels, np.ndarray)
    module, floats = _differentiable(tiny, pixels)
    with torch.no_grad():
        difference = (module(floats) - module(torch.zeros_like(floats)))[0].numpy()
    for index in (0, 3):
        assert attributions(tiny, cat, str(index)).sum() == pytest.approx(difference[index], rel=0.1, abs=0.02)


def test_the_target_is_the_first_class_unless_told(tiny: Classifier, cat: bytes) -> None:
    first, third = explained(tiny, cat), explained(tiny, cat, target="3")
    assert first == explained(tiny, cat, target=tiny.labels[0].class_id)
    assert first != third
    assert explained(tiny, json.dumps({"data": b64(cat), "target": 3}).encode()) == third
    (third_of_v1,) = explained(tiny, json.dumps({"instances": [{"data": b64(cat), "target": "3"}]}).encode())[
        "explanations"
    ]
    assert third_of_v1 == third


def test_an_explanation_in_kserves_v2_is_as_everywhere(tiny: Classifier, cat: bytes) -> None:
    body, same = infer([b64(cat)]), {"method": "occlusion"}
    full = read(answer_explanation(tiny, Request(body=body, parameters=same)))
    assert explained(tiny, body, **same) == explained(tiny, body, answers="stock", **same) == full
    assert "heatmap" in full


@pytest.mark.parametrize(
    ("body", "parameters", "status", "code"),
    [
        (b"no picture!", {}, 415, "not_an_image"),
        (b"", {}, 400, "empty_body"),
        (None, {"target": "10"}, 400, "bad_parameter"),
        (infer(["%"]), {}, 400, "bad_base64"),
    ],
)
def test_an_explanation_that_cannot_be_had_is_a_problem(
    tiny: Classifier, cat: bytes, body: bytes | None, parameters: dict[str, str], status: int, code: str
) -> None:
    request = Request(body=cat if body is None else body, parameters=parameters)
    assert_refused([answer_explanation(tiny, request, "stock")], status, code)


def test_one_picture_is_explained_at_a_time_and_only_where_there_are_gradients(tiny: Classifier, cat: bytes) -> None:
    two = json.dumps({"instances": [{"data": b64(cat)}] * 2}).encode()
    assert_refused([answer_explanation(tiny, Request(body=two), "stock")], 413, "too_many_instances")
    model = msgspec.structs.replace(tiny.identity.model, runtime="torchscript")
    other = msgspec.structs.replace(tiny, identity=msgspec.structs.replace(tiny.identity, model=model))
    assert_refused([answer_explanation(other, Request(body=cat), "stock")], 501, "not_supported")


def test_the_full_form_takes_stocks_bodies_too_except_a_string_of_json(tiny: Classifier, cat: bytes) -> None:
    bodies = [Request(body=b64(cat)), Request(body=json.dumps({"data": b64(cat)}).encode())]
    assert [read(response).keys() for response in answer(tiny, bodies)] == [
        read(answer(tiny, [Request(body=cat)])[0]).keys()
    ] * 2
    assert_refused(answer(tiny, [Request(body=json.dumps(b64(cat)).encode(), content_type=JSON)]), 400, "bad_json")
    assert read(ask(tiny, as_json(cat))).keys() == {"predictions"}
