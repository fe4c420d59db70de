"""`make logs`: the end of the log, one request's lines, and lines as they come."""

import logging
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from classifier.identity import Model
from classifier.request_log import Form, RequestLog
from classifier.responses import Response
from classifier.service import Request

from scripts.console import UserError
from scripts.serving.logs import main

MODEL = Model(name="tiny", version="1.0", runtime="eager", precision="float32", weights="untrained")
GOOD = Response(status=200, content_type="application/json", body=b"{}")
FAILED = Response(status=500, content_type="application/problem+json", body=b"{}", code="internal")


@pytest.fixture(params=["text", "json"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a server whose worker answered four requests, one of them with a failure."""
    form: Form = request.param
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/console.log").write_text("first\nlast\n")
    with closing(RequestLog(tmp_path / "logs", form, MODEL)) as log:
        log.write([Request(body=b"", request_id="id-1", client_request_id='my "own"')], [GOOD], 0)
        log.write([Request(body=b"", request_id="id-0", client_request_id="long" * 100)], [GOOD], 0)
        try:
            raise ValueError("a reason") from KeyError("its cause")
        except ValueError:
            logging.getLogger("classifier.service").exception(
                "request %s: the classifier failed", "id-2", extra={"request_id": "id-2"}
            )
        log.write([Request(body=b"", request_id="id-2"), Request(body=b"", request_id="id-22")], [FAILED, GOOD], 0)
    return tmp_path


def test_the_end_of_the_console_log(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(lines=1, state=state)
    assert capsys.readouterr().out == "last\n"


def test_a_request_is_found_by_its_id_with_its_traceback(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(id="id-2", state=state)
    found = capsys.readouterr().out
    assert "KeyError: 'its cause'" in found
    assert "ValueError: a reason" in found
    assert "internal" in found
    assert "id-1" not in found
    assert "id-22" not in found


def test_a_request_is_found_by_the_clients_own_id(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for own, request_id in (('my "own"', "id-1"), ("long" * 100, "id-0")):
        main(id=own, state=state)
        (line,) = capsys.readouterr().out.splitlines()
        assert request_id in line


def test_a_file_that_was_put_away_is_searched_too(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = state / "logs/requests.0.log"
    path.rename(path.with_name("requests.0.log.1"))
    path.write_text('{"time": "half a li')  # a worker was killed
    main(id="id-1", state=state)
    assert "id-1" in capsys.readouterr().out


def test_what_is_not_there_is_said(state: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no request id-3 in .*access_log\.log"):
        main(id="id-3", state=state)
    with pytest.raises(UserError, match="give one of them"):
        main(id="id-1", follow=True, state=state)
    with pytest.raises(UserError, match="expected a number of lines from 1"):
        main(lines=0, state=state)
    with pytest.raises(UserError, match="no server was started yet"):
        main(state=tmp_path / "none")


def test_following_shows_requests_as_they_come(state: Path) -> None:
    command = [sys.executable, "-m", "scripts.command_line", "logs", "--follow", "--lines=1", f"--state={state}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "last\n"
        assert "id-22" in process.stdout.readline()
        time.sleep(0.1)
        with (state / "logs/console.log").open("a") as log:
            log.write("a worker died\n")
        assert process.stdout.readline() == "a worker died\n"
        process.terminate()
