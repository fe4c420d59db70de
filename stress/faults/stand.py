"""A server to inject faults into, and a record of what its clients saw."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from scripts.archives.store import Archive
from scripts.console import UserError
from scripts.torchserve.client import Client
from scripts.torchserve.config import CONFIG_FILE, read_config, with_free_ports
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.server import Server, start, stop, wait_ready
from stress.clients import Answer, ClosedLoop, clients
from stress.trial import friendly_bodies

CLIENTS: Final = 16  # two batches
PAUSE_S: Final = 0.05  # of a client after a failure
DEADLINE_S: Final = 90

_ANSWERS: Final = 4  # of each client, before a fault and after it
_POLL_S: Final = 0.02
_RACE: Final = "ConcurrentModificationException"  # now and then, while TorchServe still saves the last snapshot


class Run(msgspec.Struct, kw_only=True):
    """What clients saw of one fault."""

    fault: str
    answers: list[Answer] = []
    begin: float = 0  # time.monotonic() of the fault
    lasted_s: float = 0  # how long the fault lasted, if it has an end
    healthy_s: float = 0  # from the end of the fault until `Stand.healthy`
    pings: set[str] = set()  # the answers of /ping in between
    note: str = ""

    @property
    def failed(self) -> list[Answer]:
        """All requests without the answer that they must get."""
        return [answer for answer in self.answers if not answer.kept]

    @property
    def refused(self) -> Counter[str]:
        """The number of failures with an error answer, by status and reason."""
        return Counter(f"{answer.status} {short(answer.label)}" for answer in self.failed if answer.status > 200)

    @property
    def failed_after_s(self) -> tuple[float, float] | None:
        """When the first and the last failure arrived, in seconds after the fault."""
        moments = [answer.sent + answer.seconds - self.begin for answer in self.failed]
        return (min(moments), max(moments)) if moments else None

    def number(self, status: int) -> int:
        """The number of failures with this status: 0 without an answer, -1 without a connection."""
        return sum(answer.status == status for answer in self.failed)


def short(text: str) -> str:
    """The first clause of a message of the front end, without the model's name and the advice."""
    return text.partition("has no worker")[1] or text.partition(". ")[0].rstrip(".")


class Stand:
    """A server to inject faults into, with an archive in a store of its own, free ports, and one folder for all."""

    def __init__(self, archive: Archive, folder: Path, golden: Path | None = None) -> None:
        """Prepare the folder and the configuration; nothing runs yet.

        Args:
            archive: what to serve.
            folder: folder for all that the server writes.
            golden: folder of the pictures that clients send; photographs of scikit-image without it.
        """
        self.state = folder / "state"
        store = folder / "store"
        store.mkdir(parents=True)
        self.archive = Archive(Path(shutil.copy(archive.path, store)), archive.identity)
        self.model = archive.identity.model.name
        self.questions = friendly_bodies(archive, golden)
        self.config = with_free_ports(read_config(CONFIG_FILE)) | {"model_store": str(store.resolve())}

    def start(self) -> None:
        """Start the server and wait until it is ready.

        Raises:
            UserError: the server does not become ready.
        """
        self.server: Server = start(self.config, [self.archive], self.state)
        wait_ready(self.server, self.state)
        self.client: Client = self.server.client(connect_retries=0)
        self.url = f"{self.server.addresses.inference}/predictions/{self.model}"

    def stop(self) -> None:
        """Stop the server, if it runs."""
        stop(self.state)

    @contextmanager
    def running(self) -> Iterator["Stand"]:
        """Start the server, and stop it at the end, whatever happens to it."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def scale(self, number: int) -> None:
        """Set the number of workers, and wait until all of them are READY."""

        def scaled() -> bool:
            try:
                self.client.scale(self.model, number)
            except RequestFailedError as error:
                if error.code != _RACE:
                    raise
                return False
            return True

        until(scaled, "scaled model")

    def healthy(self, harmed: set[int]) -> bool:
        """Whether every worker is READY, none of the harmed processes is among them, and a picture is classified."""
        try:
            (version,) = self.client.versions(self.model)
            if not version.ready or harmed & set(version.pids):
                return False
            question = self.questions[0]
            said = self.client.predict(question.content, self.model)
            return question.deserves(200, "", said["class"] or "", said["probability"] or 0.0)
        except RequestFailedError:
            return False

    def ping(self) -> str:
        """The status that /ping returns."""
        try:
            return str(self.client.ping()["status"])
        except RequestFailedError:
            return "nothing"


@contextmanager
def load(stand: Stand, fault: str) -> Iterator[tuple[Run, ClosedLoop]]:
    """Run clients before, during and after a fault; then the run is complete."""
    run = Run(fault=fault)
    with clients(stand.url, stand.questions, CLIENTS, PAUSE_S) as loop:
        more_answers(loop)
        yield run, loop
        more_answers(loop)
    run.answers = loop.answers()


def more_answers(loop: ClosedLoop) -> None:
    """Wait until there are a few more classifications for each client, on average."""
    now = time.monotonic()
    until(lambda: sum(answer.status == 200 for answer in loop.answers(since=now)) >= _ANSWERS * CLIENTS, "answers")


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds.

    Raises:
        UserError: the condition does not hold in time; `what` names it in the message.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not reached():
        if time.monotonic() > deadline:
            raise UserError(f"no {what} within {DEADLINE_S} s after a fault")
        time.sleep(_POLL_S)


def recover(stand: Stand, run: Run, harmed: set[int]) -> None:
    """Wait until the server is healthy again, and record how long after the end of the fault that is."""

    def well() -> bool:
        run.pings.add(stand.ping())
        return stand.healthy(harmed)

    until(well, "healthy server")
    run.healthy_s = time.monotonic() - (run.begin + run.lasted_s)
