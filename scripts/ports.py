"""Loopback ports: checks that they are free, and finds free ones."""

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

import psutil

from scripts.console import UserError

_TIMEOUT_S: Final = 1


def check_ports(ports: Mapping[str, int], otherwise: str) -> None:
    """Refuse ports that are already taken.

    Args:
        ports: loopback ports, by their purpose.
        otherwise: what the user can do instead of stopping the program that has a port.

    Raises:
        UserError: a port is taken, and the message names the program that has it; or there is no such port.
    """
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OverflowError as error:
                raise UserError(f"port {port} ({name}) does not exist, {otherwise}") from error
            except OSError as error:
                raise UserError(
                    f"port {port} ({name}) is taken{_owner(port)}; stop that program, {otherwise}"
                ) from error


def _owner(port: int) -> str:
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return f" by {psutil.Process(connection.pid).name()}, process {connection.pid}" if connection.pid else ""
    return ""


def is_listening(url: str) -> bool:
    """Whether something takes connections at the host and port of a URL."""
    address = urlsplit(url)
    host = "127.0.0.1" if address.hostname == "0.0.0.0" else address.hostname or ""  # noqa: S104 - its own port
    with socket.socket() as probe:
        probe.settimeout(_TIMEOUT_S)
        return probe.connect_ex((host, address.port or 0)) == 0


def free_port(stack: ExitStack) -> int:
    """A loopback port that is free, held until the stack is closed."""
    probe = stack.enter_context(socket.socket())
    probe.bind(("127.0.0.1", 0))
    port: int = probe.getsockname()[1]
    return port
