"""Programs of others that run as long as something here needs them."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from scripts.console import UserError, tail

_STOP_DEADLINE_S: Final = 20
_POLL_S: Final = 0.1


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


def wait_started(
    process: subprocess.Popen[bytes], name: str, answers: Callable[[], bool], log: Path, deadline_s: float
) -> None:
    """Wait until a program answers.

    Args:
        process: the program.
        name: what error messages call it.
        answers: whether it does.
        log: the file of its output, if it has one.
        deadline_s: how long it may take.

    Raises:
        UserError: it has ended, and the message has the end of its log; or it does not answer in time.
    """
    deadline = time.monotonic() + deadline_s
    while not answers():
        if process.poll() is not None:
            raise UserError(f"{name} ended while starting" + (f":\n{tail(log, 5)}" if log.exists() else ""))
        if time.monotonic() > deadline:
            raise UserError(f"{name} does not start: it does not answer after {deadline_s:.0f} s")
        time.sleep(_POLL_S)
