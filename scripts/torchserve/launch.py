"""Starts the process of a TorchServe: its environment and folder, and a start that waits until it is on record."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from classifier import answer_form, metrics, request_log, traces
from classifier.recipe import Answers

from scripts.console import UserError
from scripts.torchserve.config_rules import envelope_refusal
from scripts.torchserve.config_settings import ENVELOPE

_WORKER_SITE: Final = Path(__file__).with_name("worker_site")  # what the workers' Python runs first

# Inherited variables that would override config.properties or what `make serve` was given, or confuse make
_DROPPED_VARIABLES: Final = (
    "TS_CONFIG_FILE",
    "LOG_LOCATION",
    "METRICS_LOCATION",
    "ANSWERS_LOG",
    "ANSWERS_LEVEL",
    answer_form.VARIABLE,
    request_log.FOLDER_VARIABLE,
    request_log.FORM_VARIABLE,
    metrics.FOLDER_VARIABLE,
    traces.COLLECTOR_VARIABLE,
    "MAKEFLAGS",
    "MAKELEVEL",
)

_ENVELOPE_VARIABLE: Final = f"TS_{ENVELOPE.upper()}"

# A shell that becomes the command in its arguments as soon as a line arrives. If the pipe ends instead, the program
# that was about to record the process has died or failed; then the shell removes its temporary folder, or the link to
# it, which a killed program cannot do, and ends.
_WAIT_FOR_A_LINE: Final = """\
read -r go || { folder=$(readlink -f "$TMPDIR"); [ -h "$TMPDIR" ] && rm "$TMPDIR"; rmdir "$folder"; exit 1; }
exec "$@" < /dev/null"""

# The path of a Unix socket has at most 104 bytes with the zero at its end (macOS; Linux: 108), and TorchServe puts
# `.ts.sock.<port>` into the temporary folder.
_LONGEST: Final = 103 - len("/.ts.sock.65535")
_SHORT: Final = Path("/tmp")  # noqa: S108 - only for a link with a random name to a folder of this user's own


class Variables(msgspec.Struct, frozen=True, kw_only=True):
    """What a server's processes are told through their environment, which workers that are started again inherit."""

    console: bool = False  # whether the caller reads the output and truncates its file; else that file is rotated
    answers: Answers | None = None  # the form of all models' answers; None for that of each recipe
    log: request_log.Form | None = None  # the form of the request log; None for no such log
    traces: str | None = None  # the base URL of a collector of traces; None for no traces
    metrics: Path | None = None  # the folder of the workers' metrics; None: neither they nor the front end count


def refuse_envelope(config: Mapping[str, str], inherited: Mapping[str, str]) -> None:
    """Refuse an envelope, with which this project's archives would be READY and answer nothing.

    Args:
        config: the server's settings.
        inherited: the environment. TorchServe takes settings from it only with `enable_envvars_config`, but whoever
            sets this one wants it to count.

    Raises:
        UserError: one of them names an envelope.
    """
    for name, envelope in ((ENVELOPE, config.get(ENVELOPE)), (_ENVELOPE_VARIABLE, inherited.get(_ENVELOPE_VARIABLE))):
        if envelope and envelope.strip():
            raise UserError(f"{name}={envelope}: {envelope_refusal(envelope.strip())}")


def environment(
    inherited: Mapping[str, str],
    java_home: Path,
    temporary: Path,
    logs: Path,
    variables: Variables,
) -> dict[str, str]:
    """The environment of a server.

    Args:
        inherited: the environment of the program that starts the server.
        java_home: JAVA_HOME of the Java that runs the front end.
        temporary: folder for unpacked archives, sockets and the file with the server's pid.
        logs: folder of the logs.
        variables: what the processes are told besides.
    """
    changed = {
        "JAVA_HOME": str(java_home),
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
        "CONSOLE_LOG": "console" if variables.console else "file",  # log4j2.xml reads it, and the next two
        **({} if variables.metrics is None else {"ANSWERS_LOG": "answers", "ANSWERS_LEVEL": "debug"}),
        "PYTHONPATH": str(_WORKER_SITE),
        "LC_ALL": "C.UTF-8",  # Java takes the encoding of file names from it
    }
    if variables.answers is not None:
        changed[answer_form.VARIABLE] = variables.answers
    if variables.log is not None:
        changed |= {request_log.FOLDER_VARIABLE: str(logs.resolve()), request_log.FORM_VARIABLE: variables.log}
    if variables.traces is not None:
        changed[traces.COLLECTOR_VARIABLE] = variables.traces
    if variables.metrics is not None:
        changed[metrics.FOLDER_VARIABLE] = str(variables.metrics.resolve())
    return {key: value for key, value in inherited.items() if key not in _DROPPED_VARIABLES} | changed


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for a server's temporary files. It stays for the server, unless the block fails.

    If its path is too long for sockets, this is a short link to it. If this process is killed within `held`, the new
    process removes it.
    """
    folder = Path(tempfile.mkdtemp(prefix="torchserve-"))
    try:
        if len(os.fsencode(folder)) > _LONGEST:
            link = _SHORT / folder.name
            link.symlink_to(folder)
            folder = link
        yield folder
    except BaseException:  # also of an interrupt
        remove_temporary(folder)
        raise


def remove_temporary(folder: Path) -> None:
    """Remove what `temporary_folder` made."""
    shutil.rmtree(folder.resolve(), ignore_errors=True)
    if folder.is_symlink():
        folder.unlink()


@contextmanager
def held(
    arguments: Sequence[str], variables: Mapping[str, str], folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that begins its work only at the end of the block, in which the caller records it.

    If the block fails, or this process is killed within it, the new process ends without having done anything. It has
    a process group of its own.

    Args:
        arguments: the command line.
        variables: the whole environment; its TMPDIR names an empty folder.
        folder: the folder to run in.
        log: the file that the output is appended to.
    """
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb") as line,
        os.fdopen(writing, "wb", buffering=0) as gate,
        log.open("ab") as output,  # appending, so that the file may be truncated while it is written
    ):
        process = subprocess.Popen(
            ["/bin/sh", "-c", _WAIT_FOR_A_LINE, "sh", *arguments],
            cwd=folder,
            env=variables,
            stdin=line,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        except BaseException:  # also of an interrupt
            gate.close()
            process.wait()
            raise
        gate.write(b"\n")
