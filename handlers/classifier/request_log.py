"""The request log: a line for each request, with its ids, the version that answered, the outcome and the time it took.

Every process that answers writes a file of its own, `requests.<number>.log`: no two processes rotate one file, and no
line waits for another process. A failure of the server has its traceback in the same file, under the id of its request.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from logging.handlers import RotatingFileHandler
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

from classifier.errors import UnusableError
from classifier.slots import reserve

if TYPE_CHECKING:  # what starts a server reads only the names below
    from classifier.identity import Model
    from classifier.responses import Response
    from classifier.service import Request

Form = Literal["text", "json"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
# A worker gets both from its environment: workers that TorchServe starts again inherit them as well.
FOLDER_VARIABLE: Final = "CLASSIFIER_REQUEST_LOG"  # the folder of the log; without it there is none
FORM_VARIABLE: Final = "CLASSIFIER_REQUEST_LOG_FORM"

MAX_BYTES: Final = 20_000_000  # of a file; some 100,000 requests
KEPT: Final = 2  # full files of each process, besides the one that is written
_CORE: Final = logging.getLogger("classifier")  # for failures, which go to the program's other logs as well
_OF_A_BATCH: Final = object()  # in place of one request's id, where there are many
LONGEST: Final = 128  # characters of what a client sent: a header may have thousands

Level = Literal["INFO", "WARNING", "ERROR"]


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log: a request, or the failure that a request met, which has a message instead of a status."""

    time: str  # UTC, ISO 8601, when the answer was ready
    level: Level  # INFO, WARNING from status 400, ERROR from status 500
    request_id: str  # as the client gets it, in the answer's header `x-request-id`
    model: str
    version: str
    client_request_id: str = ""  # the client's own header `X-Request-Id`
    traceparent: str = ""  # the client's header of that name (W3C Trace Context)
    wants: str = ""  # prediction, explanation or description
    status: int = 0
    code: str = ""  # of the problem
    bytes: int = 0  # of the body
    batch: int = 0  # requests that were computed together
    compute_ms: float = 0.0  # of that whole batch: decoding, forward pass, answers
    message: str = ""  # of a failure
    traceback: str = ""


class RequestLog:
    """Writes the lines of one process."""

    def __init__(self, folder: Path, form: Form, model: Model) -> None:
        """Take the first number that no other process has, and go on with its file.

        Args:
            folder: the folder of the log; it is made if it is missing.
            form: how lines are written.
            model: the model that answers.

        Raises:
            OSError: the folder cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        number, self._lock = reserve(folder, "requests")
        self._model = model
        self._handler = RotatingFileHandler(folder / f"requests.{number}.log", maxBytes=MAX_BYTES, backupCount=KEPT)
        self._formatter = _Formatter(form, model)
        self._handler.setFormatter(self._formatter)
        self._handler.addFilter(lambda record: hasattr(record, "request_id"))
        _CORE.addHandler(self._handler)

    def close(self) -> None:
        """End the log. A worker's lives as long as its process."""
        _CORE.removeHandler(self._handler)
        self._handler.close()
        self._lock.close()

    def write(self, requests: Sequence[Request], responses: Sequence[Response], seconds: float) -> None:
        """Write the lines of a batch that took `seconds`, all at once: one by one, they take three times as long."""
        lines: list[str] = []
        time, milliseconds = _time(datetime.now(UTC)), round(seconds * 1e3, 1)
        for request, response in zip(requests, responses, strict=True):
            line = Line(
                time=time,
                level=_level(response.status),
                request_id=request.request_id,
                model=self._model.name,
                version=self._model.version,
                client_request_id=request.client_request_id[:LONGEST],
                traceparent=request.traceparent[:LONGEST],
                wants=request.wants,
                status=response.status,
                code=response.code,
                bytes=len(request.body) if isinstance(request.body, bytes | bytearray) else 0,
                batch=len(requests),
                compute_ms=milliseconds,
            )
            lines.append(self._formatter.text(line))
        # through the handler alone, since requests are nothing for other logs of the program
        self._handler.handle(logging.makeLogRecord({"msg": "\n".join(lines), "request_id": _OF_A_BATCH}))


class _Formatter(logging.Formatter):
    """Turns requests, and the failures that have a request's id, into lines."""

    def __init__(self, form: Form, model: Model) -> None:
        super().__init__()
        self._form, self._model = form, model

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a batch as they are, or the text of a failure."""
        if vars(record)["request_id"] is _OF_A_BATCH:
            return str(record.msg)
        return self.text(self._failure(record))

    def text(self, line: Line) -> str:
        """The text of a line; in the form `text`, a failure's traceback follows it, indented."""
        return msgspec.json.encode(line).decode() if self._form == "json" else as_text(line)

    def _failure(self, record: logging.LogRecord) -> Line:
        return Line(
            time=_time(datetime.fromtimestamp(record.created, UTC)),
            level="ERROR",
            request_id=vars(record)["request_id"],
            model=self._model.name,
            version=self._model.version,
            message=record.getMessage(),
            traceback=self.formatException(record.exc_info) if record.exc_info else "",
        )


def as_text(line: Line) -> str:
    """A line as people read it. What a client sent is quoted, so that it cannot look like anything else."""
    if line.message:
        head = f"{line.time} {line.level} {line.model} {line.version} request={line.request_id} {line.message}"
        # empty lines as well, between the tracebacks of an error and of its cause: by this a reader knows where it ends
        return f"{head}\n{indent(line.traceback, '  ', lambda _: True)}" if line.traceback else head
    words = [line.time, line.level, str(line.status), line.code, line.wants, line.model, line.version]
    sent = {"client": line.client_request_id, "traceparent": line.traceparent}
    words += [f"request={line.request_id}", *(f"{name}={json.dumps(value)}" for name, value in sent.items() if value)]
    words += [f"bytes={line.bytes}", f"batch={line.batch}", f"compute={line.compute_ms}ms"]
    return " ".join(word for word in words if word)


def request_log(environment: Mapping[str, str], model: Model) -> RequestLog | None:
    """The log that the environment asks for; None if it asks for none.

    Raises:
        UnusableError: the form is none that there is, or the folder cannot be written to.
    """
    folder, said = environment.get(FOLDER_VARIABLE), environment.get(FORM_VARIABLE, "text")
    if not folder:
        return None
    for form in FORMS:
        if form == said:
            try:
                return RequestLog(Path(folder), form, model)
            except OSError as error:
                raise UnusableError(f"{FOLDER_VARIABLE}={folder}: {error}") from error
    raise UnusableError(f"{FORM_VARIABLE}={said}: expected {' or '.join(FORMS)}")


def _level(status: int) -> Level:
    return (
        "ERROR"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR
        else "WARNING"
        if status >= HTTPStatus.BAD_REQUEST
        else "INFO"
    )


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
