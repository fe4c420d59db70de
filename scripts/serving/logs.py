"""Shows what a server has logged: `make logs`."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from classifier.request_log import LONGEST, Line

from scripts.console import UserError, out, tail
from scripts.torchserve.server import CONSOLE_LOG, LOGS, STATE_FOLDER

_CONTINUED: Final = "  "  # how a line of a traceback begins
_ID: Final = re.compile(r'(?:request|client)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>\S+))')


def main(*, lines: int = 40, id: str | None = None, follow: bool = False, state: Path = STATE_FOLDER) -> None:  # noqa: A002 - ID=
    """Show the end of the server's log, or what is logged of one request.

    Args:
        lines: how many lines of the end.
        id: of a request, from its answer's header `x-request-id`, or the client's own `X-Request-Id`.
        follow: go on showing lines, those of requests as well, until interrupted.
        state: state folder of the server.
    """
    if lines < 1:
        raise UserError(f"LINES={lines}: expected a number of lines from 1")
    path = state / CONSOLE_LOG
    if not path.exists():
        raise UserError("there is no log: no server was started yet")
    if id is not None:
        if follow:
            raise UserError("ID= looks back and FOLLOW=1 ahead: give one of them")
        out.out(_of_request(state / LOGS, id[:LONGEST]))
    elif follow:
        _follow([path, *sorted((state / LOGS).glob("requests.*.log"))], lines)
    else:
        out.out(tail(path, lines))


def _of_request(folder: Path, wanted: str) -> str:
    files = sorted(folder.glob("requests.*.log*"), key=lambda path: path.stat().st_mtime)
    found = [line for path in files for line in _lines_of(path, wanted)]
    if not found:
        raise UserError(
            f"no request {wanted} in {folder}/requests.*.log, where each worker keeps its last 60 MB. What no worker "
            "got (no such model, a full queue, too many bytes) is in access_log.log, by its time and path"
        )
    return "\n".join(found)


def _lines_of(path: Path, wanted: str) -> Iterator[str]:
    """The lines of a file about one request, with its traceback."""
    continued = False
    with path.open(errors="replace") as log:
        for line in log:
            if not line.startswith(_CONTINUED):
                continued = wanted in _ids(line)
            if continued:
                yield line.rstrip("\n")


def _ids(line: str) -> set[str]:
    """The ids in a line of either form: the request's, and the client's own."""
    if line.startswith("{"):
        try:
            read = msgspec.json.decode(line, type=Line)
        except msgspec.MsgspecError:  # the last line of a worker that was killed
            return set()
        return {read.request_id, read.client_request_id}
    found = (match["plain"] or msgspec.json.decode(f'"{match["quoted"]}"') for match in _ID.finditer(line))
    return set(found)


def _follow(files: list[Path], lines: int) -> None:
    """Become `tail`, which goes on with the new file when a full one is put away."""
    program = shutil.which("tail")
    if program is None:
        raise UserError("FOLLOW=1 needs the program tail, which is not on the PATH")
    os.execv(program, [program, "-q", "-F", "-n", str(lines), *map(str, files)])  # noqa: S606 - no shell is wanted
