"""Versions come and go, and workers too, while sixteen clients ask over REST and four over gRPC: all are answered."""

import io
import runpy
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from scripts.building.build import build
from scripts.building.options import Options
from scripts.console import UserError
from scripts.serving import manage
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.grpc_client import GrpcClient
from scripts.torchserve.server import Server
from stress.clients import ClosedLoop, clients
from stress.questions import Body
from tests.conftest import THIRD_MODEL
from tests.integration.conftest import CHECKOUT, serving

MODEL = "slow"  # its batches take a while, so that there are always requests in the queue and in every worker
CLIENTS = 16
GRPC_CLIENTS = 4
ENOUGH = 3 * CLIENTS  # answers


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions, of two trainings."""
    from slow_net import SlowNet

    folder = tmp_path_factory.mktemp("two-versions")
    for version in ("1.0", "2.0"):
        weights = folder / f"trained-{version}.pth"
        torch.save(SlowNet().state_dict(), weights)
        recipe = THIRD_MODEL / "slow.yaml"
        store = folder / "store"
        build(Options(recipe=recipe, weights=str(weights), store=store, cache=folder, version=version))
    return store


@pytest.fixture(scope="module")
def busy(store: Path, state: Path) -> Iterator[Server]:
    with serving(state, f"{MODEL}-eager-1.0", store=store) as server:
        yield server


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), (shade, 255 - shade, 90)).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def asking(server: Server, version: str = "") -> Iterator[ClosedLoop]:
    """Clients that each wait for their answer; every request of theirs must get one, which is checked at the end."""
    questions = [Body(f"shade {shade}", picture(shade), 200) for shade in range(0, 250, 25)]
    url = f"{server.addresses.inference}/predictions/{MODEL}/{version}".rstrip("/")
    end, failures = threading.Event(), list[str]()
    ask = partial(_ask_over_grpc, server, version or None, end, failures)
    others = [threading.Thread(target=ask) for _ in range(GRPC_CLIENTS)]
    for thread in others:
        thread.start()
    try:
        with clients(url, questions, CLIENTS) as loop:
            yield loop
    finally:
        end.set()
        for thread in others:
            thread.join()
    assert Counter(f"{answer.status} {answer.label}" for answer in loop.answers() if not answer.kept) == {}
    assert failures == []


def _ask_over_grpc(server: Server, version: str | None, end: threading.Event, failures: list[str]) -> None:
    with GrpcClient(server.addresses) as client:
        while not end.is_set():
            try:
                client.predict(picture(100), MODEL, version)
            except RequestFailedError as error:
                failures.append(str(error))


def more(loop: ClosedLoop) -> None:
    """Wait for some more answers."""
    before, pause = len(loop.answers()), threading.Event()
    while len(loop.answers()) < before + ENOUGH:
        pause.wait(0.05)


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.thorough)])
def test_a_version_follows_another_and_no_request_is_lost(busy: Server, state: Path, times: int) -> None:
    waiting = runpy.run_path(str(CHECKOUT / "docker/bin/ready"))["waiting"]
    for _ in range(times):
        old = busy.client().answering(MODEL).version
        new = {"1.0": "2.0", "2.0": "1.0"}[old]
        with asking(busy) as loop:
            more(loop)
            manage.register_archive(f"{MODEL}-eager-{new}.mar", state=state)
            manage.default(model=MODEL, version=new, state=state)
            manage.unregister(model=MODEL, version=old, state=state)
            more(loop)
        assert [one.version for one in busy.client().versions(MODEL)] == [new]
        assert {answer.version for answer in loop.answers()} == {old, new}
        assert loop.answers()[-1].version == new
        assert waiting(state) == []  # what a container's probe asks


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.thorough)])
def test_workers_come_and_go_and_no_request_is_lost(busy: Server, state: Path, times: int) -> None:
    for workers in (2, *(1, 2) * times, 1):
        with asking(busy) as loop:
            more(loop)
            manage.scale(model=MODEL, workers=workers, state=state)
            more(loop)
        assert busy.client().answering(MODEL).workers == ["READY"] * workers


def test_a_version_that_clients_name_stays_until_they_have_gone(busy: Server, state: Path) -> None:
    old = busy.client().answering(MODEL).version
    new = {"1.0": "2.0", "2.0": "1.0"}[old]
    manage.register_archive(f"{MODEL}-eager-{new}.mar", state=state)
    manage.default(model=MODEL, version=new, state=state)
    with asking(busy, version=old) as loop:
        more(loop)
        with pytest.raises(UserError, match=f"{MODEL} {old} still gets requests.*FORCE=1"):
            manage.unregister(model=MODEL, version=old, wait=4, state=state)
        more(loop)
    manage.unregister(model=MODEL, version=old, state=state)
    assert [one.version for one in busy.client().versions(MODEL)] == [new]
