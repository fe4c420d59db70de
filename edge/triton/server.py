"""Runs NVIDIA's Triton on this machine, on a repository of `make triton`: `make triton-serve`.

The server comes with the package nvidia-pytriton, in a virtual environment on top of this one, because its Python
backend is built for NumPy 1. The models import torch and the runtimes from this environment, and the core from the
repository; the checkout is not on their path.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple

import msgspec
import requests

from edge.triton.repository import REPOSITORY, Backend
from edge.triton.repository import main as write
from scripts.archives.store import STORE
from scripts.console import UserError, done, out, step, tail
from scripts.ports import check_ports, free_port
from scripts.torchserve.failures import RequestFailedError, failure_of

ENVIRONMENT: Final = Path(".triton")

_PORTS: Final = (8000, 8001, 8002)  # Triton's own choice
_READY_DEADLINE_S: Final = 300
_STOP_DEADLINE_S: Final = 20
_TIMEOUT_S: Final = 130  # outlasts the recipes' response timeouts, as that of TorchServe's client
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where the Python backend puts its regions
_FAILED_MODEL: Final = re.compile(r'"(failed to load .*?version .*?)(?:\\n|")')  # in Triton's log; a stack follows
_LENGTH: Final = 4  # bytes before each string of a binary tensor


class Addresses(NamedTuple):
    """Where a server listens, each as `host:port`."""

    http: str
    grpc: str
    metrics: str


class Server(NamedTuple):
    """A running server, the leader of its process group."""

    process: subprocess.Popen[bytes]
    addresses: Addresses


class Client:
    """A client of Triton over HTTP, only for classification; tritonclient has the rest."""

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self._session = requests.Session()
        self._session.trust_env = False  # the server is on this machine, never behind a proxy

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def predict(self, picture: bytes, model: str, top_k: int | None = None) -> dict[str, Any]:
        """Classify one picture; returns the answer as in the contract.

        Raises:
            RequestFailedError: with the status and code of the contract, or Triton's own status.
        """
        headers = {"Inference-Header-Content-Length": "0"}  # the body is the tensor, with no JSON before it
        if top_k is not None:
            headers["X-Top-K"] = str(top_k)
        url = f"http://{self.addresses.http}/v2/models/{model}/infer"
        response = self._session.post(url, data=picture, headers=headers, timeout=_TIMEOUT_S)
        if not response.ok:
            raise _failure(response)
        header = int(response.headers["Inference-Header-Content-Length"])
        answer: dict[str, Any] = msgspec.json.decode(response.content[header + _LENGTH :])
        return answer

    def metrics(self) -> str:
        """The metrics page, in Prometheus' text format."""
        return self._session.get(f"http://{self.addresses.metrics}/metrics", timeout=_TIMEOUT_S).text


@contextmanager
def serving(repository: Path = REPOSITORY, environment: Path = ENVIRONMENT) -> Iterator[Client]:
    """Run a server with the models of a repository on free ports, and stop it at the end; yields a client.

    Raises:
        UserError: the server does not start; the message has the end of its log.
    """
    with ExitStack() as held:
        ports = [free_port(held) for _ in _PORTS]
    with (
        tempfile.NamedTemporaryFile(prefix="triton-", suffix=".log") as log,
        running(repository, environment, ports, log) as server,
        Client(server.addresses) as client,
    ):
        yield client


@contextmanager
def running(
    repository: Path, environment: Path, ports: Sequence[int] = _PORTS, log: IO[bytes] | None = None
) -> Iterator[Server]:
    """Run a server on loopback ports for HTTP, gRPC and metrics. Without a log it writes to the terminal.

    Raises:
        UserError: the server does not start, a port is taken, or a model is for a backend that the server lacks.
    """
    check_ports(dict(zip(Addresses._fields, ports, strict=True)), "or use PORTS=free")
    if not repository.is_dir():
        raise UserError(f"there is no {repository}; `make triton` writes it")
    packages = environment / "lib" / f"python{_python()}" / "site-packages"
    installed = (packages / "pytriton" / "tritonserver").resolve()
    if not installed.is_dir():
        raise UserError(f"there is no Triton in {environment}; `make triton-serve` installs it")
    _check_backends(repository, installed)
    with tempfile.TemporaryDirectory(prefix="triton-") as name:
        temporary = Path(name)
        server = _start(installed, repository, environment, temporary, ports, log)
        try:
            _wait_ready(server, None if log is None else Path(log.name))
            yield server
        finally:
            _stop(server)
            for region in _SHARED_MEMORY.glob(f"{temporary.name}*"):  # of a Python model that was killed
                region.unlink()


def _check_backends(repository: Path, installed: Path) -> None:
    carried = {path.name for path in (installed / "backends").iterdir()}
    for config in sorted(repository.glob("*/config.pbtxt")):
        for backend in re.findall(r'^backend: "(\w+)"', config.read_text(), re.MULTILINE):
            if backend not in carried:
                raise UserError(
                    f"{config.parent.name} is for the backend {backend}, which NVIDIA's container has, but this Triton "
                    "lacks; `make triton BACKEND=python` writes a repository that it can serve"
                )


