import base64
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from classifier.pipeline import Classifier
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from devserver.app import MAX_BODY, create_app
from scripts.torchserve.config import CONFIG_FILE, read_config
from tests.conftest import encode


@pytest.fixture(scope="module")
def client(tiny: Classifier) -> FlaskClient:
    return create_app(tiny).test_client()


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    content: dict[str, Any] = json.loads(response.data)
    assert content.keys() == {"type", "title", "status", "code", "detail"}
    assert content["status"] == status
    return content


def test_predict_has_the_class_beside_the_contracts_answer(client: FlaskClient, cat: bytes) -> None:
    answer = client.post("/predict", data={"file": (io.BytesIO(cat), "cat.png")}).get_json()
    contract = client.post("/predictions/tiny", data=cat).get_json()
    best = contract["predictions"][0]
    assert answer == {"class_id": best["class_id"], "class_name": best["class_name"], **contract}


def test_the_picture_comes_as_a_body_or_either_form_field(client: FlaskClient, cat: bytes) -> None:
    body = client.post("/predictions/tiny/1.0", data=cat).data
    for field in ("data", "file"):
        assert client.post("/predictions/tiny", data={field: (io.BytesIO(cat), "cat.png")}).data == body
    assert client.put("/predictions/tiny/1.0", data=cat).data == body  # what `curl -T` sends
    # what `curl --data-binary` calls the bytes of a picture
    assert client.post("/predictions/tiny", data=cat, content_type="application/x-www-form-urlencoded").data == body


@pytest.mark.parametrize("how", ["query", "header", "form"])
def test_top_k_is_a_query_a_header_or_a_field(client: FlaskClient, cat: bytes, how: str) -> None:
    form: dict[str, Any] = {"file": (io.BytesIO(cat), "cat.png"), **({"top_k": "2"} if how == "form" else {})}
    response = client.post(
        "/predict" + ("?top_k=2" if how == "query" else ""),
        data=form,
        headers={"X-Top-K": "2"} if how == "header" else {},
    )
    assert len(response.get_json()["predictions"]) == 2


def test_a_stock_server_answers_as_torchserves_handler_but_not_at_predict(tiny: Classifier, cat: bytes) -> None:
    stock = create_app(tiny, "stock").test_client()
    found = stock.post("/predictions/tiny", data=cat).get_json()
    predictions = create_app(tiny).test_client().post("/predictions/tiny", data=cat).get_json()["predictions"]
    assert found == {item["class_name"]: item["probability"] for item in predictions}
    data = base64.b64encode(cat).decode()
    v1 = stock.post("/v1/models/tiny:predict", json={"instances": [{"data": data}]}).get_json()
    assert v1 == {"predictions": [pytest.approx(found, abs=1e-6)]}
    assert "class_id" in stock.post("/predict", data=cat, headers={"X-Answers": "stock"}).get_json()
    assert "class" in stock.post("/predictions/tiny", data=cat, headers={"X-Answers": "full"}).get_json()
    assert stock.get("/models/tiny").get_json()["answers"] == "stock"
    explained = stock.post("/v1/models/tiny:explain", json={"instances": [{"data": data}]}).get_json()
    assert len(explained["explanations"][0]) == len("RGB")


@pytest.mark.slow
@pytest.mark.parametrize("one_at_a_time", [True, False], ids=["as it is", "without its lock"])
def test_clients_at_once_each_get_their_own_answer(
    tiny: Classifier, one_at_a_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not one_at_a_time:  # the lock gives each request all threads; that answers are right is not up to it
        monkeypatch.setattr("devserver.app.threading.Lock", nullcontext)
    app = create_app(tiny)
    monkeypatch.undo()
    colours = [(36 * index, 255 - 36 * index, 97 * index % 256) for index in range(8)]
    bodies = [encode(Image.new("RGB", (40, 40), colour), "PNG") for colour in colours]
    paths = ["/predictions/tiny"] * 3 + ["/explanations/tiny"]  # whose hooks are those of one module
    alone = [[app.test_client().post(path, data=body).data for path in paths] for body in bodies]
    assert len({tuple(answers) for answers in alone}) == len(bodies)
    together = threading.Barrier(8)

    def wrong(own: int) -> int:
        client = app.test_client()
        together.wait()
        return sum([client.post(path, data=bodies[own]).data for path in paths] != alone[own] for _ in range(15))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(wrong, range(8))) == [0] * 8


def test_kserves_paths_are_there_as_on_torchserve(client: FlaskClient, cat: bytes) -> None:
    data = base64.b64encode(cat).decode()
    v1 = client.post("/v1/models/tiny:predict", json={"instances": [{"b64": data}]}).get_json()
    assert len(v1["instances"]) == 1
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": [data]}
    for path in ("/v2/models/tiny/infer", "/v2/models/tiny/versions/1.0/infer"):
        assert client.post(path, json={"inputs": [tensor]}).get_json()["model_name"] == "tiny"
    assert problem(client.post("/v1/models/other:predict", json={}), 404)["code"] == "not_found"


