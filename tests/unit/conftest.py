"""Fixtures of the unit tests: small web servers on this machine, a golden set of two pictures, a build of tiny."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from classifier.digests import members

from scripts.building.options import Options
from scripts.torchserve.config import Addresses
from scripts.torchserve.server import Server
from stress.hostile.files import stored as stored
from tests.conftest import THIRD_MODEL, TINY_RECIPE

if TYPE_CHECKING:
    from classifier.responses import Response

StartServer = Callable[[type[BaseHTTPRequestHandler]], str]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxy this machine has is not asked for what is on this machine."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def web_server() -> Iterator[StartServer]:
    """Start a web server with that handler and get its address. It ends with the test."""
    with ExitStack() as stack:

        def start(handler: type[BaseHTTPRequestHandler]) -> str:
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


@pytest.fixture
def refusing_address() -> Iterator[str]:
    """An address where nothing listens, and nobody else can begin to while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two photographs: enough to compare exports on."""
    from scripts.building.golden import photograph

    folder = tmp_path_factory.mktemp("golden")
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(photograph(name), folder)
    return folder


@pytest.fixture
def options(tmp_path: Path, tiny_weights: Path, golden: Path) -> Options:
    """A build of tiny, eager, into a store and from a cache of its own."""
    return Options(
        recipe=TINY_RECIPE,
        weights=str(tiny_weights),
        golden=golden,
        store=tmp_path / "store",
        cache=tmp_path / "cache",
        state=tmp_path / "state",
    )


def command(options: Options) -> list[str]:
    """The build as a command line."""
    return [sys.executable, "-m", "scripts.building", options.json().decode()]


def start(arguments: list[str], hash_seed: str) -> subprocess.Popen[str]:
    """Start a build in a process of its own, as `make archive` does. A hash seed of 0 spares it a second start."""
    environment = os.environ | {"PYTHONPATH": str(THIRD_MODEL), "PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def contents(archive: Path) -> dict[str, bytes]:
    """All files of an archive."""
    return {name: stream.read() for name, stream in members(archive)}


class Asked(NamedTuple):
    """A request that arrived."""

    what: str  # method and path, query included
    headers: Message
    body: bytes


class Answer(NamedTuple):
    """What a server answers. Without a status it hangs up; `cut` bytes of the promised body never come."""

    body: object = None  # bytes go as they are, all else as JSON
    status: int = 200
    content_type: str = "application/json"
    cut: int = 0


NOT_FOUND = Answer({"code": 404, "type": "ModelNotFoundException", "message": "Model not found"}, 404)
HANG_UP = Answer(status=0)


class FakeTorchServe:
    """Plays TorchServe: answers `"GET /ping"` and the like from a table, and remembers what it was asked.

    Of several answers each is given once, the last one for ever. All else is not found.
    """

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        self.address = ""

    @property
    def addresses(self) -> Addresses:
        """As if all ports were one."""
        grpc = "127.0.0.1:1"
        return Addresses(
            inference=self.address,
            management=self.address,
            metrics=self.address,
            grpc_inference=grpc,
            grpc_management=grpc,
        )

    @property
    def server(self) -> Server:
        """As its state folder would describe it."""
        return Server(pid=0, created=0, addresses=self.addresses, temporary=str(self.temporary), models=[])

    def questions(self) -> list[str]:
        """The method and path of every request so far."""
        return [asked.what for asked in self.asked]

    def take(self, asked: Asked) -> Answer:
        """Remember the request and find its answer."""
        self.asked.append(asked)
        answers = self.answers.get(asked.what, [NOT_FOUND])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The class that the web server wants."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                answer = fake.take(Asked(f"{self.command} {self.path}", self.headers, body))
                if not answer.status:
                    return
                content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - answer.cut])

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the names that http.server looks for

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


@pytest.fixture
def torchserve(web_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> FakeTorchServe:
    """A fake TorchServe that answers on this machine."""
    fake = FakeTorchServe(tmp_path_factory.mktemp("torchserve"))
    fake.address = web_server(fake.handler())
    return fake


_NO_PID = 2**22 + 1  # Linux has none above 2**22


def described(version: str, *workers: str, model: str = "tiny", minimum: int = 1, waiting: int = 0) -> dict[str, Any]:
    """A version of a model as TorchServe's management API describes it, shortened to what anybody reads."""
    return {
        "modelName": model,
        "modelVersion": version,
        "modelUrl": f"{model}-eager-{version}.mar",
        "minWorkers": minimum,
        "maxWorkers": minimum,
        "batchSize": 4,
        "maxBatchDelay": 1,
        "responseTimeout": 120,
        "jobQueueStatus": {"remainingCapacity": 96 - waiting, "pendingRequests": waiting},
        "workers": [
            {"id": str(9000 + index), "status": status, "pid": _NO_PID + index} for index, status in enumerate(workers)
        ],
    }


def predicted(model: str = "tiny", weights: str = "tiny-trained") -> dict[str, object]:
    """An answer to a prediction, as the contract has it, of two classes."""
    predictions = [
        {"class_id": "t04", "class_name": "star", "probability": 0.625},
        {"class_id": "t01", "class_name": "square", "probability": 0.25},
    ]
    identity = {"name": model, "version": "1.0", "runtime": "eager", "precision": "float32", "weights": weights}
    return {"class": "t04 star", "probability": 0.625, "predictions": predictions, "model": identity}


def assert_same(response: Response, expected: Response) -> None:
    """Two answers to the same picture; the size of its batch may change the last digits."""
    assert (response.status, response.content_type) == (expected.status, expected.content_type)
    found, wanted = json.loads(response.body), json.loads(expected.body)
    assert [item["class_id"] for item in found["predictions"]] == [item["class_id"] for item in wanted["predictions"]]
    for item, other in zip(found["predictions"], wanted["predictions"], strict=True):
        assert item["probability"] == pytest.approx(other["probability"], abs=1e-6)
