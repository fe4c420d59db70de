"""The life of two versions: retrain, register, default, roll back, stop, serve, unregister, over REST and gRPC."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tiny_net import TinyNet

from scripts.torchserve.client import Client
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.grpc_client import GrpcClient
from scripts.torchserve.server import running, stop
from tests.conftest import THIRD_MODEL
from tests.integration.conftest import CHECKOUT


class Place(NamedTuple):
    """A store and a server of this test's own."""

    store: Path
    state: Path

    def run(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a verb as make does."""
        environment = os.environ | {"PYTHONPATH": str(THIRD_MODEL)}
        folders = [f"STORE={self.store}", f"STATE={self.state}", f"RECIPES={THIRD_MODEL}", "PORTS=free", "MODEL=tiny"]
        command = [sys.executable, "-m", "scripts.command_line", "make", verb, *folders, *options]
        return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)

    def does(self, verb: str, *options: str) -> str:
        """What a verb says that succeeds."""
        result = self.run(verb, *options)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def refuses(self, verb: str, *options: str) -> str:
        """What a verb says that fails with one clear message."""
        result = self.run(verb, *options)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        return " ".join(result.stderr.split())

    def answers(self, picture: bytes, version: str | None = None) -> dict[str, Any]:
        """The answer of the running server, the same over REST and gRPC."""
        addresses = running(self.state).addresses
        answer = Client(addresses).predict(picture, "tiny", version=version)
        with GrpcClient(addresses) as client:
            assert client.predict(picture, "tiny", version=version) == answer
        return answer


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path / "store", tmp_path / "state")
    yield found
    stop(found.state)


def trained(seed: int, folder: Path) -> str:
    path = folder / f"trained-{seed}.pth"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(TinyNet().state_dict(), path)
    return f"WEIGHTS={path}"


def since(said: str) -> str:
    found = re.search(r"default since ([^ ]+ [^ ]+ UTC)", said)
    assert found is not None, said
    return found[1]


def test_two_trainings_are_two_versions_that_come_and_go_and_come_back(
    place: Place, tmp_path: Path, cat: bytes
) -> None:
    first, second = trained(1, tmp_path), trained(2, tmp_path)
    place.does("archive", first)
    assert sorted(path.name for path in place.store.glob("*.mar")) == ["tiny-eager-1.0.mar", "tiny-torchscript-2.0.mar"]
    place.does("serve", "MODELS=tiny")
    old = place.answers(cat)
    assert old["model"] | {"version": "1.0", "weights": "trained-1"} == old["model"]

    # retrain: the version that answers stays as it is
    before = (place.store / "tiny-eager-1.0.mar").read_bytes()
    refused = place.refuses("archive", second, "RUNTIME=eager")
    assert "What differs: weights" in refused
    assert "VERSION=1.0.1, or with VERSION=next" in refused
    assert "the server of" in place.refuses("archive", second, "RUNTIME=eager", "FORCE=1")
    assert (place.store / "tiny-eager-1.0.mar").read_bytes() == before
    place.does("archive", second, "VERSION=next")
    assert (place.store / "tiny-torchscript-2.0.1.mar").exists()

    # register: nothing changes yet
    place.does("register", "ARCHIVE=tiny-eager")
    assert place.answers(cat) == old == place.answers(cat, "1.0")
    new = place.answers(cat, "1.0.1")
    assert new["model"] == old["model"] | {"version": "1.0.1", "weights": "trained-2"}
    assert new["predictions"] != old["predictions"]
    assert '"version": "1.0.1"' in place.does("describe", "VERSION=1.0.1")
    assert '"version": "1.0"' in place.does("describe")

    # default
    place.does("default", "VERSION=1.0.1")
    assert place.answers(cat) == new
    said = place.does("versions")
    assert since(said)
    assert re.search(
        r"tiny 1\.0\.1  default since .*\n +tiny-eager-1\.0\.1\.mar  content \w{12}  weights trained-2", said
    )
    assert re.search(r"tiny 1\.0  READY, READY\n +tiny-eager-1\.0\.mar  content \w{12}  weights trained-1", said)

    # roll back, stop, serve: the same version answers, and the other one is there
    place.does("default", "VERSION=1.0")
    assert place.answers(cat) == old
    rolled_back = since(place.does("status"))
    place.does("stop")
    assert "the server of" in place.refuses("archive", trained(3, tmp_path), "RUNTIME=eager", "FORCE=1")
    place.does("serve")
    assert place.answers(cat) == old
    assert place.answers(cat, "1.0.1") == new
    assert since(place.does("status")) == rolled_back

    # unregister
    assert "is the default version" in place.refuses("unregister", "VERSION=1.0")
    place.does("unregister", "VERSION=1.0", "FORCE=1")
    assert place.answers(cat) == new
    with pytest.raises(RequestFailedError):
        place.answers(cat, "1.0")
    assert "is the last version" in place.refuses("unregister", "VERSION=1.0.1")
    place.does("unregister", "VERSION=1.0.1", "FORCE=1")
    with pytest.raises(RequestFailedError):
        place.answers(cat)
    place.does("archive", trained(3, tmp_path), "RUNTIME=eager", "FORCE=1")  # no server has it any more
