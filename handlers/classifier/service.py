"""The HTTP contract without HTTP: it takes the requests of a batch and returns a response for each.

Servers only translate between their own messages and these requests and responses.
"""

import base64
import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import msgspec

from classifier import v2
from classifier.answers import (
    DescriptionAnswer,
    ExplanationAnswer,
    Region,
    answer_of,
    instances_answer_of,
)
from classifier.decode import FORMATS
from classifier.identity import Model
from classifier.json_body import Instances, read_json
from classifier.pipeline import Classifier
from classifier.problems import (
    MEDIA_TYPE,
    BadBase64,
    BadParameter,
    EmptyBody,
    Internal,
    Problem,
    TooManyInstances,
)
from classifier.rank import Prediction

logger = logging.getLogger(__name__)

DEFAULT_TOP_K = 5
JSON = "application/json"
PICTURE_FIELDS = ("data", "file")  # the fields of a form that may carry the picture
# Parameters that may come as headers: TorchServe's front end drops the query of /predictions and /explanations.
PARAMETER_HEADERS = {"x-top-k": "top_k", "x-target": "target", "x-method": "method"}
_PNG = "image/png"
# The most bytes of one answer. For an answer longer than `max_response_size`, TorchServe's front end drops the worker
# and every answer of its batch; this limit is below that.
MAX_RESPONSE = 16 * 1024 * 1024

_OBJECT = re.compile(rb"\s*\{")  # no picture format begins like a JSON object, so clients need not name the type


