"""TorchServe 0.12.0 loses a worker for good over one gRPC call of `StreamPredictions2`. It cannot be mended from here.
What can be: that it is noticed, and that what brings the worker back is known.

The front end hands the call's picture to a worker, then fails over the call's sequence, which only stateful models
have, and closes the stream. The thread that passes the answer on ends in an exception, and starts no other worker.
"""

import importlib.util
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from torchserve_grpc import inference_pb2, inference_pb2_grpc

from scripts.torchserve.server import Server
from tests.integration.conftest import CHECKOUT, make, serving
from tests.integration.contract import LITE0, post, torchserve
from tests.integration.raw_http import CAT, workers

DEADLINE_S = 60


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lost")


@pytest.fixture(scope="module")
def alone(state: Path) -> Iterator[Server]:
    """A server of its own: it is left without a worker for a while."""
    with serving(state, f"{LITE0}-eager") as running:
        yield running


@pytest.fixture(scope="module")
def waiting() -> Any:
    """What the image's probes ask: docker/bin/ready."""
    loader = SourceFileLoader("ready", str(CHECKOUT / "docker/bin/ready"))
    specification = importlib.util.spec_from_loader("ready", loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module.waiting


def test_a_lost_worker_is_noticed_and_brought_back(alone: Server, state: Path, waiting: Any, cat: bytes) -> None:
    assert waiting(state) == []
    lose_the_worker(alone, cat)
    assert set(workers(alone).values()) == {"READY"}, "TorchServe has noticed by itself: this test can go"
    assert waiting(state) == [f"{LITE0} 1.0: READY without a process"]
    status = make("status", f"STATE={state}")
    assert "a worker's process has ended, but TorchServe counts it as READY" in status.stderr
    client = alone.client()
    client.scale(LITE0, 0)
    client.scale(LITE0, 1)
    client.wait_ready([(LITE0, "1.0")], DEADLINE_S)
    assert waiting(state) == []
    assert "process is gone" not in make("status", f"STATE={state}").stderr
    assert post(torchserve(alone), LITE0, cat).json()["class"] == CAT


def lose_the_worker(server: Server, picture: bytes) -> None:
    """Ask once: a second call would wait in the queue and cost the next worker."""
    ((pid, _),) = workers(server).items()
    with grpc.insecure_channel(server.addresses.grpc_inference, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)  # type: ignore[no-untyped-call]
        message = inference_pb2.PredictionsRequest(model_name=LITE0, sequence_id="a", input={"data": picture})
        with suppress(grpc.RpcError):
            list(stub.StreamPredictions2(iter([message]), timeout=DEADLINE_S))
    deadline = time.monotonic() + DEADLINE_S
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, "the call no longer costs a worker: TorchServe is mended, this test can go"
        time.sleep(0.1)
