import io
import os
import re
import signal
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from scripts import console
from scripts.console import UserError, done, download_progress, run, step, uninterrupted, warn_untrained

ENDING = [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """What `run` does about signals ends with the test; and were it nothing, only the test would end."""

    def nobody_cares(number: int, _: object) -> None:
        raise AssertionError(f"nothing was done about signal {number}")

    before = {number: signal.signal(number, nobody_cares) for number in ENDING} | {
        signal.SIGINT: signal.getsignal(signal.SIGINT)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fail() -> None:
    raise UserError("the cat is gone; open the door")


def interrupt() -> None:
    raise KeyboardInterrupt


def be_terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def succeed() -> None:
    done("all is well")


@pytest.mark.parametrize(
    ("main", "code", "errors"),
    [
        (succeed, 0, ""),
        (fail, 1, "error: the cat is gone; open the door\n"),
        (interrupt, 130, "interrupted\n"),
        (be_terminated, 143, ""),
    ],
)
def test_a_program_ends_with_a_code_and_at_most_one_line(
    main: Callable[[], None], code: int, errors: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == code
    assert capsys.readouterr().err == errors


def test_a_full_disk_is_said_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        with open("/dev/full", "w") as full:  # noqa: PTH123 # its errors have no name of a file
            full.write("x")

    with pytest.raises(SystemExit, match="1"):
        run(write)
    assert capsys.readouterr().err == "error: No space left on device: make room, and repeat the command\n"


def test_a_terminated_program_cleans_up_first() -> None:
    cleaned = []

    def main() -> None:
        try:
            be_terminated()
        finally:
            cleaned.append(True)

    with pytest.raises(SystemExit):
        run(main)
    assert cleaned == [True]


@pytest.mark.parametrize("first", [signal.SIGINT, *ENDING])
def test_a_second_signal_does_not_cut_short_what_must_be_cleaned_up(first: signal.Signals) -> None:
    cleaned = []

    def main() -> None:
        try:
            signal.raise_signal(first)
        finally:
            with uninterrupted():
                for second in (signal.SIGINT, *ENDING):
                    signal.raise_signal(second)
                cleaned.append(True)

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert (ended.value.code, cleaned) == (128 + first, [True])


def test_signals_that_whoever_started_it_has_ignored_stay_ignored() -> None:
    """As `nohup` does it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with pytest.raises(SystemExit) as ended:
        run(lambda: signal.raise_signal(signal.SIGHUP))
    assert ended.value.code == 0


def test_what_nobody_foresaw_keeps_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main)


@pytest.mark.parametrize(
    "text",
    [
        "[bold] is no markup here, nor is [/nope] or [1] or [",
        "a[b]c [red]d[/red]",
        r"C:\[x] and \[y] and \\[z]",
        "host:key:value and :smile:",
        "a line of " + 60 * "words ",
        "two\nlines",
    ],
)
def test_text_comes_out_as_it_went_in(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    step(text)
    done(text)

    def main() -> None:
        raise UserError(text)

    with pytest.raises(SystemExit):
        run(main)
    shown = capsys.readouterr()
    assert shown.out == f"· {text}\n✓ {text}\n"
    assert shown.err == f"error: {text}\n"


def test_the_banner_of_untrained_weights_names_the_model_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    warn_untrained("vgg16", "https://host/x.pth cannot be downloaded: [Errno 111] refused")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "UNTRAINED WEIGHTS" in shown.err
    assert "vgg16 has untrained weights" in shown.err
    assert "[Errno 111] refused" in shown.err


@pytest.mark.parametrize(
    ("total", "line"), [(12_000_000, "· downloading x.pth, 12 MB\n"), (None, "· downloading x.pth\n")]
)
def test_a_download_off_a_terminal_is_one_line(
    total: int | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with download_progress("x.pth", total) as report:
        for done_bytes in range(0, 12_000_000, 1_000_000):
            report(done_bytes)
    assert capsys.readouterr().out == line


def test_a_download_on_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100, legacy_windows=False)
    monkeypatch.setattr(console, "out", terminal)
    with download_progress("x.pth", 12_000_000) as report:
        report(12_000_000)
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", screen.getvalue())
    assert "x.pth" in shown
    assert "12.0/12.0 MB" in shown
