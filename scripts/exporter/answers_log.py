"""Reads the log of every answer of a server, which TorchServe's front end writes, as it grows.

It has what no worker knows: the requests that were refused before they reached one, how long each of the others waited
for a worker, and how long it took as a whole. log4j2.xml says what is written; two lines belong to an answer of a
worker, one after the other in the thread of that worker:

    W-9000-vgg16_1.0 /127.0.0.1:40104 "POST /predictions/vgg16 HTTP/1.1" 200 183
    W-9000-vgg16_1.0 Waiting time ns: 1204, Backend time ns: 182220175

Without the second one, the front end has answered in place of a worker that is gone, or by itself.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Literal
from urllib.parse import unquote

import msgspec

from scripts.console import warn

Entrance = Literal["http", "grpc"]
Wish = Literal["prediction", "explanation", "other"]

_ANSWERED: Final = re.compile(
    r'(?P<thread>\S+) \S+ "(?P<method>\S+) (?P<uri>.*) \S+" (?P<status>\d+) (?P<milliseconds>\d+)'
)
_WAITED: Final = re.compile(
    r"(?P<thread>\S+) Waiting time ns: (?P<queue>-?\d+), (?P<by>Backend|Inference) time ns: -?\d+"
)
_WORKER: Final = re.compile(r"W-\d+-(?P<registered>.+)")  # the thread of a worker: <model>_<version>
_WISHES: Final[tuple[tuple[Wish, re.Pattern[str]], ...]] = (
    ("prediction", re.compile(r"/predictions/(?P<model>[^/?]+)(?:/(?P<version>[^/?]+))?")),
    ("explanation", re.compile(r"/explanations/(?P<model>[^/?]+)(?:/(?P<version>[^/?]+))?")),
    ("prediction", re.compile(r"/models/(?P<model>[^/?]+)/invoke")),
    ("prediction", re.compile(r"/v1/models/(?P<model>[^/?:]+)(?:/versions/(?P<version>[^/?:]+))?:predict")),
    ("explanation", re.compile(r"/v1/models/(?P<model>[^/?:]+)(?:/versions/(?P<version>[^/?:]+))?:explain")),
    ("prediction", re.compile(r"/v2/models/(?P<model>[^/?]+)(?:/versions/(?P<version>[^/?]+))?/infer")),
)
_GRPC: Final = re.compile(r".*/(?:Predictions|StreamPredictions2?|ModelInfer)")
# What is asked of the other APIs, or of the server itself: above all this program's own questions.
_ABOUT: Final = re.compile(r"/(ping|models|metrics|token|api-description|workflows)(?:[/?]|$)|/v2/?(?:health|$)")
_PATIENCE: Final = 2  # reads after which a line that should follow has not come


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of the front end."""

    entrance: Entrance
    wants: Wish
    path: tuple[str, str]  # model and version as the path has them, empty where it has none
    worker: str  # `<model>_<version>` if a worker's thread has answered, else empty
    status: int  # of HTTP, or of gRPC
    seconds: float  # from the arrival of the request, to a millisecond
    queue_s: float | None = None  # that it waited for a worker; None if none has answered it


class AnswersLog:
    """The log, read from its beginning to its end of now, and on from there."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet. The file need not be there.

        Args:
            path: the file that is written now; full ones are renamed.
        """
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""  # of a line that is being written
        self._open: dict[str, tuple[Answer, int]] = {}  # by thread: answers whose second line may follow

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def read(self) -> Iterator[Answer]:
        """The answers since the last call. The last one of each worker may come only with a later call."""
        for line in self._lines():
            yield from self._understand(line)
        for thread, (answer, age) in list(self._open.items()):
            if age >= _PATIENCE:
                yield self._open.pop(thread)[0]
            else:
                self._open[thread] = (answer, age + 1)

    def _understand(self, line: str) -> Iterator[Answer]:
        if waited := _WAITED.match(line):
            answer, _ = self._open.pop(waited["thread"], (None, 0))
            if answer is not None:
                by_worker = waited["by"] == "Backend"
                yield (
                    msgspec.structs.replace(answer, queue_s=max(0, int(waited["queue"])) / 1e9) if by_worker else answer
                )
        elif answered := _ANSWERED.match(line):
            thread = answered["thread"]
            if before := self._open.pop(thread, None):
                yield before[0]
            answer = _answer(answered)
            if answer is None:
                return
            if answer.worker:
                self._open[thread] = (answer, 0)
            else:
                yield answer

    def _lines(self) -> Iterator[str]:
        """The lines that are complete by now, those of a file that was renamed first."""
        if self._file is None:
            with suppress(FileNotFoundError):
                self._file = self._path.open("rb")
        while self._file is not None:
            if os.fstat(self._file.fileno()).st_size < self._file.tell():
                warn(f"{self._path} has been cut off by somebody; what it had more than was read is not counted")
                self._file.seek(0)
                self._rest = b""
            yield from self._complete(self._file.read())
            if not self._renamed(self._file):
                return
            yield from self._complete(self._file.read())  # written since, before it was renamed
            self._file.close()
            self._file = self._path.open("rb")

    def _renamed(self, file: BinaryIO) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:  # the new file is made with its first line
            return False
        read = os.fstat(file.fileno())
        return (now.st_dev, now.st_ino) != (read.st_dev, read.st_ino)

    def _complete(self, more: bytes) -> Iterator[str]:
        *lines, self._rest = (self._rest + more).split(b"\n")
        return (line.decode(errors="replace") for line in lines)


def _answer(line: re.Match[str]) -> Answer | None:
    """The answer that a line is about; None if the question was not for a model."""
    worker = _WORKER.fullmatch(line["thread"])
    wants, path = _asked(line["method"], line["uri"])
    if wants == "other" and worker is None and _is_about_the_server(line["method"], line["uri"]):
        return None
    return Answer(
        entrance="grpc" if line["method"] == "gRPC" else "http",
        wants=wants,
        path=path,
        worker="" if worker is None else worker["registered"],
        status=int(line["status"]),
        seconds=int(line["milliseconds"]) / 1e3,
    )


def _is_about_the_server(method: str, uri: str) -> bool:
    return method == "gRPC" or _ABOUT.match(uri) is not None


def _asked(method: str, uri: str) -> tuple[Wish, tuple[str, str]]:
    """What a request asked for, and of which model and version, as far as its path says so."""
    if method == "gRPC":
        return ("prediction" if _GRPC.fullmatch(uri) else "other"), ("", "")
    for wish, pattern in _WISHES:
        if found := pattern.match(uri):
            named = found.groupdict()
            return wish, (unquote(named["model"]), unquote(named.get("version") or ""))
    return "other", ("", "")
