"""The two gRPC ports, with stubs generated from TorchServe's own proto files."""

import io
from collections.abc import Iterator

import grpc
import pytest
from PIL import Image

from scripts.torchserve.client import Client
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.grpc_client import GrpcClient
from scripts.torchserve.server import Server
from tests.conftest import encode

LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def grpc_client(server: Server) -> Iterator[GrpcClient]:
    with GrpcClient(server.addresses) as client:
        yield client


def test_grpc_gives_the_same_answer_as_rest(grpc_client: GrpcClient, client: Client, cat: bytes) -> None:
    answer = grpc_client.predict(cat, LITE0, top_k=3)
    assert answer == client.predict(cat, LITE0, top_k=3)
    assert answer["class"] == "n02124075 Egyptian cat"
    assert len(answer["predictions"]) == 3


def test_grpc_carries_pictures_beyond_its_own_default_of_four_megabytes(grpc_client: GrpcClient, cat: bytes) -> None:
    with Image.open(io.BytesIO(cat)) as picture:
        large = encode(picture.resize((2000, 1330)), "BMP")
    assert len(large) > 7_000_000
    assert len(grpc_client.predict(large, LITE0)["predictions"]) == 5


def test_grpc_takes_a_version(grpc_client: GrpcClient, cat: bytes) -> None:
    assert grpc_client.predict(cat, "vgg16", version="1.0")["model"]["version"] == "1.0"


def test_a_problem_keeps_its_status_and_code(grpc_client: GrpcClient) -> None:
    with pytest.raises(RequestFailedError, match="begins with these bytes") as refused:
        grpc_client.predict(b"no picture", LITE0)
    assert (refused.value.status, refused.value.code) == (415, "not_an_image")


def test_an_unknown_model_is_not_found(grpc_client: GrpcClient, cat: bytes) -> None:
    with pytest.raises(RequestFailedError, match="nobody") as refused:
        grpc_client.predict(cat, "nobody")
    assert refused.value.code == grpc.StatusCode.INTERNAL.name  # what TorchServe 0.12.0 makes of its own 404


def test_the_management_port_describes_a_model(grpc_client: GrpcClient) -> None:
    (described,) = grpc_client.describe("vgg16")
    assert described["modelName"] == "vgg16"
    assert [worker["status"] for worker in described["workers"]] == ["READY"]
