"""Programs of others that run as long as something here needs them."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Final

_STOP_DEADLINE_S: Final = 20


@contextmanager
def child(command: Sequence[str], log: IO[bytes] | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a process group of its own, without input, while the block runs.

    At the end it is asked to end, and killed if it does not.

    Args:
        command: its command line.
        log: the file of its output; None for the terminal.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
