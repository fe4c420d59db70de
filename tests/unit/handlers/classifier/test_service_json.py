import json
from collections.abc import Callable

import pytest
from classifier.pipeline import Classifier
from classifier.service import Request, answer

from tests.unit.handlers.classifier.test_service import as_json, ask, assert_refused, b64, read


@pytest.mark.parametrize(
    "body",
    [
        lambda images: as_json(*images),
        lambda images: bytearray(b" \r\n" + as_json(*images)),
        lambda images: as_json(*images).decode(),
        lambda images: json.loads(as_json(*images)),
        lambda images: {"instances": [b64(image) | {"note": 1} for image in images], "signature_name": "x"},
    ],
    ids=["bytes", "spaces", "text", "decoded", "more-fields"],
)
def test_instances_are_answered_in_their_order(
    tiny: Classifier, cat: bytes, coffee: bytes, body: Callable[[list[bytes]], object]
) -> None:
    content = read(ask(tiny, body([cat, coffee, cat]))[0])
    alone = [read(response) for response in ask(tiny, cat, coffee, cat)]
    assert list(content) == ["instances", "model"]
    assert content["model"] == alone[0]["model"]
    assert content["instances"] == [{key: one[key] for key in one if key != "model"} for one in alone]
    assert content["instances"][0] != content["instances"][1]


def test_one_instance_comes_back_as_instances(tiny: Classifier, cat: bytes) -> None:
    assert len(read(ask(tiny, as_json(cat))[0])["instances"]) == 1


def test_what_is_wrong_with_an_instance_stays_with_it(tiny: Classifier, cat: bytes) -> None:
    body = {"instances": [b64(cat), {"b64": "%%%"}, b64(b"a cat"), b64(b""), b64(cat[:500])]}
    items = read(ask(tiny, body)[0])["instances"]
    assert [item.get("code") for item in items] == [None, "bad_base64", "not_an_image", "empty_body", "image_broken"]
    assert [item.get("status") for item in items[1:]] == [400, 415, 400, 422]
    assert {"class", "probability", "predictions"} == set(items[0])


@pytest.mark.parametrize(
    "text",
    ["%%%", "AAA", "QUJD\n", "QUJD QUJD", "=QUJD", "__--", "data:image/png;base64,QUJD", "\u00fc", "\ud800"],
)
def test_what_is_not_base64_is_refused_for_its_instance_alone(tiny: Classifier, cat: bytes, text: str) -> None:
    items = read(ask(tiny, {"instances": [{"b64": text}, b64(cat)]})[0])["instances"]
    assert items[0]["code"] == "bad_base64"
    assert items[1]["class"]


def test_no_instances_are_empty(tiny: Classifier) -> None:
    assert_refused(ask(tiny, b'{"instances": []}', {"instances": []}), 400, "empty_body")


BAD_JSON = [
    b"{",
    b"{}",
    b'{"instances": }',
    b'{"instances": [}',
    b'{"instances": null}',
    b'{"instances": "QUJD"}',
    b'{"instances": {"b64": "QUJD"}}',
    b'{"instances": ["QUJD"]}',
    b'{"instances": [null]}',
    b'{"instances": [{}]}',
    b'{"instances": [{"b64": null}]}',
    b'{"instances": [{"b64": 1}]}',
    b'{"instances": [{"b64": ["QUJD"]}]}',
    b'{"instances": [{"B64": "QUJD"}]}',
    b'{"instances": [{"b64": "QUJD"}]} {}',
    b'{"instances": [{"b64": "\\ud800"}]}',
    b'{"instances": [{"b64": "\xff"}]}',
    b'{"\xff": 1}',
    b'{"instances": ' + b"[" * 100_000,
    b'{"instances": NaN}',
    b"{'instances': []}",
]


@pytest.mark.parametrize("body", BAD_JSON, ids=lambda body: repr(body[:40]))
def test_json_of_another_shape_is_refused_and_told_the_right_one(tiny: Classifier, body: bytes) -> None:
    responses = ask(tiny, body)
    assert_refused(responses, 400, "bad_json")
    assert '{"instances": [{"b64":' in json.loads(responses[0].body)["detail"]


@pytest.mark.parametrize(
    "body",
    [{}, [], [1], 0, 5, 0.5, False, True, {"instances": 1}, {"instances": float("nan")}, {"\ud800": 1}],
    ids=repr,
)
def test_json_that_the_server_has_decoded_is_held_to_the_same_shape(tiny: Classifier, body: object) -> None:
    assert_refused(ask(tiny, body), 400, "bad_json")


def test_the_recipe_limits_the_instances(tiny: Classifier, cat: bytes) -> None:
    limit = tiny.recipe.serving.max_instances
    within, beyond = ask(tiny, as_json(*[cat] * limit), as_json(*[cat] * (limit + 1)))
    assert len(read(within)["instances"]) == limit == 5
    assert_refused([beyond], 413, "too_many_instances")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
@pytest.mark.parametrize("body", [b"[]", b"null", b'"QUJD"', b"a cat", b"\x89PNG\r\n\x1a\n", "a cat", "\ud800", b" "])
def test_what_is_called_json_has_to_be_json_of_that_shape(tiny: Classifier, body: object, content_type: str) -> None:
    assert_refused(answer(tiny, [Request(body=body, content_type=content_type)]), 400, "bad_json")


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_an_object_need_not_be_called_json(tiny: Classifier, cat: bytes, content_type: str) -> None:
    request = Request(body=as_json(cat), content_type=content_type)
    assert len(read(answer(tiny, [request])[0])["instances"]) == 1


@pytest.mark.parametrize("content_type", ["", "image/jpeg", "text/plain"])
def test_a_picture_is_known_by_its_bytes(tiny: Classifier, cat: bytes, content_type: str) -> None:
    assert read(answer(tiny, [Request(body=cat, content_type=content_type)])[0])["class"]


def test_media_types_have_no_case(tiny: Classifier) -> None:
    assert_refused(answer(tiny, [Request(body=b"[]", content_type="Application/JSON")]), 400, "bad_json")
