"""An address for load balancers: whether the server of this machine can answer, without a token.

TorchServe's own `/ping` needs a token where requests do, and says Healthy without a single worker; the truth is in the
management API, which no load balancer should reach. So a small listener of its own asks that API and passes on one bit.
"""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import psutil

from scripts.console import UserError, step
from scripts.ports import check_ports
from scripts.torchserve.described import ModelVersion
from scripts.torchserve.server import STATE_FOLDER, Server, find

PATH: Final = "/ready"
PORT: Final = 8083

_FRESH_S: Final = 1.0  # how long an answer counts: many probes must not become many calls of the management API
_API_TIMEOUT_S: Final = 5
_CLIENT_TIMEOUT_S: Final = 5
_PROBES_AT_ONCE: Final = 1024  # that wait for a thread; the system may allow fewer


class Readiness:
    """Whether every worker of the server of a state folder is READY. Safe to ask from several threads."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._ready = False
        self._server: Server | None = None
        self._expected: set[tuple[str, str]] = set()  # name and version: those of the start, and what was READY since

    def __call__(self) -> bool:
        """Whether the server can answer, as of a second ago at most."""
        with self._lock:
            if self._looked is None or time.monotonic() - self._looked > _FRESH_S:
                self._ready = self._look()
                self._looked = time.monotonic()
            return self._ready

    def _look(self) -> bool:
        """Ask the management API. A version that is being added does not count until it has been READY once."""
        try:
            if (server := find(self._state)) is None:
                return False
            if server != self._server:
                self._server, self._expected = server, set(server.models)
            versions = server.client(timeout_s=_API_TIMEOUT_S, connect_retries=0).versions()
        except UserError:  # it is starting, ending, or too busy to say
            return False
        ready = {(version.name, version.version) for version in versions if _can_answer(version)}
        self._expected |= ready
        registered = {(version.name, version.version) for version in versions if version.min_workers > 0}
        return bool(ready) and self._expected & registered <= ready


def _can_answer(version: ModelVersion) -> bool:
    """Whether all workers are READY and alive: TorchServe says READY of a process that is gone, too."""
    return version.ready and all(psutil.pid_exists(pid) for pid in version.pids)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers `GET /ready` and nothing else, and says nothing about the server but that one bit."""

    timeout = _CLIENT_TIMEOUT_S
    server_version, sys_version = "health", ""
    readiness: Readiness

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            status, text = HTTPStatus.NOT_FOUND, "not found"
        elif self.readiness():
            status, text = HTTPStatus.OK, "ready"
        else:
            status, text = HTTPStatus.SERVICE_UNAVAILABLE, "not ready"
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_: object) -> None:
        """Log nothing: a line for each probe would be most of a log."""


class _Listener(http.server.ThreadingHTTPServer):
    """Takes probes that arrive together: of those beyond the queue, the system has each wait a second or more."""

    request_queue_size = _PROBES_AT_ONCE


def listener(state: Path, listen: str, port: int) -> http.server.ThreadingHTTPServer:
    """The listener, bound but not serving yet.

    Args:
        state: state folder of the server to ask about.
        listen: the address to listen on.
        port: the port; 0 for any free one.

    Raises:
        UserError: it cannot listen there.
    """
    handler = type("_Handler", (_Handler,), {"readiness": Readiness(state)})
    try:
        return _Listener((listen, port), handler)
    except (OSError, OverflowError) as error:  # OverflowError: there is no such port
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"health: cannot listen on {listen}:{port}: {why}") from error


@contextmanager
def listening(state: Path, listen: str, port: int) -> Iterator[int]:
    """Answer load balancers while the block runs; gives the port. Arguments and errors as of `listener`."""
    with listener(state, listen, port) as server:
        thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def main(*, listen: str = "127.0.0.1", port: int = PORT, state: Path = STATE_FOLDER) -> None:
    """Answer load balancers whether the server can answer, until it is interrupted.

    Args:
        listen: the address to listen on.
        port: the port to listen on.
        state: state folder of the server.
    """
    if port:
        check_ports({"health": port}, "or pass PORT=<another>")
    with listener(state, listen, port) as server:
        step(f"http://{listen}:{server.server_port}{PATH} is 200 while every worker is READY, else 503")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            step("no more answers to load balancers")
