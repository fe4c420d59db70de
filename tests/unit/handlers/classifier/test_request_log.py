import json
import logging
import re
import subprocess
import sys
from contextlib import closing
from logging.handlers import BufferingHandler
from pathlib import Path

import pytest
from classifier import request_log as module
from classifier.errors import UnusableError
from classifier.identity import Model
from classifier.request_log import Line, RequestLog, as_text, request_log
from classifier.responses import Response
from classifier.service import Request

MODEL = Model(name="tiny", version="1.0", runtime="eager", precision="float32", weights="untrained")
GOOD = Response(status=200, content_type="application/json", body=b"{}")
BAD = Response(status=415, content_type="application/problem+json", body=b"{}", code="not_an_image")
FAILED = Response(status=500, content_type="application/problem+json", body=b"{}", code="internal")


def lines(folder: Path, number: int = 0) -> list[str]:
    return (folder / f"requests.{number}.log").read_text().splitlines()


def test_a_batch_has_a_line_for_each_request(tmp_path: Path) -> None:
    requests = [
        Request(body=b"12345", request_id="a", client_request_id="mine", traceparent="00-1-2-01"),
        Request(body=None, request_id="b", wants="description"),
        Request(body=b"x", request_id="c", wants="explanation"),
    ]
    with closing(RequestLog(tmp_path / "logs", "json", MODEL)) as log:
        log.write(requests, [GOOD, BAD, FAILED], 0.01234)
    first, second, third = (json.loads(line) for line in lines(tmp_path / "logs"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "INFO",
        "request_id": "a",
        "model": "tiny",
        "version": "1.0",
        "client_request_id": "mine",
        "traceparent": "00-1-2-01",
        "wants": "prediction",
        "status": 200,
        "bytes": 5,
        "batch": 3,
        "compute_ms": 12.3,
    }
    assert [second[name] for name in ("level", "status", "code")] == ["WARNING", 415, "not_an_image"]
    assert [third[name] for name in ("level", "status", "code", "wants")] == ["ERROR", 500, "internal", "explanation"]


def test_the_text_has_the_same_and_quotes_what_clients_send(tmp_path: Path) -> None:
    request = Request(body=b"12", request_id="a", client_request_id='me" status=200\r\n', traceparent="x" * 9000)
    with closing(RequestLog(tmp_path, "text", MODEL)) as log:
        log.write([request], [BAD], 0.001)
    (line,) = lines(tmp_path)
    _, _, said = line.partition("Z ")
    assert said == (
        'WARNING 415 not_an_image prediction tiny 1.0 request=a client="me\\" status=200\\r\\n" '
        f'traceparent="{"x" * 128}" bytes=2 batch=1 compute=1.0ms'
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_failure_has_its_traceback_under_the_id_of_its_request(tmp_path: Path, form: module.Form) -> None:
    core = logging.getLogger("classifier.service")
    with closing(RequestLog(tmp_path, form, MODEL)):
        try:
            raise ValueError("a reason")
        except ValueError:
            core.exception("request %s: the classifier failed", "a", extra={"request_id": "a"})
        core.error("of no request")
    core.error("after the end", extra={"request_id": "a"})
    first, *rest = lines(tmp_path)
    if form == "json":
        found = json.loads(first)
        assert (found["level"], found["request_id"], rest) == ("ERROR", "a", [])
        assert (found["message"], found["traceback"].splitlines()[-1]) == (
            "request a: the classifier failed",
            "ValueError: a reason",
        )
    else:
        assert "ERROR tiny 1.0 request=a request a: the classifier failed" in first
        assert rest[0] == "  Traceback (most recent call last):"
        assert rest[-1] == "  ValueError: a reason"


def test_requests_reach_no_other_log_of_the_process(tmp_path: Path) -> None:
    """Asked with a handler of the test's own: caplog hears loggers that pass nothing on as well."""
    others = BufferingHandler(100)
    loggers = [logging.getLogger(), logging.getLogger("classifier")]
    for logger in loggers:
        logger.addHandler(others)
    try:
        with closing(RequestLog(tmp_path, "text", MODEL)) as log:
            log.write([Request(body=b"", request_id="a")], [FAILED], 0)
            logging.getLogger("classifier.service").error("heard")
    finally:
        for logger in loggers:
            logger.removeHandler(others)
    assert {record.getMessage() for record in others.buffer} == {"heard"}


def test_a_full_file_is_put_away_and_the_oldest_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with closing(RequestLog(tmp_path, "text", MODEL)) as log:
        for number in range(100):
            log.write([Request(body=b"", request_id=f"request{number}")], [GOOD], 0)
    files = sorted(path.name for path in tmp_path.glob("requests*"))
    assert files == ["requests.0.log", "requests.0.log.1", "requests.0.log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.glob("requests*"))
    assert "request99 " in lines(tmp_path)[-1]


def test_each_process_has_its_own_file_and_the_next_goes_on_with_that_of_a_dead_one(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from classifier.identity import Model
from classifier.request_log import RequestLog
from classifier.responses import Response
from classifier.service import Request
model = Model(name="tiny", version="1.0", runtime="eager", precision="float32", weights="untrained")
log = RequestLog(Path(sys.argv[1]), "text", model)
log.write([Request(body=b"", request_id=sys.argv[2])], [Response(status=200, content_type="", body=b"")], 0)
print("written", flush=True)
sys.stdin.read()
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
    assert {lines(tmp_path, number)[0].split("request=")[1].split()[0] for number in (0, 1)} == {"one", "two"}
    for process in started:
        process.kill()
        process.communicate()
    with closing(RequestLog(tmp_path, "text", MODEL)) as log:
        log.write([Request(body=b"", request_id="three")], [GOOD], 0)
    assert len(lines(tmp_path)) == 2
    assert "request=three" in lines(tmp_path)[1]


def test_the_environment_says_whether_and_how(tmp_path: Path) -> None:
    assert request_log({}, MODEL) is None
    assert request_log({"CLASSIFIER_REQUEST_LOG_FORM": "json"}, MODEL) is None
    chosen = request_log({"CLASSIFIER_REQUEST_LOG": str(tmp_path), "CLASSIFIER_REQUEST_LOG_FORM": "json"}, MODEL)
    assert chosen is not None
    with closing(chosen):
        chosen.write([Request(body=b"", request_id="a")], [GOOD], 0)
    assert json.loads(lines(tmp_path)[0])["request_id"] == "a"


def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableError, match=r"CLASSIFIER_REQUEST_LOG=.*file"):
        request_log({"CLASSIFIER_REQUEST_LOG": str(tmp_path / "file")}, MODEL)
    with pytest.raises(UnusableError, match="CLASSIFIER_REQUEST_LOG_FORM=xml: expected text or json"):
        request_log({"CLASSIFIER_REQUEST_LOG": str(tmp_path), "CLASSIFIER_REQUEST_LOG_FORM": "xml"}, MODEL)


def test_a_line_without_what_a_client_may_send_has_no_place_for_it() -> None:
    line = Line(time="now", level="INFO", request_id="a", model="tiny", version="1.0", wants="prediction", status=200)
    assert as_text(line) == "now INFO 200 prediction tiny 1.0 request=a bytes=0 batch=0 compute=0.0ms"
