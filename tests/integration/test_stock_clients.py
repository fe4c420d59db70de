"""Clients of TorchServe's own `image_classifier`, against that handler and against this project's stock form.

The requests are those of TorchServe's own tests and documentation: its Postman collections for predictions,
explanations and KServe's protocol v1, and its gRPC client, written anew. Both servers have the same weights and prepare
pictures alike, so fields, types and values must be the same.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from torchserve_grpc import inference_pb2, inference_pb2_grpc

from benchmarks.stock import build_stock, stock_config
from scripts.archives.store import find_archive
from scripts.building.build import build
from scripts.building.options import Options
from scripts.torchserve.client import Client
from scripts.torchserve.grpc_client import GrpcClient
from scripts.torchserve.server import Server, running
from scripts.torchserve.server import serving as start_and_stop
from tests.conftest import THIRD_MODEL, TINY_RECIPE
from tests.integration.conftest import make, serving
from tests.integration.contract import TIMEOUT_S, assert_problem

MODEL = "tiny"
TOLERANCE = 1e-4  # of a probability: the batch and a scaled decode change the last digits
V1 = f"/v1/models/{MODEL}"


def b64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def v1_body(*pictures: bytes) -> dict[str, Any]:
    return {"instances": [{"data": b64(picture)} for picture in pictures]}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with the preparation that is fixed in TorchServe's handler: 256, then 224 in the middle."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "labels.json").write_bytes((THIRD_MODEL / "labels.json").read_bytes())
    text = TINY_RECIPE.read_text().replace("resize: 36", "resize: 256").replace("crop: 32", "crop: 224")
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def stock_recipe(recipe: Path) -> Path:
    path = recipe.with_name("stock.yaml")
    path.write_text(recipe.read_text() + "\nanswers: stock\n")
    return path


@pytest.fixture(scope="module")
def ours(stock_recipe: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """This project's server of an archive whose recipe says `answers: stock`."""
    folder = tmp_path_factory.mktemp("ours")
    build(Options(recipe=stock_recipe, weights=str(tiny_weights), store=folder / "store", cache=folder))
    with serving(folder / "state", MODEL, store=folder / "store") as server:
        yield server


@pytest.fixture(scope="module", params=["plain", "kserve"])
def envelope(request: pytest.FixtureRequest) -> str:
    """TorchServe takes KServe's protocol v1 only with a setting, and then nothing else; so there are two servers."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def stock(
    envelope: str, recipe: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """TorchServe's own handler in its default configuration."""
    folder = tmp_path_factory.mktemp(f"stock-{envelope}")
    options = Options(recipe=recipe, weights=str(tiny_weights), store=folder / "eager", cache=folder)
    (folder / "store").mkdir()
    archive = build_stock(find_archive(str(build(options)[0]), options.store), folder / "store")
    config = stock_config(archive.path.parent) | ({} if envelope == "plain" else {"service_envelope": envelope})
    with start_and_stop(config, [archive], folder / "state", None) as server:
        yield server


def ask(server: Server, path: str, **options: Any) -> Any:
    response = requests.post(server.addresses.inference + path, timeout=TIMEOUT_S, **options)
    assert response.status_code == 200, response.text
    return response.json()


def assert_same_classes(found: Any, expected: Any) -> None:
    """Same names in the same order, numbers as values."""
    assert type(found) is type(expected) is dict
    assert list(found) == list(expected)
    assert {type(value) for value in (*found.values(), *expected.values())} == {float}
    assert found == pytest.approx(expected, abs=TOLERANCE)


def assert_same_attributions(found: Any, expected: Any) -> None:
    one, other = np.array(found), np.array(expected)
    assert one.shape == other.shape == (3, 224, 224)
    assert np.abs(one - other).max() < 0.02 * np.abs(other).max()


@pytest.fixture
def requests_of_clients(cat: bytes, coffee: bytes, envelope: str) -> dict[str, dict[str, Any]]:
    """What stock clients send, as options of `requests.post`, to a server without or with KServe's envelope."""
    if envelope == "kserve":
        return {
            "file": {"data": json.dumps(v1_body(cat))},
            "json": {"json": v1_body(cat)},
            "two": {"json": v1_body(cat, coffee)},
        }
    return {
        "curl -T": {"data": cat},
        "octets": {"data": cat, "headers": {"Content-Type": "application/octet-stream"}},
        "form": {"files": {"data": ("cat.png", cat, "image/png")}},
        "text": {"data": b64(cat), "headers": {"Content-Type": "text/plain"}},
        "wrapped text": {"data": base64.encodebytes(coffee), "headers": {"Content-Type": "text/plain"}},
        "json string": {"json": b64(coffee)},
    }