Wish = Literal["prediction", "explanation", "description"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `body` is bytes as they were received, or JSON that the server has already decoded."""

    body: Any
    wants: Wish = "prediction"
    content_type: str = ""
    accept: str = ""  # the media types that the client accepts, as in the header `Accept`
    parameters: Mapping[str, str] = {}
    request_id: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    status: int
    content_type: str
    body: bytes


_Results = list[list[Prediction] | Problem]


class _Asked(msgspec.Struct, frozen=True):
    """What a request asks for: the pictures to classify, and a function that makes the response from their results."""

    pictures: Sequence[bytes | Problem]
    top_k: int
    respond: Callable[[_Results, Model], Response]


def answer(classifier: Classifier, requests: Sequence[Request]) -> list[Response]:
    """Answer the requests of one batch, with all their pictures classified together.

    A problem of one request affects no other.
    """
    asked = [_read(request, classifier) for request in requests]
    results = iter(
        classifier.classify(
            [picture for item in asked for picture in item.pictures],
            [item.top_k for item in asked for _ in item.pictures],
        )
    )
    return [
        _respond(request, item, list(islice(results, len(item.pictures))), classifier.identity.model)
        for request, item in zip(requests, asked, strict=True)
    ]


def _read(request: Request, classifier: Classifier) -> _Asked:
    """Read what a request asks for. Explanations take long, so they are computed after all predictions of the batch."""
    if request.wants == "explanation":
        return _Asked([], 0, lambda *_: answer_explanation(classifier, request))
    if request.wants == "description":
        return _Asked([], 0, lambda *_: describe(classifier))
    return _parse(request, classifier)


def _parse(request: Request, classifier: Classifier) -> _Asked:
    """Read the pictures of a request. A problem of the whole request stands in place of a single picture."""
    try:
        top_k = parse_top_k(request.parameters, len(classifier.labels))
        body = request.body.encode("utf-8", "replace") if isinstance(request.body, str) else request.body
        if body is None or body == b"":
            raise EmptyBody("send the bytes of a picture as the body, or as the form field `data` or `file`")
        if isinstance(body, bytes | bytearray) and not _is_json(body, request.content_type):
            return _Asked([bytes(body)], top_k, _one)
        return _parse_json(body, top_k, classifier)
    except Problem as problem:
        return _Asked([problem.forget_origin()], 0, _one)
    except Exception:  # any other error must fail this request alone
        logger.exception("request %s could not be read", request.request_id)
        said = "the request could not be read; the server's log has the reason, under the id of this request"
        return _Asked([Internal(said)], 0, _one)


def _is_json(body: bytes | bytearray, content_type: str) -> bool:
    return content_type.lower().startswith(JSON) or _OBJECT.match(body) is not None


def parse_top_k(parameters: Mapping[str, str], classes: int) -> int:
    """How many classes a request asks for, in its parameter `top_k`.

    Raises:
        BadParameter: `top_k` is out of range or not a whole number.
    """
    text = parameters.get("top_k")
    # more than nine digits are more than any number of classes, and int() of a long string is slow
    whole = text is not None and text.isascii() and text.isdigit() and len(text) <= 9
    return checked_top_k(None if text is None else int(text) if whole else 0, classes)


def checked_top_k(asked: int | None, classes: int) -> int:
    """How many classes an answer has: as many as were asked for; by default five, or all if there are fewer.

    Raises:
        BadParameter: `asked` is out of range.
    """
    top_k = min(DEFAULT_TOP_K, classes) if asked is None else asked
    if not 1 <= top_k <= classes:
        raise BadParameter(f"top_k must be a whole number from 1 to {classes}")
    return top_k


def _respond(request: Request, asked: _Asked, results: _Results, model: Model) -> Response:
    for result in results:
        if isinstance(result, Internal) and result.__cause__ is not None:
            logger.error("request %s: the classifier failed", request.request_id, exc_info=result.__cause__)
            result.forget_origin()  # it has been logged
    return asked.respond(results, model)


def _one(results: _Results, model: Model) -> Response:
    """The response to a body that is one picture: a problem of the picture is a problem of the request."""
    (result,) = results
    return problem_response(result) if isinstance(result, Problem) else prediction_response(result, model)


def prediction_response(predictions: list[Prediction], model: Model) -> Response:
    """The response to one picture."""
    return _json_response(answer_of(predictions, model))


def problem_response(problem: Problem) -> Response:
    """The response that reports a problem."""
    return Response(status=problem.status, content_type=MEDIA_TYPE, body=msgspec.json.encode(problem.answer()))


def _json_response(content: msgspec.Struct) -> Response:
    body = msgspec.json.encode(content)
    if len(body) > MAX_RESPONSE:
        detail = f"the answer would have {len(body):,} bytes, more than {MAX_RESPONSE:,}"
        return problem_response(BadParameter(f"{detail}; ask for a smaller top_k, or send fewer pictures"))
    return Response(status=200, content_type=JSON, body=body)


# ---- several pictures, in JSON


def _parse_json(body: object, top_k: int, classifier: Classifier) -> _Asked:
    """Read the pictures of a JSON body. The answer follows the protocol of the body: `instances` or KServe's.

    Raises:
        Problem: the body as a whole cannot be used.
    """
    limit = classifier.recipe.serving.max_instances
    asked = read_json(body)
    if isinstance(asked, Instances):
        return _Asked(_pictures([instance.b64 for instance in asked.instances], limit), top_k, _several)
    v2.check(asked)
    if "top_k" in asked.parameters:
        top_k = parse_top_k({"top_k": str(asked.parameters["top_k"])}, len(classifier.labels))
    return _Asked(
        _pictures(asked.pictures, limit),
        top_k,
        lambda results, model: _json_response(v2.response_to(asked, top_k, results, model)),
    )


def _several(results: _Results, model: Model) -> Response:
    return _json_response(instances_answer_of(results, model))


def _pictures(texts: list[str], limit: int) -> list[bytes | Problem]:
    """Decode pictures from base64. A problem stands in place of a picture that cannot be decoded."""
    if not texts:
        raise EmptyBody("the list of pictures is empty; send at least one")
    if len(texts) > limit:
        raise TooManyInstances(f"{len(texts)} pictures are more than the limit of {limit}")
    return [_decode_base64(text) for text in texts]


def _decode_base64(text: str) -> bytes | Problem:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        return BadBase64(f"the picture is not base64: {error}")


# ---- explanations and descriptions


def answer_explanation(classifier: Classifier, request: Request) -> Response:
    """Explain one class of one picture; `target` and `method` are parameters, `Accept: image/png` asks for a PNG."""
    from classifier.explain import explain, overlay  # here, because few servers are asked for explanations

    try:
        explanation = explain(
            classifier,
            _single_picture(_parse(request, classifier)),
            request.parameters.get("target"),
            request.parameters.get("method"),
        )
        if _PNG in request.accept.lower():
            stream = io.BytesIO()
            overlay(explanation).save(stream, "PNG")
            return Response(status=200, content_type=_PNG, body=stream.getvalue())
    except Problem as problem:
        return problem_response(problem.forget_origin())
    except Exception:  # any other error must fail this request alone
        logger.exception("request %s: the explanation failed", request.request_id)
        return problem_response(
            Internal("the explanation failed; the server's log has the reason, under the id of this request")
        )
    return _json_response(
        ExplanationAnswer(
            class_=explanation.prediction.full_name,
            probability=explanation.prediction.probability,
            method=explanation.method,
            region=Region(*explanation.region),
            heatmap=explanation.heatmap.astype(float).round(3).tolist(),
            model=classifier.identity.model,
        )
    )


def _single_picture(asked: _Asked) -> bytes:
    if len(asked.pictures) > 1:
        raise TooManyInstances("ask for the explanation of one picture at a time")
    (picture,) = asked.pictures
    if isinstance(picture, Problem):
        raise picture
    return picture


def describe(classifier: Classifier) -> Response:
    """What a client may want to know about the model before it sends pictures."""
    identity, recipe = classifier.identity, classifier.recipe
    return _json_response(
        DescriptionAnswer(
            model=identity.model,
            weights_sha256=identity.weights_sha256,
            classes=len(classifier.labels),
            input=recipe.input,
            max_instances=recipe.serving.max_instances,
            formats=FORMATS,
        )
    )
