"""Whether a server can answer, for load balancers and orchestrators.

TorchServe's own `/ping` needs a token where requests do, and says Healthy without a single worker; the truth is in the
management API, which no load balancer should reach.
"""

import threading
import time
from pathlib import Path
from typing import Final

import psutil

from scripts.console import UserError
from scripts.ports import is_listening
from scripts.torchserve.described import ModelVersion
from scripts.torchserve.server import Server, find

_FRESH_S: Final = 1.0  # how long an answer counts: many probes must not become many calls of the management API
_API_TIMEOUT_S: Final = 5


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
            # a server that is ending refuses clients before the next look
            return self._ready and self._server is not None and is_listening(self._server.addresses.inference)

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
