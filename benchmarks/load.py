"""Puts load on a server: wrk for a closed loop, whose clients wait for each answer, and Locust for an open loop."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import requests

from scripts.console import UserError

_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_TIMEOUT_S: Final = 60
_START_DEADLINE_S: Final = 120
_POLL_S: Final = 0.02


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The result of sending pictures for some time. Latencies are those of all answers."""

    seconds: float
    answers: int  # with a status of 2xx
    failed: int
    p50_ms: float
    p90_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Pictures classified a second."""
        return self.answers / self.seconds


def require_wrk() -> None:
    """Raise a UserError if wrk is not installed: best before minutes of building and serving."""
    if shutil.which("wrk") is None:
        raise UserError("wrk, which sends the load, is missing; `make setup-system` installs it, or says how")


def closed_loop(url: str, bodies: Sequence[Path], clients: int, seconds: float, field: str = "") -> Load:
    """Send pictures from clients that each wait for an answer before they send the next picture.

    Args:
        url: where they are posted to.
        bodies: the pictures.
        clients: how many clients.
        seconds: how long.
        field: the field of a form that carries the picture; without it the body is the picture.

    Raises:
        UserError: wrk is not installed.
    """
    require_wrk()
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{max(1, round(seconds))}s",
        f"--timeout={_TIMEOUT_S}s",
        "-s",
        str(_SCRIPT),
        url,
    ]
    return _run([*command, "--", field, *map(str, bodies)])


def post(url: str, picture: Path, field: str = "", headers: Mapping[str, str] | None = None) -> requests.Response:
    """Post one picture, as `closed_loop` does."""
    body = picture.read_bytes()
    if field:
        return requests.post(url, files={field: body}, headers=headers, timeout=_START_DEADLINE_S)
    return requests.post(url, data=body, headers=headers, timeout=_START_DEADLINE_S)


def first_answer(
    url: str, picture: Path, begin: float, field: str = "", check: Callable[[], None] = lambda: None
) -> float:
    """Post a picture again and again until it is classified.

    Args:
        url: where it is posted to.
        picture: the picture.
        begin: the time of the server's start, of `time.perf_counter`.
        field: as of `closed_loop`.
        check: raises an error if there is no point in waiting any longer.

    Returns:
        Seconds from the start to the answer.

    Raises:
        TimeoutError: there was none in two minutes.
    """
    while time.perf_counter() - begin < _START_DEADLINE_S:
        try:
            if post(url, picture, field).ok:
                return time.perf_counter() - begin
        except requests.ConnectionError:
            pass  # not listening yet
        check()
        time.sleep(_POLL_S)
    raise TimeoutError(f"no answer from {url} in {_START_DEADLINE_S} s")


def open_loop(url: str, bodies: Sequence[Path], rate: float, seconds: float) -> Load:
    """Send pictures at the times of a Poisson process, `rate` a second, however slowly they are answered."""
    command = [sys.executable, "-m", "benchmarks.poisson", url, str(rate), str(seconds)]
    return _run([*command, *map(str, bodies)])


def _run(command: list[str]) -> Load:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UserError(f"{command[0]} failed:\n{result.stdout}{result.stderr}")
    return msgspec.convert(json.loads(result.stdout.splitlines()[-1]), Load)