def test_problems_are_the_contracts(client: FlaskClient, cat: bytes) -> None:
    assert problem(client.post("/predict", data=b"no picture"), 415)["code"] == "not_an_image"
    assert problem(client.post("/predict"), 400)["code"] == "empty_body"
    assert problem(client.post("/predict", data={"other": (io.BytesIO(b"field"), "x")}), 400)["code"] == "empty_body"
    assert problem(client.post("/predict?top_k=0", data=cat), 400)["code"] == "bad_parameter"


def test_a_form_with_two_pictures_is_refused_whatever_their_names(client: FlaskClient, cat: bytes) -> None:
    with Image.open(io.BytesIO(cat)) as picture:
        small = encode(picture.resize((90, 60)), "PNG")

    def file(content: bytes = small) -> tuple[io.BytesIO, str]:
        return io.BytesIO(content), "cat.png"

    text = base64.b64encode(small).decode()
    for path in ("/predict", "/predictions/tiny", "/explanations/tiny"):
        for form in ({"data": [file(), file()]}, {"data": file(), "file": file()}, {"data": [file(), text]}):
            assert problem(client.post(path, data=form), 400)["code"] == "several_pictures"
    expected = client.post("/predictions/tiny", data=small).data
    as_form = "multipart/form-data"  # a browser's has an empty part for each file that nobody chose
    chosen = client.post("/predictions/tiny", data={"data": file(), "file": file(b"")}, content_type=as_form)
    as_text = client.post("/predictions/tiny", data={"data": text}, content_type=as_form)
    assert chosen.data == as_text.data == expected


def test_of_two_values_of_a_parameter_none_is_taken_in_silence(client: FlaskClient, cat: bytes) -> None:
    assert problem(client.post("/predict?top_k=2&top_k=3", data=cat), 400)["code"] == "bad_parameter"
    form = {"file": (io.BytesIO(cat), "cat.png"), "top_k": ["2", "2"]}
    assert problem(client.post("/predict", data=form), 400)["code"] == "bad_parameter"
    why = client.post("/explanations/tiny?target=3&target=4&method=occlusion", data=cat)
    assert problem(why, 400)["code"] == "bad_parameter"


def test_what_flask_answers_by_itself_is_a_problem_too(client: FlaskClient, cat: bytes) -> None:
    assert problem(client.get("/nowhere"), 404)["code"] == "not_found"
    assert problem(client.get("/predict"), 405)["code"] == "method_not_allowed"
    assert "tiny 1.0 only" in problem(client.post("/predictions/other", data=cat), 404)["detail"]
    assert problem(client.post("/predictions/tiny/9.9", data=cat), 404)["code"] == "not_found"
    assert problem(client.post("/predict", data=bytes(MAX_BODY + 1)), 413)["status"] == 413


def test_bodies_are_limited_as_torchserves() -> None:
    assert int(read_config(CONFIG_FILE)["max_request_size"]) == MAX_BODY


def test_several_instances_come_back_as_instances(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"instances": [{"b64": "%%%"}]}).get_json()
    assert answer["instances"][0]["code"] == "bad_base64"


def test_an_explanation_is_json_or_a_picture(client: FlaskClient, cat: bytes) -> None:
    answer = client.post("/explanations/tiny?target=3&method=occlusion", data=cat).get_json()
    assert answer["method"] == "occlusion"
    assert answer["class"].startswith("t03 ")
    assert [len(row) for row in answer["heatmap"]] == [7] * 7
    assert answer["region"].keys() == {"left", "top", "right", "bottom"}
    response = client.post("/explanations/tiny", data=cat, headers={"Accept": "image/png"})
    assert response.content_type == "image/png"
    assert Image.open(io.BytesIO(response.data)).size == (32, 32)
    two = {"instances": [{"b64": ""}, {"b64": ""}]}
    assert problem(client.post("/explanations/tiny", json=two), 413)["code"] == "too_many_instances"
    broken = client.post("/explanations/tiny", data=cat[:500], headers={"Accept": "image/png"})
    assert problem(broken, 422)["code"] == "image_broken"


def test_it_says_who_it_is(client: FlaskClient) -> None:
    assert client.get("/ping").get_json() == {"status": "Healthy"}
    assert client.get("/models/tiny").get_json()["model"]["version"] == "1.0"
    page = client.get("/").get_data(as_text=True)
    assert "tiny 1.0" in page
    assert "development" in page


def test_the_page_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    response = client.get("/")
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert "http" not in response.get_data(as_text=True)
