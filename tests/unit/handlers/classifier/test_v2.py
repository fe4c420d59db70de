import base64
import json
from typing import Any

import pytest
from classifier.pipeline import Classifier
from classifier.service import Request, answer

from tests.unit.handlers.classifier.test_service import as_json, ask, assert_refused, read


def b64(*pictures: bytes) -> list[str]:
    return [base64.b64encode(picture).decode() for picture in pictures]


def infer(data: list[str], **fields: object) -> bytes:
    """A request of the protocol."""
    tensor = {"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}
    return json.dumps({"inputs": [tensor], **fields}).encode()


def outputs(content: Any) -> dict[str, Any]:
    """The tensors of a response by name, each a list of rows."""
    tensors = {}
    for tensor in content["outputs"]:
        rows, *columns = tensor["shape"]
        width = columns[0] if columns else 1
        assert len(tensor["data"]) == rows * width
        grouped = [tensor["data"][start : start + width] for start in range(0, rows * width, width)]
        tensors[tensor["name"]] = grouped if columns else tensor["data"]
    return tensors


def test_every_picture_has_a_row_of_what_instances_would_get(tiny: Classifier, cat: bytes, coffee: bytes) -> None:
    content = read(ask(tiny, infer(b64(cat, coffee), id="7"))[0])
    assert list(content) == ["model_name", "model_version", "id", "parameters", "outputs"]
    assert (content["model_name"], content["model_version"], content["id"]) == ("tiny", "1.0", "7")
    assert content["parameters"].keys() == {"runtime", "precision", "weights"}
    assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in content["outputs"]] == [
        ("class_id", "BYTES", [2, 5]),
        ("class_name", "BYTES", [2, 5]),
        ("probability", "FP32", [2, 5]),
        ("problem", "BYTES", [2]),
    ]
    found = outputs(content)
    for row, instance in enumerate(read(ask(tiny, as_json(cat, coffee))[0])["instances"]):
        for name in ("class_id", "class_name", "probability"):
            assert found[name][row] == [prediction[name] for prediction in instance["predictions"]]
    assert found["problem"] == ["", ""]


def test_what_is_wrong_with_a_picture_stays_in_its_row(tiny: Classifier, cat: bytes, coffee: bytes) -> None:
    data = [*b64(cat, b"no picture"), "%%%", *b64(cat[:500], coffee)]
    found = outputs(read(ask(tiny, infer(data))[0]))
    problems = [json.loads(text) if text else None for text in found["problem"]]
    assert [problem and (problem["status"], problem["code"]) for problem in problems] == [
        None,
        (415, "not_an_image"),
        (400, "bad_base64"),
        (422, "image_broken"),
        None,
    ]
    for name, empty in (("class_id", ""), ("class_name", ""), ("probability", 0.0)):
        assert found[name][1:4] == [[empty] * 5] * 3
    alone = outputs(read(ask(tiny, infer(b64(cat, coffee)))[0]))
    assert [found["class_id"][0], found["class_id"][4]] == alone["class_id"]


def test_the_number_of_classes_is_a_parameter_of_the_body_before_that_of_the_request(
    tiny: Classifier, cat: bytes
) -> None:
    requests = [infer(b64(cat), parameters={"top_k": 2}), infer(b64(cat), parameters={"top_k": "3"}), infer(b64(cat))]
    shapes = [read(response)["outputs"][0]["shape"] for response in ask(tiny, *requests, top_k="4")]
    assert shapes == [[1, 2], [1, 3], [1, 4]]


@pytest.mark.parametrize("top_k", [0, -1, 11, "two", True, 1.5])
def test_a_number_of_classes_out_of_range_is_refused(tiny: Classifier, cat: bytes, top_k: object) -> None:
    assert_refused(ask(tiny, infer(b64(cat), parameters={"top_k": top_k})), 400, "bad_parameter")


