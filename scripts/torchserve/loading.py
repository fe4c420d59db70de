"""Notices in the log that the workers of a new version cannot load it; TorchServe would start them again and again."""

import time
from pathlib import Path

from scripts.torchserve.client import Check
from scripts.torchserve.log import failure_of
from scripts.torchserve.server import LOG_GRACE_S


class NotLoadedError(Exception):
    """A worker cannot load its model; the message says why."""


def position(log: Path) -> int:
    """The end of a log, which may not exist yet."""
    return log.stat().st_size if log.exists() else 0


def log_since(log: Path, before: int) -> str:
    """What was written into a log after a position."""
    if not log.exists():
        return ""
    with log.open(errors="replace") as file:
        file.seek(before)
        return file.read()


def loading(log: Path, model: str, version: str) -> Check:
    """A check that, from now on, the log reports no worker of a version that cannot load.

    The check raises:
        NotLoadedError: the log does report one.
    """
    before = position(log)

    def check() -> None:
        if failure_of(log_since(log, before), model, version):
            time.sleep(LOG_GRACE_S)
            raise NotLoadedError(failure_of(log_since(log, before), model, version))

    return check
