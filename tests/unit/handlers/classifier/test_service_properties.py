"""What holds for every request, whatever it says; `HYPOTHESIS=search` looks longer."""

import base64
import json
from typing import Any

import pytest
from classifier.pipeline import Classifier
from classifier.problems import MEDIA_TYPE
from classifier.responses import JSON, Response
from classifier.service import Request, answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stress.hostile.files import png
from tests.unit.conftest import assert_same

PICTURE = png(1, 1, b"\0\0")
GOOD = Request(body=PICTURE)
B64 = base64.b64encode(PICTURE).decode()
CODES = {"empty_body", "bad_json", "bad_base64", "bad_parameter", "too_many_instances", "not_an_image", "image_broken"}

# The loaded model is the same for all examples.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
texts = st.just(B64) | st.text(max_size=20) | st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode())
instances = st.fixed_dictionaries(
    {"instances": st.lists(st.fixed_dictionaries({"b64": texts | anything}) | anything, max_size=7) | anything}
)
tensors = st.fixed_dictionaries(
    {
        "name": st.text(max_size=3) | anything,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | anything,
        "datatype": st.just("BYTES") | anything,
        "data": st.lists(texts, max_size=4) | anything,
    }
)
infer_requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors | anything, max_size=2) | anything},
    optional={
        "id": anything,
        "parameters": st.dictionaries(st.just("top_k") | st.text(max_size=5), anything, max_size=2) | anything,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(("class_id", "problem", "x"))})) | anything,
    },
)
contents = anything | instances | infer_requests
requests = st.builds(
    Request,
    body=contents.map(lambda content: json.dumps(content).encode())
    | contents
    | st.binary(max_size=60)
    | st.just(PICTURE),
    content_type=st.sampled_from((JSON, "", "image/png", "APPLICATION/JSON;x")) | st.text(max_size=20),
    parameters=st.dictionaries(st.just("top_k") | st.text(max_size=5), st.text(max_size=12), max_size=2),
    request_id=st.text(max_size=5),
)


def check(response: Response) -> None:
    """An answer of the contract that is no fault of ours."""
    content: dict[str, Any] = json.loads(response.body)
    if response.status != 200:
        assert response.content_type == MEDIA_TYPE
        assert (content["status"], content["code"] in CODES) == (response.status, True)
        return
    assert response.content_type == JSON
    found = content.get("instances", [content])
    assert all("predictions" in item or "outputs" in item or item["code"] in CODES for item in found)


@pytest.mark.slow
@shared
@given(st.lists(requests, min_size=1, max_size=4), st.data())
def test_any_batch_is_answered_by_the_contract_and_the_good_one_as_if_alone(
    tiny: Classifier, asked: list[Request], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(asked)))
    (alone,) = answer(tiny, [GOOD])
    answers = answer(tiny, [*asked[:place], GOOD, *asked[place:]])
    assert len(answers) == len(asked) + 1
    assert_same(answers.pop(place), alone)
    for response in answers:
        check(response)


@shared
@given(st.integers(-3, 30), st.booleans())
def test_top_k_is_how_many_classes_are_returned_or_a_bad_parameter(tiny: Classifier, top_k: int, v2: bool) -> None:
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": [B64]}
    request = (
        Request(body={"inputs": [tensor], "parameters": {"top_k": top_k}})
        if v2
        else Request(body=PICTURE, parameters={"top_k": str(top_k)})
    )
    (response,) = answer(tiny, [request])
    content = json.loads(response.body)
    if not 1 <= top_k <= len(tiny.labels):
        assert (response.status, content["code"]) == (400, "bad_parameter")
    elif v2:
        assert content["outputs"][0]["shape"] == [1, top_k]
    else:
        assert len(content["predictions"]) == top_k


@shared
@given(st.lists(texts, min_size=1, max_size=5))
def test_each_instance_has_one_answer_in_its_place(tiny: Classifier, pictures: list[str]) -> None:
    (response,) = answer(tiny, [Request(body={"instances": [{"b64": text} for text in pictures]})])
    found = json.loads(response.body)["instances"]
    assert len(found) == len(pictures)
    assert ["predictions" in item for item in found] == [text == B64 for text in pictures]
