"""A listener for programs: a few pages, each computed when it is asked for, and nothing else."""

import http.server
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, NamedTuple

from scripts.console import UserError
from scripts.torchserve.readiness import Readiness

_CLIENT_TIMEOUT_S: Final = 5
_ASKED_AT_ONCE: Final = 1024  # requests that wait for a thread; the system may allow fewer


class Page(NamedTuple):
    """The answer to a request."""

    status: HTTPStatus
    content_type: str
    body: bytes


Pages = Mapping[str, Callable[[], Page]]  # by path


def text_page(status: HTTPStatus, text: str) -> Page:
    """A page that is one line of text."""
    return Page(status, "text/plain; charset=utf-8", f"{text}\n".encode())


def ready_page(readiness: Readiness) -> Page:
    """200 if the server can answer, else 503."""
    ready = readiness()
    return text_page(HTTPStatus.OK, "ready") if ready else text_page(HTTPStatus.SERVICE_UNAVAILABLE, "not ready")


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers `GET` and `HEAD` of its pages."""

    timeout = _CLIENT_TIMEOUT_S
    server_version, sys_version = "classifier", ""
    pages: Pages

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        status, content_type, body = text_page(HTTPStatus.NOT_FOUND, "not found") if page is None else page()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_: object) -> None:
        """Log nothing: a line for each probe would be most of a log."""


class Listener(http.server.ThreadingHTTPServer):
    """Takes requests that arrive together: of those beyond the queue, the system has each wait a second or more."""

    request_queue_size = _ASKED_AT_ONCE


def listener(name: str, pages: Pages, host: str, port: int) -> Listener:
    """The listener, bound but not serving yet.

    Args:
        name: what error messages call it.
        pages: what it answers.
        host: the address to listen on.
        port: the port; 0 for any free one.

    Raises:
        UserError: it cannot listen there.
    """
    handler = type("_Handler", (_Handler,), {"pages": pages})
    try:
        return Listener((host, port), handler)
    except (OSError, OverflowError) as error:  # OverflowError: there is no such port
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{name}: cannot listen on {host}:{port}: {why}") from error


@contextmanager
def listening(name: str, pages: Pages, host: str, port: int) -> Iterator[int]:
    """Answer while the block runs; gives the port. Arguments and errors as of `listener`."""
    with listener(name, pages, host, port) as server:
        thread = threading.Thread(target=server.serve_forever, name=name, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
