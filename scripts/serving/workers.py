"""Takes workers away from a running server without harm to requests, or by force."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from scripts.console import UserError, warn
from scripts.torchserve.client import Check, Client
from scripts.torchserve.described import ModelVersion
from scripts.torchserve.drain import NotDrainedError, drained, resting
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.loading import NotLoadedError, loading
from scripts.torchserve.server import CONSOLE_LOG, Server

_MOST_WORKERS: Final = 1000  # far more than any machine has room for; TorchServe takes a number beyond Java's int for 1
_HALF_DONE: Final = ("IllegalStateException", "ConcurrentModificationException")
_PATIENCE_S: Final = 130  # outlasts the recipes' response timeouts
_FORCED_S: Final = 10
_LONGEST_S: Final = 86_400


def set_workers(
    server: Server, now: ModelVersion, workers: int, state: Path, patience_s: int, *, force: bool = False
) -> None:
    """Set the number of workers of a version. Those that go finish their batch first.

    Raises:
        UserError: requests would be lost, or a new worker cannot load the model.
    """
    safely: AbstractContextManager[None] = nullcontext()
    if workers < len(now.workers):
        safely = (resting if workers else drained)(server, now.name, now.version, patience_s)
    try:
        with or_force(safely, force):
            _scale(server.client(), now, workers, loading(state / CONSOLE_LOG, now.name, now.version))
    except (TimeoutError, NotLoadedError) as error:
        raise UserError(f"{error}; see `make versions` and `make logs`") from error


def _scale(client: Client, now: ModelVersion, workers: int, check: Check) -> None:
    """Set the number of workers. Asking again for the same number is harmless, and TorchServe needs it at times.

    If the queue is full, it takes one worker away and fails to put that worker's question back ("Deque full"). Now and
    then it fails to save two snapshots at once ("ConcurrentModificationException").
    """
    for attempt in range(len(now.workers) + 1):
        try:
            client.scale(now.name, workers, now.version, check)
            return
        except RequestFailedError as error:
            if error.code not in _HALF_DONE or attempt == len(now.workers):
                raise


def check_workers(workers: int, least: int) -> None:
    """Refuse a number of workers that TorchServe would misunderstand: a negative one takes all away.

    Raises:
        UserError: it is less than `least`, or out of all reason.
    """
    if not least <= workers <= _MOST_WORKERS:
        raise UserError(f"WORKERS={workers}: expected a number from {least} to {_MOST_WORKERS}")


def patience(wait: int | None, *, force: bool) -> int:
    """How many seconds to wait for the requests of workers that are taken away: as asked, or the usual number.

    Raises:
        UserError: what was asked is no number of seconds to wait.
    """
    if wait is None:
        return _FORCED_S if force else _PATIENCE_S
    if not 0 <= wait <= _LONGEST_S:
        raise UserError(f"WAIT={wait}: expected a number of seconds from 0 to {_LONGEST_S}")
    return wait


@contextmanager
def or_force(safely: AbstractContextManager[None], force: bool) -> Iterator[None]:
    """Run the block when no request can be lost by it; with force, run it also when that cannot be reached.

    Raises:
        UserError: requests would be lost.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(safely)
        except NotDrainedError as error:
            if not force:
                raise UserError(f"{error}. Nothing is taken away; with FORCE=1 it is, and requests may fail") from error
            warn(f"{error}. FORCE=1: requests may fail")
        yield
