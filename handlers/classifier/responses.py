"""Responses: what the core hands to a server for each request."""

from typing import Final

import msgspec

from classifier.answers import answer_of
from classifier.identity import Model
from classifier.problems import MEDIA_TYPE, BadParameter, Problem
from classifier.rank import Prediction

JSON: Final = "application/json"
# The most bytes of one answer. For an answer longer than `max_response_size`, TorchServe's front end drops the worker
# and every answer of its batch; this limit is below that.
MAX_RESPONSE = 16 * 1024 * 1024


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    status: int
    content_type: str
    body: bytes
    code: str = ""  # of the problem that it reports


def json_response(content: object) -> Response:
    """The response with that content, or a problem in its place if it would be too long."""
    body = msgspec.json.encode(content)
    if len(body) > MAX_RESPONSE:
        detail = f"the answer would have {len(body):,} bytes, more than {MAX_RESPONSE:,}"
        return problem_response(BadParameter(f"{detail}; ask for a smaller top_k, or send fewer pictures"))
    return Response(status=200, content_type=JSON, body=body)


def problem_response(problem: Problem) -> Response:
    """The response that reports a problem."""
    body = msgspec.json.encode(problem.answer())
    return Response(status=problem.status, content_type=MEDIA_TYPE, body=body, code=problem.code)


def prediction_response(predictions: list[Prediction], model: Model) -> Response:
    """The response to one picture."""
    return json_response(answer_of(predictions, model))
