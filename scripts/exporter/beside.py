"""The exporter in a process of its own, beside a server in the background."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import psutil
from classifier.metrics import FOLDER_VARIABLE

from scripts.console import UserError, run, tail
from scripts.torchserve.server import LOGS, Server, find

_RECORD: Final = "exporter.json"  # in the state folder
_LOG: Final = LOGS / "exporter.log"
_DEADLINE_S: Final = 20
_POLL_S: Final = 0.05


# The exporters that this process itself started. It must collect their exit codes, or they remain as zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


class _Process(msgspec.Struct, frozen=True):
    """The process, as written to exporter.json."""

    pid: int
    created: float  # its start time, so that another process with a reused pid is not taken for it


def start(server: Server, state: Path) -> None:
    """Start the exporter of a server, and wait until it answers. It ends by itself when the server has ended.

    Raises:
        UserError: it does not start.
    """
    if server.addresses.exporter is None:
        return
    environment = {name: value for name, value in os.environ.items() if name != FOLDER_VARIABLE}
    with (state / _LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(state.resolve())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _children[process.pid] = process
    record = _Process(process.pid, psutil.Process(process.pid).create_time())
    (state / _RECORD).write_bytes(msgspec.json.encode(record))
    deadline = time.monotonic() + _DEADLINE_S
    while not _listens(record.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the exporter does not start:\n{tail(state / _LOG, 20)}")
        time.sleep(_POLL_S)


def _listens(pid: int) -> bool:
    """Whether this process takes connections; another one may have taken its port."""
    try:
        return any(item.status == psutil.CONN_LISTEN for item in psutil.Process(pid).net_connections("tcp"))
    except psutil.NoSuchProcess:
        return False


def stop(state: Path) -> None:
    """End the exporter of this state folder, if it still runs."""
    path = state / _RECORD
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Process)
        process = psutil.Process(record.pid)
        if process.create_time() == record.created:
            process.terminate()
            psutil.wait_procs([process], timeout=_DEADLINE_S)
        if child := _children.pop(record.pid, None):
            child.wait(_DEADLINE_S)
    except (FileNotFoundError, msgspec.MsgspecError, psutil.NoSuchProcess):
        pass
    path.unlink(missing_ok=True)


def main() -> None:
    """Run until the server of the state folder has ended."""
    state = Path(sys.argv[1])
    server = find(state)
    if server is None:
        raise UserError("no server is running")
    from scripts.exporter.exporter import exporting  # imports what the program that starts this one has no use for

    with exporting(server, state) as counting:
        if counting is not None:
            counting.join()


if __name__ == "__main__":
    run(main)
