"""What users see: one-line errors, progress, banners."""

import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from classifier.errors import UnusableError
from classifier.identity import UNTRAINED
from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk: to write raises these without the file's name
_WIDTH_OF_BANNERS = 100
_WIDTH_OF_FILES = 120  # columns, if the output is not a terminal
_ENDING = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)  # beside SIGINT, which Python itself makes an exception of


class _UnreadError(SystemExit):
    """Nobody reads any more what the program prints."""


class _Output(Console):
    """Says that nobody reads by an exception of its own, which `unread` can tell from others that end the program."""

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise _UnreadError(128 + signal.SIGPIPE)


out = _Output(soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)
err = Console(
    soft_wrap=True, highlight=False, emoji=False, width=None if sys.stderr.isatty() else _WIDTH_OF_FILES, stderr=True
)


class UserError(Exception):
    """An error that the user can correct. The message is all they see, so it says what happened and what to do."""

    exit_code = 1  # of a program that ends with it


def run(main: Callable[[], None]) -> NoReturn:
    """Run a program.

    A UserError, an UnusableError or an OSError about a file becomes one line and an exit code, 1 for most. A signal
    that asks it to end (SIGINT, SIGTERM, SIGQUIT, or SIGHUP of a terminal that is closed) cleans up, and becomes 128
    and the signal's number. So does the end of a pipe that nobody reads any more, as with `| head`.
    """
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except UserError as error:
        _end(str(error), error.exit_code)
    except UnusableError as error:
        _end(str(error))
    except OSError as error:  # a path that somebody named: too long, below a file, not to be written
        if error.filename is None:
            if error.errno not in _FULL:
                raise
            _end(f"{error.strerror}: make room, and repeat the command")
        _end(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    sys.exit(0)


@contextmanager
def unread() -> Iterator[None]:
    """Let nobody read what the block prints, as with `| head`: the program goes on, and prints no more."""
    with suppress(_UnreadError):
        yield


def _end(text: str, code: int = UserError.exit_code) -> NoReturn:
    err.print(Text.assemble(("error:", "bold red"), f" {text}"))
    sys.exit(code)


def step(text: str) -> None:
    """Print the step that begins now."""
    out.print(Text.assemble(("·", "dim"), f" {text}"))


def done(text: str) -> None:
    """Print a result that was reached."""
    out.print(Text.assemble(("✓", "green"), f" {text}"))


def warn(text: str) -> None:
    """Print a warning; the program goes on."""
    err.print(Text.assemble(("warning:", "bold yellow"), f" {text}"))


def show_table(lines: list[list[str]]) -> None:
    """Print lines of cells as a table; the first line is its head."""
    table = Table(*lines[0])
    for line in lines[1:]:
        table.add_row(*line)
    out.print(table, soft_wrap=False)


def warn_untrained(model: str, why: str) -> None:
    """Print the banner of a model whose predictions mean nothing."""
    text = f"{model} has {UNTRAINED} weights: its predictions are noise, useful only for trying things out.\n{why}"
    err.print(
        Panel(Text(text), title=f"{UNTRAINED.upper()} WEIGHTS", style="bold yellow", width=_WIDTH_OF_BANNERS),
        soft_wrap=False,
    )


@contextmanager
def download_progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, one line elsewhere. Call the yielded function with the number of bytes so far."""
    if not out.is_terminal:
        step(f"downloading {name}" + (f", {total / 1e6:.0f} MB" if total else ""))
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as progress:
        task = progress.add_task(name, total=total)
        yield lambda completed: progress.update(task, completed=completed)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, one line elsewhere. Call the yielded function with how many more are done."""
    if not out.is_terminal:
        step(f"{title}: {total}")
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out) as bar:
        task = bar.add_task(title, total=total)
        yield lambda more: bar.advance(task, more)


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore signals that ask the program to end, for a clean-up that is short and must not be left half done."""
    if threading.current_thread() is not threading.main_thread():  # no other gets signals
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *_ENDING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tail(log: Path, lines: int) -> str:
    """The last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
