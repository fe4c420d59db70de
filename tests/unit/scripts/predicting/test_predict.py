import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from msgspec.structs import replace
from torchserve_grpc import inference_pb2, inference_pb2_grpc

from scripts.console import UserError
from scripts.predicting import predict as program
from scripts.predicting.predict import answer_table, predict
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.server import Server
from tests.unit.conftest import Answer, FakeTorchServe, predicted

PROBLEM = {"status": 415, "code": "not_an_image", "title": "No picture", "detail": "no format begins like this"}


class GrpcServer(inference_pb2_grpc.InferenceAPIsServiceServicer):
    """Plays TorchServe's inference API over gRPC."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer: object = predicted()

    def Predictions(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name that the stubs look for
        self.asked.append(request)
        if self.answer is None:
            context.abort(grpc.StatusCode.INTERNAL, "Model not found")
        return inference_pb2.PredictionResponse(prediction=json.dumps(self.answer).encode())


@pytest.fixture
def grpc_server() -> Iterator[tuple[GrpcServer, str]]:
    """The player and its address."""
    player = GrpcServer()
    server = grpc.server(ThreadPoolExecutor(1))
    inference_pb2_grpc.add_InferenceAPIsServiceServicer_to_server(player, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield player, f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def server(torchserve: FakeTorchServe, grpc_server: tuple[GrpcServer, str]) -> Server:
    return replace(torchserve.server, addresses=replace(torchserve.addresses, grpc_inference=grpc_server[1]))


def test_rest_and_grpc_ask_the_same_and_give_the_same_answer(
    torchserve: FakeTorchServe, grpc_server: tuple[GrpcServer, str], server: Server
) -> None:
    torchserve.answers["POST /predictions/tiny/2.0"] = [Answer(predicted())]
    over_rest = predict(server, b"picture", "tiny", "2.0", 2, grpc=False)
    over_grpc = predict(server, b"picture", "tiny", "2.0", 2, grpc=True)
    assert over_rest == over_grpc == predicted()
    (rest,), (request,) = torchserve.asked, grpc_server[0].asked
    assert (rest.body, rest.headers["X-Top-K"]) == (b"picture", "2")
    assert (request.model_name, request.model_version) == ("tiny", "2.0")
    assert dict(request.input) == {"data": b"picture", "answers": b"full", "top_k": b"2"}


def test_grpc_leaves_out_what_was_not_asked_for(grpc_server: tuple[GrpcServer, str], server: Server) -> None:
    predict(server, b"picture", "tiny", None, None, grpc=True)
    (request,) = grpc_server[0].asked
    assert (request.model_version, dict(request.input)) == ("", {"data": b"picture", "answers": b"full"})


@pytest.mark.parametrize("over_grpc", [False, True])
def test_a_problem_is_the_same_error_over_both(
    over_grpc: bool, torchserve: FakeTorchServe, grpc_server: tuple[GrpcServer, str], server: Server
) -> None:
    torchserve.answers["POST /predictions/tiny"] = [Answer(PROBLEM, 415, "application/problem+json")]
    grpc_server[0].answer = PROBLEM
    with pytest.raises(RequestFailedError, match="no format begins like this") as caught:
        predict(server, b"?", "tiny", None, None, grpc=over_grpc)
    assert (caught.value.status, caught.value.code) == (415, "not_an_image")


def test_what_the_front_end_refuses_over_grpc_has_grpcs_code(
    grpc_server: tuple[GrpcServer, str], server: Server
) -> None:
    grpc_server[0].answer = None
    with pytest.raises(RequestFailedError, match=r"Model not found \(gRPC INTERNAL\)") as caught:
        predict(server, b"?", "tiny", None, None, grpc=True)
    assert caught.value.code == "INTERNAL"


def test_the_table_has_a_row_for_each_class_and_names_the_model_and_its_weights() -> None:
    table = answer_table(predicted(weights="untrained"))
    assert table.title == "tiny 1.0 · eager float32 · weights: untrained"
    assert [list(column.cells) for column in table.columns] == [["star", "square"], ["t04", "t01"], ["62.5%", "25.0%"]]


@pytest.fixture
def running(torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> FakeTorchServe:
    """The fake server, which every state folder leads to."""
    monkeypatch.setattr(program, "running", lambda _: torchserve.server)
    return torchserve


def test_the_program_sends_the_file_and_shows_the_table(
    running: FakeTorchServe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a picture.png").write_bytes(b"picture")
    running.answers["POST /predictions/tiny/2.0"] = [Answer(predicted())]
    program.main(tmp_path / "a picture.png", model="tiny", version="2.0", top_k=2)
    assert running.asked[0].body == b"picture"
    assert running.asked[0].headers["X-Top-K"] == "2"
    assert "star" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "reason"), [("missing.png", "No such file"), ("", "Is a directory")])
@pytest.mark.usefixtures("running")
def test_a_picture_that_cannot_be_read_is_named(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path / name}: {reason}"):
        program.main(tmp_path / name)


@pytest.mark.usefixtures("running")
def test_what_the_server_refuses_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    with pytest.raises(UserError, match="Model not found"):
        program.main(tmp_path / "x.png", model="nope")


def test_without_a_server_the_program_says_how_to_start_one(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    with pytest.raises(UserError, match="make serve"):
        program.main(tmp_path / "x.png", state=tmp_path / "state")
