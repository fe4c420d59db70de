"""The exporter of one server: metrics for Prometheus, and health, at one address.

It runs as long as its server: in a process of its own beside a server in the background, in threads of the program that
keeps a server in the foreground. TorchServe and the workers do not know of it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from scripts.console import warn
from scripts.exporter.answers_log import AnswersLog
from scripts.exporter.counts import Requests
from scripts.exporter.listener import Page, listening, ready_page, text_page
from scripts.exporter.state import State
from scripts.torchserve.command import CONFIG
from scripts.torchserve.config import read_config
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.readiness import Readiness
from scripts.torchserve.server import ANSWERS_LOG, METRICS, Server, find

_LOOK_S: Final = 1.0  # between two looks at the server and its log
_TIMEOUT_S: Final = 5


class Exporter:
    """Everything there is to know about one server."""

    def __init__(self, server: Server, state: Path) -> None:
        """Read nothing yet.

        Args:
            server: the server.
            state: its state folder.
        """
        self._server, self._state_folder = server, state
        self._lock = threading.Lock()  # of the log, which has one reader
        self._registry = CollectorRegistry()
        self._log = AnswersLog(state / ANSWERS_LOG)
        self._requests = Requests(self._registry)
        self._state = State(server, Path(read_config(state / CONFIG)["model_store"]))
        self._registry.register(self._state)
        (state / METRICS).mkdir(exist_ok=True)
        MultiProcessCollector(self._registry, str(state / METRICS))  # type: ignore[no-untyped-call]
        self._client = server.client(timeout_s=_TIMEOUT_S, connect_retries=0)

    def pages(self) -> dict[str, Callable[[], Page]]:
        """The pages of the listener."""
        return {
            "/metrics": self._metrics,
            "/livez": self._live,
            "/readyz": partial(ready_page, Readiness(self._state_folder)),
        }

    def count(self) -> None:
        """Count the requests that were answered since the last call."""
        with self._lock:
            self._requests.count(self._log.read(), self._state.registered)

    def close(self) -> None:
        """Count the last answers, and close the log."""
        self.count()
        self._log.close()

    def follow(self, ended: threading.Event) -> None:
        """Count requests until the event, or until the server has ended."""
        lost = False
        while not ended.wait(_LOOK_S) and find(self._state_folder) == self._server:
            self.count()
            if not lost and (lost := not (self._state_folder / METRICS).is_dir()):
                warn(f"{self._state_folder / METRICS} is gone, and with it what workers count; start the server again")

    def _metrics(self) -> Page:
        with self._lock:
            self._requests.begin(self._state.registered())
        self.count()
        try:
            front_end = self._client.metrics().encode()
        except RequestFailedError:  # `classifier_up` says so
            front_end = b""
        return Page(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry) + front_end)

    def _live(self) -> Page:
        alive = find(self._state_folder) == self._server
        return text_page(HTTPStatus.OK, "alive") if alive else text_page(HTTPStatus.SERVICE_UNAVAILABLE, "ended")


@contextmanager
def exporting(server: Server, state: Path) -> Iterator[threading.Thread | None]:
    """Run the exporter of a server while the block runs; nothing, if its configuration has no address for one.

    Gives a thread that ends with the server.

    Args:
        server: the server.
        state: its state folder.

    Raises:
        UserError: it cannot listen there.
    """
    if server.addresses.exporter is None:
        yield None
        return
    exporter, ended = Exporter(server, state), threading.Event()
    address = urlsplit(server.addresses.exporter)
    with listening("exporter", exporter.pages(), address.hostname or "", address.port or 0):
        counting = threading.Thread(target=exporter.follow, args=(ended,), name="exporter", daemon=True)
        counting.start()
        try:
            yield counting
        finally:
            ended.set()
            counting.join()
            exporter.close()
