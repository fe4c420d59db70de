"""Starts and stops the other servers: each in its own environment, process group and temporary folder."""

import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil

from benchmarks.load import first_answer
from benchmarks.peers import SUBJECT, PeerName
from benchmarks.running import Running, processes
from scripts.console import UserError, tail
from scripts.ports import free_port

ENVIRONMENTS: Final = Path(".peers")  # one for each server
_STOP_DEADLINE_S: Final = 10  # it has nothing to save
_DROPPED_VARIABLES: Final = ("MAKEFLAGS", "MAKELEVEL", "PYTHONPATH")


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """How one of the other servers is started and asked."""

    arguments: str  # of Python
    path: str
    field: str = ""  # of the form that carries the picture; without it the body is the picture
    variables: Mapping[str, str] = {}  # of its environment


PEERS: Final[dict[PeerName, Peer]] = {
    "litserve": Peer(arguments="-m benchmarks.peers.litserve {port}", path="/predict", field="picture"),
    "mosec": Peer(
        arguments="-m benchmarks.peers.mosec --address 127.0.0.1 --port {port} --timeout 60000", path="/inference"
    ),
    "bentoml": Peer(
        arguments="-m bentoml serve benchmarks.peers.bentoml:Classifier --host 127.0.0.1 --port {port}",
        path="/predict",
        field="picture",
        variables={"BENTOML_HOME": "{folder}", "BENTOML_DO_NOT_TRACK": "True"},
    ),
    "ray": Peer(
        arguments="-m benchmarks.peers.ray {port}",
        path="/",
        variables={"RAY_USAGE_STATS_ENABLED": "0"},
    ),
    "fastapi": Peer(
        arguments="-m uvicorn benchmarks.peers.fastapi:app --host 127.0.0.1 --port {port} --log-level warning",
        path="/predict",
    ),
}


def require_peers(names: Sequence[PeerName]) -> None:
    """Raise a UserError if the environment of one of these servers is not there."""
    for name in names:
        if not (ENVIRONMENTS / name / ".complete").exists():
            raise UserError(f"{name} is not installed; `make bench PEERS={name}` does it")


@contextmanager
def serving_peer(name: PeerName, subject: Path, picture: Path) -> Iterator[Running]:
    """Start one of the other servers and wait for its first answer; stop it at the end.

    Args:
        name: of the server.
        subject: the file of `subject_of`.
        picture: what is asked first.

    Raises:
        UserError: the server ended, or does not answer; the message has the end of its log.
    """
    peer = PEERS[name]
    with ExitStack() as held:
        port = str(free_port(held))
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        begin = time.perf_counter()
        process = _start(name, subject, port, Path(folder), log)

        def check() -> None:
            if process.poll() is not None:
                raise UserError(f"{name} ended while starting; the end of its log:\n{tail(log, 15)}")

        url = f"http://127.0.0.1:{port}{peer.path}"
        try:
            try:
                start_s = first_answer(url, picture, begin, peer.field, check)
            except TimeoutError as error:
                raise UserError(f"{error}; the end of {name}'s log:\n{tail(log, 15)}") from error
            yield Running(url=url, start_s=start_s, processes=lambda: processes(process.pid), field=peer.field)
        finally:
            _stop(process)


def _start(name: PeerName, subject: Path, port: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    peer = PEERS[name]
    inherited = {key: value for key, value in os.environ.items() if key not in _DROPPED_VARIABLES}
    own = {key: value.format(folder=folder) for key, value in peer.variables.items()}
    path = os.pathsep.join([str(subject.parent), str(Path.cwd())])  # its code and this package; like a worker's
    with log.open("wb") as output:
        return subprocess.Popen(
            [str((ENVIRONMENTS / name / "bin" / "python").absolute()), *shlex.split(peer.arguments.format(port=port))],
            cwd=folder,
            env=inherited | own | {"TMPDIR": str(folder), "PYTHONPATH": path, SUBJECT: str(subject)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end, and end what is left of it after a while."""
    found = processes(process.pid)
    if process.poll() is None:
        process.terminate()
    _, alive = psutil.wait_procs(found, timeout=_STOP_DEADLINE_S)
    for left in alive:
        left.kill()
    psutil.wait_procs(alive, timeout=_STOP_DEADLINE_S)
    process.wait()