def test_only_the_outputs_that_are_asked_for_come_back(tiny: Classifier, cat: bytes) -> None:
    wanted = [{"name": "probability"}, {"name": "class_id", "parameters": {"binary_data": False}}]
    content = read(ask(tiny, infer(b64(cat), outputs=wanted))[0])
    assert [tensor["name"] for tensor in content["outputs"]] == ["class_id", "probability"]
    assert content["id"] == ""  # TorchServe's gRPC front end drops a worker whose answer has none
    assert_refused(ask(tiny, infer(b64(cat), outputs=[{"name": "logits"}])), 400, "bad_parameter")


def test_a_column_of_pictures_and_fields_of_other_servers_are_accepted(tiny: Classifier, cat: bytes) -> None:
    tensor = {
        "name": "x",
        "shape": [1, 1],
        "datatype": "BYTES",
        "data": b64(cat),
        "parameters": {"content_type": "base64"},
    }
    body = {"inputs": [tensor], "model_name": "tiny"}
    assert read(ask(tiny, json.dumps(body).encode())[0]) == read(ask(tiny, body)[0])


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": [2]},
        {"shape": []},
        {"shape": [1, 2]},
        {"shape": "1"},
        {"datatype": "FP32"},
        {"data": [[1, 2]]},
        {"data": "QUJD"},
        {"name": None},
    ],
    ids=str,
)
def test_a_tensor_that_holds_no_pictures_is_refused(tiny: Classifier, changed: dict[str, object]) -> None:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["QUJD"]} | changed
    assert_refused(ask(tiny, {"inputs": [tensor]}, {"inputs": []}, {"inputs": [tensor, tensor]}), 400, "bad_json")


@pytest.mark.parametrize("shape", [[-1], [-1, 1], [2], [2, 1]])
def test_a_shape_may_leave_the_number_open(tiny: Classifier, cat: bytes, coffee: bytes, shape: list[int]) -> None:
    tensor = {"name": "image", "shape": shape, "datatype": "BYTES", "data": b64(cat, coffee)}
    assert read(ask(tiny, {"inputs": [tensor]})[0]) == read(ask(tiny, infer(b64(cat, coffee)))[0])


@pytest.mark.parametrize(
    ("body", "code", "request_id"),
    [
        (infer([], id="7"), "empty_body", "7"),
        (infer(["QUJD"] * 6, id="7"), "too_many_instances", "7"),
        (b'{"id": "7", "inputs": []}', "bad_json", "7"),
        (b'{"id": "7", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}', "bad_json", "7"),
        (b'{"id": 7, "inputs": [{}]}', "bad_json", ""),
        (b'{"id": "%s", "inputs": [{}]}' % (b"7" * 257), "bad_json", ""),
        (b"{", "bad_json", ""),
        (b"", "empty_body", ""),
        ({"inputs": 1}, "bad_json", ""),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_where_only_tensors_pass_a_problem_is_one(tiny: Classifier, body: Any, code: str, request_id: str) -> None:
    (response,) = answer(tiny, [Request(body=body, tensors=True)])
    content = json.loads(response.body)
    assert (content["model_name"], content["model_version"], content["id"]) == ("tiny", "1.0", request_id)
    (tensor,) = content["outputs"]
    assert (tensor["name"], tensor["shape"], tensor["datatype"]) == ("problem", [1], "BYTES")
    assert json.loads(*tensor["data"])["code"] == code
    plain = json.loads(answer(tiny, [Request(body=body)])[0].body)
    assert json.loads(*tensor["data"]) == plain


def test_no_pictures_and_too_many_are_refused(tiny: Classifier, cat: bytes) -> None:
    assert_refused(ask(tiny, infer([])), 400, "empty_body")
    assert_refused(ask(tiny, infer(["QUJD"] * (tiny.recipe.serving.max_instances + 1))), 413, "too_many_instances")


def test_requests_of_all_kinds_share_a_batch(tiny: Classifier, cat: bytes, coffee: bytes) -> None:
    in_v2, in_instances, alone, bad = ask(tiny, infer(b64(coffee, cat)), as_json(coffee), cat, b"no picture")
    found = outputs(read(in_v2))
    best = [f"{ids[0]} {names[0]}" for ids, names in zip(found["class_id"], found["class_name"], strict=True)]
    assert best == [read(in_instances)["instances"][0]["class"], read(alone)["class"]]
    assert bad.status == 415
