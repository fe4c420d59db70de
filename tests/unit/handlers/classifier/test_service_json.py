import base64
import json
from collections.abc import Callable

import pytest
from classifier.pipeline import Classifier
from classifier.service import Request, answer, answer_explanation
from PIL import Image

from tests.conftest import encode
from tests.unit.handlers.classifier.test_service import as_json, ask, assert_refused, b64, read
from tests.unit.handlers.classifier.test_v2 import outputs


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


def dresses(picture: bytes) -> dict[str, str]:
    """Base64 as programs write it."""
    plain, safe = base64.b64encode(picture).decode(), base64.urlsafe_b64encode(picture).decode()
    lines = base64.encodebytes(picture).decode()
    return {
        "plain": plain,
        "lines": lines,
        "lines of Windows": lines.replace("\n", "\r\n"),
        "indented": "\n" + "".join(f"  {line}\n" for line in lines.split()),
        "for URLs": safe,
        "without padding": plain.rstrip("="),
        "for URLs without padding": safe.rstrip("="),
        "data URL": f"data:image/png;base64,{plain}",
        "data URL with parameters": f"DATA:image/png;name=cat.png;BASE64,{lines}",
    }


@pytest.fixture(scope="module")
def padded() -> bytes:
    """A picture whose base64 has padding, and characters in which the alphabets differ."""
    for grey in range(256):
        picture = encode(Image.new("L", (64, 64), grey), "PNG")
        plain = base64.b64encode(picture).decode()
        if plain.endswith("=") and {"+", "/"} & set(plain):
            return picture
    raise AssertionError("no such picture")


@pytest.mark.parametrize("dress", dresses(b""))
def test_base64_is_known_in_every_usual_dress(tiny: Classifier, padded: bytes, dress: str) -> None:
    text = dresses(padded)[dress]
    (alone,) = ask(tiny, padded)
    expected = read(alone)
    bodies = (text, {"data": text}, {"data": {"b64": text}}, {"b64": text}, json.dumps({"data": text}).encode())
    for response in ask(tiny, *bodies):
        content = read(response)
        assert content.keys() == expected.keys()
        assert content["class"] == expected["class"]
        assert content["probability"] == pytest.approx(expected["probability"], abs=1e-6)
    for field, listed in (("b64", "instances"), ("data", "predictions")):
        (item,) = read(ask(tiny, {"instances": [{field: text}]})[0])[listed]
        assert item["class"] == expected["class"]
    tensor = {"name": "x", "shape": [-1], "datatype": "BYTES", "data": [text]}
    assert outputs(read(ask(tiny, {"inputs": [tensor]})[0]))["problem"] == [""]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "%%%",
            "A",
            "AAAAA",
            "QUJD QUJD",
            "=QUJD",
            "QUI=QUJD",
            "QU=JD",
            "QUI==",
            "_+QU",
            "QUJD.",
            "QUJD\x00",
        ),
        *("data:image/png,QUJD", "data:image/png;base64,%", "data:;base64,data:;base64,QUJD", "QUJDdata:;base64,QUJD"),
        *("\u00fc", "\ud800", "QUJD\u2028QUJD"),
    ],
)
@pytest.mark.parametrize("field", ["b64", "data"])
def test_what_is_not_base64_is_refused_for_its_instance_alone(
    tiny: Classifier, cat: bytes, field: str, text: str
) -> None:
    (items,) = [
        content["instances" if field == "b64" else "predictions"]
        for content in [read(ask(tiny, {"instances": [{field: text}, b64(cat)]})[0])]
    ]
    assert items[0]["code"] == "bad_base64"
    assert items[1]["class"]


@pytest.mark.parametrize("body", [b"a" * 5, b"QUJDR\n", b"data:;base64,QUJDR"])
def test_a_text_that_can_only_be_base64_but_is_none_is_called_so(tiny: Classifier, body: bytes) -> None:
    assert_refused(ask(tiny, body), 400, "bad_base64")


@pytest.mark.parametrize("body", [b"a cat", b"QUJD QUJD", b"\n", b"data:image/png,QUJD", b"+" * 20_000_000 + b"%"])
def test_any_other_text_is_no_picture(tiny: Classifier, body: bytes) -> None:
    assert_refused(ask(tiny, body), 415, "not_an_image")


def test_the_protocol_v1_is_answered_in_its_own_words(tiny: Classifier, cat: bytes, coffee: bytes) -> None:
    own = {"instances": [b64(cat), b64(b"no"), b64(coffee)]}
    kserve = {"instances": [{"data": item["b64"]} for item in own["instances"]]}
    expected = read(ask(tiny, own)[0])
    for body in (kserve, json.dumps(kserve).encode()):
        content = read(ask(tiny, body)[0])
        assert list(content) == ["predictions", "model"]
        assert content == {"predictions": expected["instances"], "model": expected["model"]}
    request = Request(body={"instances": [{"data": b64(cat)["b64"], "target": 3}]}, parameters={"method": "occlusion"})
    explained = read(answer_explanation(tiny, request))
    assert list(explained) == ["explanations"]
    alone = Request(body=cat, parameters={"method": "occlusion", "target": "3"})
    assert explained["explanations"] == [read(answer_explanation(tiny, alone))]


def test_of_two_pictures_in_one_object_none_is_dropped_in_silence(tiny: Classifier, cat: bytes) -> None:
    both = {"data": b64(cat)["b64"], **b64(cat)}
    beside = {"instances": [b64(cat)], **b64(cat)}
    assert_refused(ask(tiny, both, {"instances": [both]}, beside, json.dumps(beside).encode()), 400, "bad_json")


def test_a_body_that_a_form_has_eaten_is_told_how_to_come(tiny: Classifier) -> None:
    eaten = Request(body=None, content_type="application/x-www-form-urlencoded; charset=utf-8")
    (response,) = answer(tiny, [eaten])
    assert_refused([response], 400, "empty_body")
    assert "curl -T <file>" in json.loads(response.body)["detail"]
    assert "application/json" in json.loads(response.body)["detail"]


def test_of_several_pictures_in_a_form_none_is_answered(tiny: Classifier, cat: bytes) -> None:
    for response in (
        *answer(tiny, [Request(body=cat, pictures=2)]),
        answer_explanation(tiny, Request(body=cat, pictures=2)),
    ):
        assert_refused([response], 400, "several_pictures")


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
