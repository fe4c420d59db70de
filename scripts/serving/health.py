"""An address for load balancers: whether the server of this machine can answer, without a token.

A small listener passes on one bit and nothing else, so that it may be reached from other machines.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from scripts.console import step
from scripts.exporter import listener as pages
from scripts.ports import check_ports
from scripts.torchserve.readiness import Readiness
from scripts.torchserve.server import STATE_FOLDER

PATH: Final = "/ready"
PORT: Final = 8083


def listener(state: Path, listen: str, port: int) -> pages.Listener:
    """The listener, bound but not serving yet.

    Args:
        state: state folder of the server to ask about.
        listen: the address to listen on.
        port: the port; 0 for any free one.

    Raises:
        UserError: it cannot listen there.
    """
    return pages.listener("health", _pages(state), listen, port)


@contextmanager
def listening(state: Path, listen: str, port: int) -> Iterator[int]:
    """Answer load balancers while the block runs; gives the port. Arguments and errors as of `listener`."""
    with pages.listening("health", _pages(state), listen, port) as bound:
        yield bound


def _pages(state: Path) -> pages.Pages:
    return {PATH: partial(pages.ready_page, Readiness(state))}


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
