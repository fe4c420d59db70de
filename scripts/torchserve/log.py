"""Reads TorchServe's console log: why a model does not load, and which workers died, how often and why.

TorchServe 0.12.0 tells this nowhere else. It restarts a dead worker after 1, 1, 2, 3, 5, 8 … s, and after 1 s once the
worker has loaded: a worker that dies of its requests is restarted for ever. TorchServe gives up a worker that no longer
loads at its first death after 300 s of attempts, and does not log that.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

LOOP_DEATHS: Final = 5
LOOP_S: Final = 600
GIVEN_UP_S: Final = 300  # TorchServe's maxRetryTimeoutInSec, which the archives leave as it is
NO_WORDS: Final = "it logged no exception; was it killed, or out of memory?"
NO_ANSWER: Final = "it did not answer in time"

# Lines of TorchServe 0.12.0 at its default log level.
_NOT_LOADED: Final = re.compile(r"Failed to load model: (?P<archive>\S+)\n(?P<cause>.*)")
_NOT_RESTORED: Final = re.compile(
    r"SnapshotManager - Error while (retrieving snapshot details|registering model)\. Details: (?P<cause>.*)"
)
_DIED: Final = re.compile(
    r"(?P<worker>W-\d+-(?P<model>\S+)_(?P<version>\S+)) State change WORKER_STARTED -> WORKER_(ERROR|STOPPED)"
)
_FROM_WORKER: Final = re.compile(r" (?P<worker>W-\d+-\S+?)-std(out|err) MODEL_LOG - (?P<text>.*)")
_EXCEPTION: Final = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit): .+")
_EMPTY_EXCEPTION: Final = "RuntimeError: 500 - Unknown exception"  # every worker ends with it; it gives no reason
_TIME: Final = "%Y-%m-%dT%H:%M:%S,%f"
_KEPT_LINES: Final = 100  # for each death
_CHANGE: Final = re.compile(  # only at the beginning of a line: the rest may quote a client
    r"(?P<time>\S+) \[[A-Z]+ *\] \S+ \S+WorkerThread - (?P<worker>W-\d+-\S+)"
    r" State change (?P<before>\S+) -> (?P<after>\S+)"
)
_LATE: Final = re.compile(r" (?P<worker>W-\d+-\S+) \S+WorkerThread - Number or consecutive unsuccessful inference")
_DYING: Final = "Backend worker process died."  # what a worker logs before its traceback


def failure(log: str) -> str | None:
    """Why a model did not load, in a line or a few; None if the log reports no such failure."""
    if refused := _NOT_LOADED.search(log):
        return f"TorchServe cannot load {refused['archive']}: {refused['cause']}"
    if refused := _NOT_RESTORED.search(log):  # TorchServe goes on with the models before the one that it cannot load
        return f"TorchServe cannot load every archive: {refused['cause']}"
    return next(_deaths(log), None)


def failure_of(log: str, model: str, version: str) -> str | None:
    """Why a worker of one version did not load; None if the log reports no such failure."""
    return next((text for text in _deaths(log) if text.startswith(_dead(model, version))), None)


def _deaths(log: str) -> Iterator[str]:
    """Each worker that died while loading, and why."""
    for died in _DIED.finditer(log):
        yield f"{_dead(died['model'], died['version'])}{last_words(log, died['worker'])}"


def _dead(model: str, version: str) -> str:
    return f"a worker of {model} {version} died while loading: "


def last_words(log: str, worker: str | None = None) -> str:
    """The last exception that a worker (any worker by default) logged; without one, the last lines that it wrote."""
    lines = [match["text"] for match in _FROM_WORKER.finditer(log) if worker is None or match["worker"] == worker]
    exceptions = [line for line in lines if is_exception(line)]
    return exceptions[-1] if exceptions else "\n".join(lines[-10:]) or "it wrote nothing"


def is_exception(line: str) -> bool:
    """Whether a line is an exception that gives a reason."""
    return _EXCEPTION.fullmatch(line) is not None and line != _EMPTY_EXCEPTION


class Worker:
    """One worker's deaths, and what it logged at the last one."""

    def __init__(self, name: str) -> None:
        """Args: name: `W-<port>-<model>_<version>`, as TorchServe calls it."""
        self.name = name
        self.model, _, self.version = name.split("-", 2)[-1].rpartition("_")
        self.restarts = 0
        self._deaths: list[datetime] = []
        self._failing_since: datetime | None = None
        self._dead = False
        self._loaded = False
        # lines of the log: all until the worker has loaded, later those from the message that it dies
        self._words: list[str] = []
        self._late = False
        self._before = ""  # the reason of the death before the last restart

    @property
    def reason(self) -> str:
        """Why the worker died the last time: its last exception, if it logged one."""
        if not self._dead:
            return self._before
        if self._late:
            return NO_ANSWER
        words = last_words("\n".join(self._words), self.name)
        return words if is_exception(words) else NO_WORDS

    @property
    def trouble(self) -> str | None:
        """The trouble that no restart will cure, if it is in such trouble."""
        who = f"a worker of {self.model} {self.version}"
        if self._failing_since and (self._deaths[-1] - self._failing_since).total_seconds() >= GIVEN_UP_S:
            return f"{who} did not load within {GIVEN_UP_S} s, and TorchServe has given it up: {self.reason}"
        recent = self._deaths[-LOOP_DEATHS:]
        if len(recent) == LOOP_DEATHS and (took := (recent[-1] - recent[0]).total_seconds()) <= LOOP_S:
            return f"{who} died {LOOP_DEATHS} times in {took:.0f} s: {self.reason}"
        return None

    def says(self, text: str, line: str) -> None:
        """Note what the worker printed, if it may explain a death."""
        if text == _DYING or self._words or not self._loaded:
            self._words = [*self._words[-_KEPT_LINES:], line]

    def is_late(self) -> None:
        """Note that the worker did not answer in time."""
        self._late = True

    def changes(self, before: str, after: str, moment: datetime) -> None:
        """Note a change of the worker's state."""
        if after == "WORKER_STARTED":
            self._before, self.restarts = self.reason, self.restarts + self._dead
            self._dead, self._late, self._loaded, self._words = False, False, False, []
        elif after == "WORKER_MODEL_LOADED":
            self._failing_since, self._loaded, self._words = None, True, []
        elif after == "WORKER_STOPPED" and before != "WORKER_SCALED_DOWN":
            self._dead = True
            self._deaths = [*self._deaths[-LOOP_DEATHS:], moment]
            self._failing_since = self._failing_since or moment


class Workers:
    """All workers that a log mentions."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._found: dict[str, Worker] = {}

    def read(self, line: str) -> None:
        """Take in a line of the log."""
        if said := _FROM_WORKER.search(line):
            self._worker(said["worker"]).says(said["text"].strip(), line)
        elif late := _LATE.search(line):
            self._worker(late["worker"]).is_late()
        elif change := _CHANGE.match(line):
            moment = datetime.strptime(change["time"], _TIME)
            self._worker(change["worker"]).changes(change["before"], change["after"], moment)

    def _worker(self, name: str) -> Worker:
        return self._found.setdefault(name, Worker(name))

    def of(self, model: str, version: str) -> list[Worker]:
        """The workers of a version of a model, in order of their names."""
        return [
            worker for _, worker in sorted(self._found.items()) if (worker.model, worker.version) == (model, version)
        ]

    @property
    def trouble(self) -> str | None:
        """The trouble that no restart will cure, if any worker is in such trouble."""
        return next((trouble for worker in self._found.values() if (trouble := worker.trouble)), None)


def read_workers(log: Path) -> Workers:
    """Read the workers of a whole log."""
    workers = Workers()
    with log.open(errors="replace") as lines:
        for line in lines:
            workers.read(line)
    return workers
