"""The exporter in a process of its own, beside a server in the background."""

import sys
from pathlib import Path
from typing import Final

from classifier.metrics import FOLDER_VARIABLE

from scripts import background
from scripts.console import UserError, run
from scripts.torchserve.server import LOGS, Server, find

_RECORD: Final = "exporter.json"  # in the state folder
_LOG: Final = LOGS / "exporter.log"
_DEADLINE_S: Final = 20


def start(server: Server, state: Path) -> None:
    """Start the exporter of a server, and wait until it answers. It ends by itself when the server has ended.

    Raises:
        UserError: it does not start.
    """
    if server.addresses.exporter is None:
        return
    module = [__name__, str(state.resolve())]
    record, log = state / _RECORD, state / _LOG
    background.start("the exporter", module, record, log, _DEADLINE_S, background.listens, without=[FOLDER_VARIABLE])


def stop(state: Path) -> None:
    """End the exporter of this state folder, if it still runs."""
    background.stop(state / _RECORD, _DEADLINE_S)


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