def _start(
    installed: Path, repository: Path, environment: Path, temporary: Path, ports: Sequence[int], log: IO[bytes] | None
) -> Server:
    backend = temporary / "backends" / "python"
    backend.mkdir(parents=True)
    stub = installed / "python_backend_stubs" / _python() / "triton_python_backend_stub"
    for path in (*(installed / "backends" / "python").iterdir(), stub):
        (backend / path.name).symlink_to(path)  # a link, because the files look for libraries beside themselves
    command = [str(installed / "bin" / "tritonserver"), "--model-repository", str(repository.resolve())]
    command += ["--backend-directory", str(backend.parent)]
    command += ["--backend-config", f"python,shm-region-prefix-name={temporary.name}"]
    command += ["--disable-auto-complete-config"]  # they are complete; completing each takes seconds
    command += ["--model-control-mode", "explicit", "--load-model", "*"]  # all, and the repository API may change them
    command += ["--exit-timeout-secs", str(_STOP_DEADLINE_S // 2)]
    for kind, port in zip(Addresses._fields, ports, strict=True):
        command += [f"--{kind}-address", "127.0.0.1", f"--{kind}-port", str(port)]
    for kind in ("http", "grpc"):
        command += [f"--{kind}-header-forward-pattern", "x-top-k"]
    process = subprocess.Popen(
        command,
        cwd=temporary,
        env=_variables(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    return Server(process, Addresses(*(f"127.0.0.1:{port}" for port in ports)))


def _python() -> str:
    """The version of Python for the models, which is this one's, because they share its packages."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _variables(environment: Path) -> dict[str, str]:
    """The server's environment. Its Python backend embeds the first `python3` of PATH, and loads a libpython."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    libraries = [str(sysconfig.get_config_var("LIBDIR")), inherited.get("LD_LIBRARY_PATH", "")]
    return inherited | {
        "PATH": f"{environment.absolute() / 'bin'}{os.pathsep}{inherited['PATH']}",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }


def _wait_ready(server: Server, log: Path | None) -> None:
    deadline = time.monotonic() + _READY_DEADLINE_S
    while True:
        ended = server.process.poll() is not None
        if ended or time.monotonic() > deadline:
            what = "ended while starting" if ended else f"is not ready after {_READY_DEADLINE_S} s"
            raise UserError(f"Triton {what}; {_reason(log)}")
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"http://{server.addresses.http}/v2/health/ready", timeout=_TIMEOUT_S).ok:
                return
        time.sleep(0.1)


def _reason(log: Path | None) -> str:
    """The models that could not be loaded, and why; without any, the end of the log."""
    if log is None:
        return "see above"
    lines = _FAILED_MODEL.findall(log.read_text(errors="replace"))
    return "\n".join(lines) or f"the end of its log:\n{tail(log, 15)}"


def _stop(server: Server) -> None:
    server.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.process.wait(_STOP_DEADLINE_S)
    with contextlib.suppress(ProcessLookupError):  # Triton waits for ever for a Python model that died
        os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def _failure(response: requests.Response) -> RequestFailedError:
    """Turn an error answer into an exception: a problem, after an ensemble's name, or Triton's own message."""
    message = str(response.json().get("error", ""))
    try:
        problem = msgspec.json.decode(message[message.index("{") :], type=dict[str, str | int])
        return failure_of(int(problem["status"]), problem)
    except (ValueError, KeyError):  # msgspec's DecodeError is a ValueError
        return RequestFailedError(response.status_code, "", f"{message} ({response.status_code})")


def main(
    *,
    model: str | None = None,
    archive: tuple[str, ...] = (),
    backend: Backend = "python",
    ports: Literal["standard", "free"] = "standard",
    repository: Path = REPOSITORY,
    environment: Path = ENVIRONMENT,
    store: Path = STORE,
) -> None:
    """Run NVIDIA's Triton with a model's repository, until it is interrupted.

    Args:
        model: model whose ONNX Runtime archive is used; without it, the one model that lies in the store.
        archive: archives to use instead, each a version; the last one answers.
        backend: backend of the network: Triton's own ONNX Runtime, or its Python backend with the archive's runtime.
        ports: 8000, 8001 and 8002, or any that are free.
        repository: the repository to write and serve.
        environment: virtual environment of the server.
        store: folder of the archives.
    """
    write(model=model, archive=archive, backend=backend, output=repository, store=store)
    with ExitStack() as held:
        chosen = [free_port(held) for _ in _PORTS] if ports == "free" else list(_PORTS)
    step(f"starting Triton with {repository}")
    with running(repository, environment, chosen) as server:
        addresses = server.addresses
        done("ready; interrupt to end it")
        out.print(f"  HTTP        http://{addresses.http}   gRPC {addresses.grpc}")
        out.print(f"  metrics     http://{addresses.metrics}/metrics")
        for name in sorted(path.name.removesuffix("_network") for path in repository.glob("*_network")):
            url = f"http://{addresses.http}/v2/models/{name}/infer"
            out.print(f"  try         curl {url} -H 'Inference-Header-Content-Length: 0' --data-binary @<picture> -o -")
        server.process.wait()
    raise UserError("Triton ended by itself; see above")