def test_predictions_are_the_same(ours: Server, stock: Server, requests_of_clients: Any, envelope: str) -> None:
    paths = [f"{V1}:predict"] if envelope == "kserve" else [f"/predictions/{MODEL}", f"/predictions/{MODEL}/1.0"]
    for name, options in requests_of_clients.items():
        for path in paths:
            found, expected = ask(ours, path, **options), ask(stock, path, **options)
            if envelope == "plain":
                assert_same_classes(found, expected)
                continue
            assert list(found) == list(expected) == ["predictions"]
            assert len(found["predictions"]) == len(expected["predictions"]) == (2 if name == "two" else 1)
            for one, other in zip(found["predictions"], expected["predictions"], strict=True):
                assert_same_classes(one, other)


def test_explanations_are_the_same(ours: Server, stock: Server, cat: bytes, envelope: str) -> None:
    if envelope == "plain":
        path = f"/explanations/{MODEL}"
        assert_same_attributions(ask(ours, path, data=cat), ask(stock, path, data=cat))
        return
    found, expected = (ask(server, f"{V1}:explain", json=v1_body(cat)) for server in (ours, stock))
    assert list(found) == list(expected) == ["explanations"]
    assert len(found["explanations"]) == len(expected["explanations"]) == 1
    assert_same_attributions(found["explanations"][0], expected["explanations"][0])


@pytest.mark.parametrize("call", ["Predictions", "StreamPredictions"])
def test_torchserves_grpc_client_reads_the_same(
    ours: Server, stock: Server, cat: bytes, envelope: str, call: str
) -> None:
    content = cat if envelope == "plain" else json.dumps(v1_body(cat)).encode()
    expected = ask(stock, f"/predictions/{MODEL}", data=content)
    # StreamPredictions ends the worker of TorchServe's own handler, which sets no header for it (docs/requests.md)
    servers = [ours, stock] if call == "Predictions" else [ours]
    for found in (json.loads(grpc_answer(server, call, content)) for server in servers):
        if envelope == "plain":
            assert_same_classes(found, expected)
        else:
            assert list(found) == list(expected) == ["predictions"]
            assert_same_classes(found["predictions"][0], expected["predictions"][0])


def grpc_answer(server: Server, call: str, content: bytes) -> bytes:
    """What TorchServe's own client prints: the one answer of a call, or all of a stream together."""
    with grpc.insecure_channel(server.addresses.grpc_inference, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)  # type: ignore[no-untyped-call]
        request = inference_pb2.PredictionsRequest(model_name=MODEL, input={"data": content})
        answer = getattr(stub, call)(request, timeout=TIMEOUT_S)
        answers = [answer] if call == "Predictions" else list(answer)
    return b"".join(part.prediction for part in answers)


def test_what_stock_refuses_is_answered_or_is_a_problem(ours: Server, cat: bytes) -> None:
    """Beyond the stock handler: JSON without an envelope, a number of classes, errors that say why."""
    path = f"/predictions/{MODEL}"
    assert ask(ours, path, json={"data": b64(cat)}) == pytest.approx(ask(ours, path, data=cat), abs=TOLERANCE)
    assert len(ask(ours, path, data=cat, headers={"X-Top-K": "2"})) == 2
    refused = requests.post(ours.addresses.inference + path, data=b"no picture!", timeout=TIMEOUT_S)
    assert_problem(refused, 415, "not_an_image")


def test_the_projects_own_clients_and_v2_read_what_they_always_do(ours: Server, cat: bytes) -> None:
    client = Client(ours.addresses)
    with GrpcClient(ours.addresses) as grpc_client:
        answers = [client.predict(cat, MODEL), grpc_client.predict(cat, MODEL)]
    assert [answer["model"]["name"] for answer in answers] == [MODEL, MODEL]
    assert client.describe(MODEL)["customizedMetadata"]["answers"] == "stock"
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [b64(cat)]}
    outputs = ask(ours, f"/v2/models/{MODEL}/infer", json={"inputs": [tensor]})["outputs"]
    assert [output["name"] for output in outputs] == ["class_id", "class_name", "probability", "problem"]


def test_a_server_keeps_its_form_when_it_starts_again(
    recipe: Path, tiny_weights: Path, tmp_path: Path, cat: bytes
) -> None:
    """The setting wins over the recipe, whose form is full, and workers that are added later have it too."""
    build(Options(recipe=recipe, weights=str(tiny_weights), store=tmp_path / "store", cache=tmp_path))
    where = (f"STORE={tmp_path / 'store'}", f"STATE={tmp_path / 'state'}", "PORTS=free")
    fields = []
    try:
        for said in (("ANSWERS=stock", "MODELS=tiny"), (), ("ANSWERS=recipe",), ()):
            started = make("serve", *where, *said)
            assert started.returncode == 0, started.stderr
            server = running(tmp_path / "state")
            server.client().scale(MODEL, 0)
            server.client().scale(MODEL, 1)
            fields.append("predictions" in ask(server, f"/predictions/{MODEL}", data=cat))
            assert make("stop", where[1]).returncode == 0
            assert ("as the last server's; ANSWERS=recipe ends that" in started.stdout) == (len(fields) == 2)
    finally:
        make("stop", where[1])
    assert fields == [False, False, True, True]
