"""No request makes an answer, or the memory that reading it takes, grow without end."""

import json
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from classifier import responses
from classifier.json_body import read_body
from classifier.pipeline import Classifier
from classifier.problems import DETAIL_LENGTH, Internal, Problem

from scripts.torchserve.config import read_config
from tests.unit.handlers.classifier.test_service import as_json, ask, assert_refused, read
from tests.unit.handlers.classifier.test_v2 import b64, infer

MEGABYTE = 1_000_000
LONGEST_PROBLEM = 4 * DETAIL_LENGTH + 500  # bytes: UTF-8 has up to four a character


def test_the_id_that_comes_back_is_short(tiny: Classifier, cat: bytes) -> None:
    """Once, 20 MB of it made an answer that cost the worker its life, and its neighbours theirs."""
    assert read(ask(tiny, infer(b64(cat), id="x" * 256))[0])["id"] == "x" * 256
    assert_refused(ask(tiny, infer(b64(cat), id="x" * 257)), 400, "bad_json")


@pytest.mark.parametrize("character", ["x", '"', "\u00fc", "\U0001f600"])
@pytest.mark.parametrize("where", ["outputs", "datatype"])
def test_a_problem_quotes_little_of_what_was_sent(tiny: Classifier, cat: bytes, character: str, where: str) -> None:
    text = character * MEGABYTE
    if where == "outputs":
        body = infer(b64(cat), outputs=[{"name": text}])
    else:
        body = infer([], inputs=[{"name": "", "shape": [0], "datatype": text, "data": []}])
    (response,) = ask(tiny, body)
    assert response.status == 400
    assert len(response.body) < LONGEST_PROBLEM


def test_a_detail_is_cut_where_it_is_too_long() -> None:
    assert Internal("x" * DETAIL_LENGTH).detail == "x" * DETAIL_LENGTH
    cut = Internal("x" * (DETAIL_LENGTH + 1)).detail
    assert (len(cut), cut[-2:]) == (DETAIL_LENGTH, "x…")


def test_an_answer_that_would_be_too_long_is_refused(
    tiny: Classifier, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = len(ask(tiny, as_json(cat, cat), top_k="10")[0].body)
    monkeypatch.setattr(responses, "MAX_RESPONSE", longest)
    assert len(read(ask(tiny, as_json(cat, cat), top_k="10")[0])["instances"]) == 2
    monkeypatch.setattr(responses, "MAX_RESPONSE", longest - 1)
    long, short = ask(tiny, as_json(cat, cat), as_json(cat), top_k="10")
    assert_refused([long], 400, "bad_parameter")
    assert "smaller top_k" in json.loads(long.body)["detail"]
    assert len(read(short)["instances"]) == 1


@pytest.mark.parametrize("path", ["config.properties", "docker/config.properties"])
def test_the_longest_answer_is_shorter_than_what_torchserve_takes(path: str) -> None:
    assert int(read_config(Path(path))["max_response_size"]) > responses.MAX_RESPONSE


@pytest.mark.parametrize("value", [b"[" + b"[]," * MEGABYTE + b"[]]", b"9" * MEGABYTE, b'"' + b"x" * MEGABYTE + b'"'])
def test_what_nobody_asked_for_is_skipped_and_takes_no_memory(tiny: Classifier, cat: bytes, value: bytes) -> None:
    body = b'{"x": %s, ' % value + as_json(cat)[1:]
    short = b'{"x": %s, ' % value + as_json(b"")[1:]
    tracemalloc.start()
    try:
        assert read_body(short, responses.JSON, 1) == read_body(as_json(b""), responses.JSON, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEGABYTE / 10
    assert len(read(ask(tiny, body)[0])["instances"]) == 1


@pytest.mark.parametrize("opening", [b"[", b'{"x":', b'{"instances":', b'{"inputs":[', b'{"instances":[{"b64":'])
def test_json_that_is_nested_too_deep_is_refused(tiny: Classifier, opening: bytes) -> None:
    responses = ask(tiny, b'{"x":' + opening * 100_000, b'{"inputs":' + opening * 100_000)
    assert_refused(responses, 400, "bad_json")


def test_every_problem_keeps_to_its_length() -> None:
    for kind in Problem.__subclasses__():
        assert len(msgspec.json.encode(kind("\U0001f600" * MEGABYTE).answer())) < LONGEST_PROBLEM
