"""gRPC calls that are wrong, or of kinds that nobody tries. The one that costs a worker: test_lost_worker_7070.py."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from torchserve_grpc import inference_pb2, inference_pb2_grpc

from scripts.torchserve.config import CONFIG_FILE, read_config
from scripts.torchserve.server import Server
from tests.integration.contract import LITE0
from tests.integration.raw_http import CAT, nothing_lost

TIMEOUT_S = 30
LIMIT = int(read_config(CONFIG_FILE)["max_request_size"])
PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]

Codes = grpc.StatusCode


@pytest.fixture(scope="module", autouse=True)
def unharmed(server: Server, cat: bytes) -> Iterator[None]:
    with nothing_lost(server, cat):
        yield


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.addresses.grpc_inference, OPTIONS) as opened:
        yield opened


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return inference_pb2_grpc.InferenceAPIsServiceStub(channel)  # type: ignore[no-untyped-call]


def asked(model: str = LITE0, version: str = "", **fields: bytes) -> inference_pb2.PredictionsRequest:
    return inference_pb2.PredictionsRequest(model_name=model, model_version=version, input=fields)


def refused(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as error:
        call()
    code: grpc.StatusCode = error.value.code()
    return code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "empty_body"),
        ({"data": b""}, "empty_body"),
        ({"picture": b"abc"}, "empty_body"),
        ({"data": b"abc", "file": b"abc"}, "several_pictures"),
        ({"data": b"abc", "": b"", "x": b"\xff"}, "not_an_image"),
        ({"data": b"abc", "top_k": b"\xff"}, "bad_parameter"),
        ({"data": b'{"instances": 5}'}, "bad_json"),
        ({"data": bytes(LIMIT - 100)}, "not_an_image"),
        ({"data": b"abc"} | {f"key {number}": b"" for number in range(10_000)}, "not_an_image"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_the_worker_refuses_is_a_problem(stub: Any, fields: dict[str, bytes], code: str) -> None:
    message = inference_pb2.PredictionsRequest(model_name=LITE0, input=fields)
    assert f'"code":"{code}"'.encode() in stub.Predictions(message, timeout=TIMEOUT_S).prediction


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (asked(""), Codes.INTERNAL),
        (asked("nobody"), Codes.INTERNAL),
        (asked(version="9.9"), Codes.INTERNAL),
        (asked("x" * 1_000_000), Codes.INTERNAL),
        (asked(data=bytes(LIMIT)), Codes.CANCELLED),  # above the limit the front end resets the call
    ],
    ids=lambda value: "" if isinstance(value, inference_pb2.PredictionsRequest) else value.name,
)
def test_what_the_front_end_refuses(stub: Any, request_: inference_pb2.PredictionsRequest, code: Codes) -> None:
    assert refused(lambda: stub.Predictions(request_, timeout=TIMEOUT_S)) is code


@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe"], ids=["no protobuf", "no UTF-8"])
def test_bytes_that_are_no_message(channel: grpc.Channel, message: bytes) -> None:
    call = channel.unary_unary(PREDICTIONS, request_serializer=lambda raw: raw, response_deserializer=lambda raw: raw)
    assert refused(lambda: call(message, timeout=TIMEOUT_S)) is Codes.UNKNOWN


def test_a_stream_is_one_answer(stub: Any, cat: bytes) -> None:
    """It used to cost the worker its life: the front end looks for the end of the stream in a header."""
    (answer,) = stub.StreamPredictions(asked(data=cat), timeout=TIMEOUT_S)
    assert CAT.encode() in answer.prediction
    (problem,) = stub.StreamPredictions(asked(), timeout=TIMEOUT_S)
    assert b'"code":"empty_body"' in problem.prediction
    like_http = asked(data=cat)
    like_http.input["content-length"] = b"5"
    (answer,) = stub.StreamPredictions(like_http, timeout=TIMEOUT_S)
    assert CAT.encode() in answer.prediction


def test_cancelled_calls_leave_their_neighbours_alone(stub: Any, cat: bytes) -> None:
    calls = [stub.Predictions.future(asked(data=cat), timeout=TIMEOUT_S) for _ in range(24)]
    for call in calls[::2]:
        call.cancel()
    for call in calls[1::2]:
        assert CAT.encode() in call.result().prediction
    assert refused(lambda: stub.Predictions(asked(data=cat), timeout=0.001)) is Codes.DEADLINE_EXCEEDED
