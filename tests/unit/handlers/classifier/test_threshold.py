"""Several labels at once: with sigmoid and a threshold, a picture may have any number of classes, or none."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from classifier import ImageClassifier
from classifier.pipeline import Classifier
from classifier.recipe import Answers
from classifier.responses import Response
from classifier.service import Request, answer
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import encode
from tests.unit.handlers.classifier.test_service import as_json, read
from tests.unit.handlers.classifier.test_v2 import infer, outputs

NONE, TWO = [-3.0] * 10, [-3.0, 2.0, -3.0, 1.0, *[-3.0] * 6]  # logits: no class, and the second before the fourth
Answered = dict[str, Any]


@pytest.fixture
def several(tiny: Classifier) -> Classifier:
    """Tiny with a threshold; a picture is dark, with no class, or bright, with two."""

    def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array([TWO if item.mean() > 128 else NONE for item in pixels], np.float32)

    return replace(tiny, recipe=replace(tiny.recipe, scores="sigmoid", threshold=0.5), forward=forward)


@pytest.fixture(scope="module")
def dark() -> bytes:
    return picture(0)


@pytest.fixture(scope="module")
def bright() -> bytes:
    return picture(255)


def picture(level: int) -> bytes:
    return encode(Image.new("RGB", (40, 40), (level,) * 3), "PNG")


def ask(classifier: Classifier, *bodies: bytes, form: Answers | None = None, **parameters: str) -> Sequence[Response]:
    return answer(classifier, [Request(body=body, parameters=parameters) for body in bodies], form)


def test_a_picture_has_the_classes_at_or_above_the_threshold_or_none(
    several: Classifier, dark: bytes, bright: bytes
) -> None:
    none, two = (read(response) for response in ask(several, dark, bright))
    assert (none["class"], none["probability"], none["predictions"]) == (None, None, [])
    assert none["model"]["name"] == "tiny"
    assert two["class"] == "t01 square"
    assert {item["class_id"]: item["probability"] for item in two["predictions"]} == pytest.approx(
        {"t01": 0.8808, "t03": 0.7311}, abs=1e-4
    )


def test_top_k_takes_the_likeliest_of_them(several: Classifier, dark: bytes, bright: bytes) -> None:
    none, one = (read(response) for response in ask(several, dark, bright, top_k="1"))
    assert [item["class_id"] for item in one["predictions"]] == ["t01"]
    assert none["predictions"] == []


def test_of_several_pictures_each_has_its_own(several: Classifier, dark: bytes, bright: bytes) -> None:
    (response,) = ask(several, as_json(dark, b"no picture", bright))
    none, problem, two = read(response)["instances"]
    assert (none["class"], none["probability"], none["predictions"]) == (None, None, [])
    assert problem["code"] == "not_an_image"
    assert [item["class_id"] for item in two["predictions"]] == ["t01", "t03"]


def test_in_kserves_protocol_a_row_is_filled_with_nothing(several: Classifier, dark: bytes, bright: bytes) -> None:
    data = [base64.b64encode(item).decode() for item in (dark, bright)]
    found = outputs(read(ask(several, infer(data, parameters={"top_k": 3}))[0]))
    assert found["class_id"] == [["", "", ""], ["t01", "t03", ""]]
    assert found["class_name"] == [["", "", ""], ["square", "cross", ""]]
    assert found["probability"] == [[0, 0, 0], pytest.approx([0.8808, 0.7311, 0], abs=1e-4)]
    assert found["problem"] == ["", ""]


def test_in_the_stock_form_no_class_is_an_empty_object(several: Classifier, dark: bytes, bright: bytes) -> None:
    none, two = (read(response) for response in ask(several, dark, bright, form="stock"))
    assert none == {}
    assert list(two) == ["square", "cross"]
    both = [{"data": base64.b64encode(item).decode()} for item in (dark, bright)]
    (response,) = ask(several, json.dumps({"instances": both}).encode(), form="stock")
    assert read(response) == {"predictions": [none, two]}


def test_from_python_no_class_is_an_empty_list(several: Classifier, dark: bytes, bright: bytes) -> None:
    model = ImageClassifier(several)
    assert model(dark) == []
    assert [item.class_id for item in model(bright)] == ["t01", "t03"]
    assert [len(found) for found in model([dark, bright, dark]) if isinstance(found, list)] == [0, 2, 0]


def test_the_class_below_the_threshold_can_be_explained(several: Classifier, dark: bytes) -> None:
    request = Request(body=dark, wants="explanation", parameters={"target": "t05", "method": "occlusion"})
    found: Answered = read(answer(several, [request])[0])
    assert (found["class"], found["probability"]) == ("t05 heart", pytest.approx(0.0474, abs=1e-4))


def test_without_a_threshold_sigmoid_answers_as_many_classes_as_asked_for(several: Classifier, dark: bytes) -> None:
    every = replace(several, recipe=replace(several.recipe, threshold=None))
    found: Answered = read(ask(every, dark)[0])
    assert [item["class_id"] for item in found["predictions"]] == ["t00", "t01", "t02", "t03", "t04"]
