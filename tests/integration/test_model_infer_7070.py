"""gRPC's ModelInfer of KServe's protocol v2, which TorchServe has with TS_OPEN_INFERENCE_PROTOCOL=oip.

Its front end takes four fields of a worker's answer for granted. An answer without one of them cost the worker its
life, and every request of the batch its answer.
"""

import json
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_tools import protoc

from scripts.torchserve.server import Server, workers
from tests.integration.conftest import serving
from tests.integration.contract import TIMEOUT_S, post, torchserve

MODEL = "tiny"
PROTO = "open_inference_grpc.proto"


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The protocol's messages, generated from the proto file in TorchServe's jar."""
    folder = tmp_path_factory.mktemp("stubs")
    with zipfile.ZipFile(Path(sysconfig.get_path("purelib"), "ts", "frontend", "model-server.jar")) as jar:
        (folder / PROTO).write_bytes(jar.read(f"proto/{PROTO}"))
    assert protoc.main(["protoc", f"-I{folder}", f"--python_out={folder}", PROTO]) == 0
    sys.path.insert(0, str(folder))
    yield import_module("open_inference_grpc_pb2")
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def server(tiny_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    archive = tiny_archive()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TS_OPEN_INFERENCE_PROTOCOL", "oip")
        with serving(tmp_path_factory.mktemp("oip") / "state", str(archive), store=archive.parent) as running:
            yield running


@pytest.fixture(scope="module")
def infer(server: Server, messages: Any) -> Iterator[Callable[..., Any]]:
    """ModelInfer with one tensor of pictures, whose fields may be replaced; the answer's tensors by name."""
    path = f"/{messages.DESCRIPTOR.package}.GRPCInferenceService/ModelInfer"
    with grpc.insecure_channel(server.addresses.grpc_inference, [("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(
            path,
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )

        def ask(*pictures: bytes, request_id: str = "7", tensors: int = 1, **fields: Any) -> Any:
            tensor = {"name": "image", "datatype": "BYTES", "shape": [len(pictures)]} | fields
            contents = messages.InferTensorContents(bytes_contents=pictures)
            inputs = [messages.ModelInferRequest.InferInputTensor(contents=contents, **tensor)] * tensors
            request = messages.ModelInferRequest(model_name=MODEL, id=request_id, inputs=inputs)
            return call(request, timeout=TIMEOUT_S)

        yield ask


def tensors(answer: Any) -> dict[str, list[Any]]:
    """The tensors of an answer by name. TorchServe writes each text of a BYTES tensor as JSON does, in quotes."""
    return {
        tensor.name: [json.loads(text) for text in tensor.contents.bytes_contents]
        or list(tensor.contents.fp32_contents)
        for tensor in answer.outputs
    }


def test_a_picture_is_answered_as_over_http(infer: Callable[..., Any], server: Server, cat: bytes) -> None:
    answer = infer(cat)
    assert (answer.id, answer.model_name, answer.model_version) == ("7", MODEL, "1.0")
    expected = post(torchserve(server), MODEL, cat).json()["predictions"]
    found = tensors(answer)
    assert found["class_id"] == [prediction["class_id"] for prediction in expected]
    assert found["probability"] == pytest.approx([prediction["probability"] for prediction in expected], abs=1e-6)
    assert found["problem"] == [""]
    assert infer(cat, request_id="").id == ""


def test_the_problem_of_a_picture_stands_in_its_row(infer: Callable[..., Any], cat: bytes) -> None:
    good, bad = tensors(infer(cat, b"no picture", shape=[-1]))["problem"]
    assert (good, json.loads(bad)["code"]) == ("", "not_an_image")


@pytest.mark.parametrize(
    ("pictures", "fields", "code"),
    [
        ([], {}, "empty_body"),
        ([b"no picture"] * 6, {}, "too_many_instances"),
        ([b"no picture"], {"shape": [2]}, "bad_json"),
        ([b"no picture"], {"tensors": 0}, "bad_json"),
        ([b"no picture"], {"tensors": 2}, "bad_json"),
        ([b"no picture"], {"datatype": "FP32"}, "bad_json"),
        ([b"no picture"], {"datatype": "PICTURES"}, "bad_json"),
        ([b"no picture"], {"request_id": "7" * 300}, "bad_json"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_the_problem_of_a_request_is_an_answer_that_costs_no_neighbour_and_no_worker(
    infer: Callable[..., Any], server: Server, cat: bytes, pictures: list[bytes], fields: dict[str, Any], code: str
) -> None:
    before = [process.pid for process in workers(server)]
    with ThreadPoolExecutor(4) as pool:
        neighbours = [pool.submit(post, torchserve(server), MODEL, cat) for _ in range(3)]
        answer = pool.submit(infer, *pictures, **fields).result()
        assert [neighbour.result().status_code for neighbour in neighbours] == [200] * 3
    (problem,) = tensors(answer)["problem"]
    assert json.loads(problem)["code"] == code
    assert (answer.model_name, answer.model_version) == (MODEL, "1.0")
    assert answer.id == ("" if len(fields.get("request_id", "")) > 256 else "7")
    assert [process.pid for process in workers(server)] == before
