"""The HTTP contract without HTTP: the requests of a batch in, a response for each out. Servers only translate."""

import base64
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from classifier import v2
from classifier.decode import FORMATS
from classifier.identity import Model
from classifier.json_body import read_json
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
PICTURE_FIELDS = ("data", "file")  # of a form, one of which carries the picture
# Parameters that may come as headers: TorchServe's front end drops the query of /predictions and /explanations.
PARAMETER_HEADERS = {"x-top-k": "top_k", "x-target": "target", "x-method": "method"}
_PNG = "image/png"
# Bytes of one answer. TorchServe's front end drops the worker, and every answer of its batch, over a longer one than
# `max_response_size`; this stays below.
MAX_RESPONSE = 16 * 1024 * 1024

_OBJECT = re.compile(rb"\s*\{")  # no picture format begins like a JSON object, so clients need not name the type
_EXPECTED = 'expected {"instances": [{"b64": "<base64 of a picture>"}, …]}'


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `body` is the bytes that came, or JSON that the server had decoded already."""

    body: Any
    content_type: str = ""
    accept: str = ""  # what the client wants back, as in the header of that name
    parameters: Mapping[str, str] = {}
    request_id: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    status: int
    content_type: str
    body: bytes


class Instance(msgspec.Struct, frozen=True):
    """One picture of a JSON body."""

    b64: str


class Instances(msgspec.Struct, frozen=True):
    """A JSON body: several pictures."""

    instances: list[Instance]


_Results = list[list[Prediction] | Problem]


class _Parsed(msgspec.Struct, frozen=True):
    images: list[bytes | Problem]
    top_k: int
    # Puts the results of its pictures into the shape that they came in. None for a picture that is the body itself:
    # what is wrong with that one is wrong with the request.
    content: Callable[[_Results, Model], dict[str, object]] | None = None


def answer(classifier: Classifier, requests: Sequence[Request]) -> list[Response]:
    """Answer the requests of one batch, all their pictures in one go. What is wrong with one changes no other."""
    parsed = [_parse(request, classifier) for request in requests]
    pictures = [
        (image, item.top_k)
        for item in parsed
        if isinstance(item, _Parsed)
        for image in item.images
        if isinstance(image, bytes)
    ]
    results = iter(classifier.classify([image for image, _ in pictures], [top_k for _, top_k in pictures]))
    return [
        problem_response(item)
        if isinstance(item, Problem)
        else _respond(request, item, results, classifier.identity.model)
        for request, item in zip(requests, parsed, strict=True)
    ]


def problem_response(problem: Problem) -> Response:
    """A problem as an answer."""
    return Response(status=problem.status, content_type=MEDIA_TYPE, body=msgspec.json.encode(problem.as_dict()))


def answer_explanation(classifier: Classifier, request: Request) -> Response:
    """Explain one class of one picture; `target` and `method` are parameters, `Accept: image/png` asks for a PNG."""
    from classifier.explain import explain, overlay  # few servers are ever asked

    try:
        explanation = explain(
            classifier,
            _single_image(_parse(request, classifier)),
            request.parameters.get("target"),
            request.parameters.get("method"),
        )
        if _PNG in request.accept.lower():
            stream = io.BytesIO()
            overlay(explanation).save(stream, "PNG")
            return Response(status=200, content_type=_PNG, body=stream.getvalue())
    except Problem as problem:
        return problem_response(problem.forget_origin())
    except Exception:  # whatever it is, it is the trouble of this request alone
        logger.exception("request %s: the explanation failed", request.request_id)
        return problem_response(
            Internal("the explanation failed; the server's log has the reason, under the id of this request")
        )
    return _json_response(
        {
            "class": f"{explanation.prediction.class_id} {explanation.prediction.class_name}",
            "probability": explanation.prediction.probability,
            "method": explanation.method,
            "region": dict(zip(("left", "top", "right", "bottom"), explanation.region, strict=True)),
            "heatmap": explanation.heatmap.astype(float).round(3).tolist(),
            "model": classifier.identity.model,
        }
    )


def _single_image(parsed: _Parsed | Problem) -> bytes:
    if isinstance(parsed, Problem):
        raise parsed
    if len(parsed.images) > 1:
        raise TooManyInstances("an explanation is of one picture")
    (image,) = parsed.images
    if isinstance(image, Problem):
        raise image
    return image


def describe(classifier: Classifier) -> Response:
    """What a client may want to know about the model before it sends pictures."""
    identity, recipe = classifier.identity, classifier.recipe
    return _json_response(
        {
            "model": identity.model,
            "weights_sha256": identity.weights_sha256,
            "classes": len(classifier.labels),
            "input": recipe.input,
            "max_instances": recipe.serving.max_instances,
            "formats": FORMATS,
        }
    )


def _json_response(content: object) -> Response:
    body = msgspec.json.encode(content)
    if len(body) > MAX_RESPONSE:
        detail = f"the answer would have {len(body):,} bytes, more than {MAX_RESPONSE:,}"
        return problem_response(BadParameter(f"{detail}; ask for a smaller top_k, or send fewer pictures"))
    return Response(status=200, content_type=JSON, body=body)


def _respond(request: Request, item: _Parsed, results: Iterator[list[Prediction] | Problem], model: Model) -> Response:
    """The response to one request; takes the results of its pictures from `results`."""
    own = [image if isinstance(image, Problem) else next(results) for image in item.images]
    for result in own:
        if isinstance(result, Internal) and result.__cause__ is not None:
            logger.error("request %s: the classifier failed", request.request_id, exc_info=result.__cause__)
            result.forget_origin()  # it has been logged
    if item.content is not None:
        return _json_response(item.content(own, model))
    (result,) = own
    return problem_response(result) if isinstance(result, Problem) else prediction_response(result, model)


def prediction_response(predictions: list[Prediction], model: Model) -> Response:
    """The answer to one picture."""
    return _json_response({**_prediction(predictions), "model": model})


def _instances(results: _Results, model: Model) -> dict[str, object]:
    instances = [result.as_dict() if isinstance(result, Problem) else _prediction(result) for result in results]
    return {"instances": instances, "model": model}


def _prediction(predictions: list[Prediction]) -> dict[str, object]:
    best = predictions[0]
    return {
        "class": f"{best.class_id} {best.class_name}",
        "probability": best.probability,
        "predictions": predictions,
    }


def _parse(request: Request, classifier: Classifier) -> _Parsed | Problem:
    try:
        top_k = parse_top_k(request.parameters, len(classifier.labels))
        body = request.body.encode("utf-8", "replace") if isinstance(request.body, str) else request.body
        if body is None or body == b"":
            raise EmptyBody("send the bytes of a picture as the body, or as the form field `data` or `file`")
        if isinstance(body, bytes | bytearray) and not _is_json(body, request.content_type):
            return _Parsed([bytes(body)], top_k)
        limit = classifier.recipe.serving.max_instances
        if not v2.is_v2(body, _EXPECTED):
            texts = [instance.b64 for instance in read_json(body, Instances, _EXPECTED).instances]
            return _Parsed(_pictures(texts, limit), top_k, _instances)
        asked = v2.read(body)
        if "top_k" in asked.parameters:
            top_k = parse_top_k({"top_k": str(asked.parameters["top_k"])}, len(classifier.labels))
        return _Parsed(_pictures(asked.pictures, limit), top_k, partial(v2.content, asked, top_k))
    except Problem as problem:
        return problem.forget_origin()
    except Exception:  # whatever it is, it is the trouble of this request alone
        logger.exception("request %s could not be read", request.request_id)
        return Internal("the request could not be read; the server's log has the reason, under the id of this request")


def _is_json(body: bytes | bytearray, content_type: str) -> bool:
    return content_type.lower().startswith(JSON) or _OBJECT.match(body) is not None


def parse_top_k(parameters: Mapping[str, str], classes: int) -> int:
    """How many classes a request asks for, in its parameter `top_k`.

    Raises:
        BadParameter: out of range, or no whole number.
    """
    text = parameters.get("top_k")
    # more than nine digits are more than any number of classes, and int() of a long string is slow
    whole = text is not None and text.isascii() and text.isdigit() and len(text) <= 9
    return checked_top_k(None if text is None else int(text) if whole else 0, classes)


def checked_top_k(asked: int | None, classes: int) -> int:
    """How many classes to return: five, or as many as there are, unless asked otherwise.

    Raises:
        BadParameter: out of range.
    """
    top_k = min(DEFAULT_TOP_K, classes) if asked is None else asked
    if not 1 <= top_k <= classes:
        raise BadParameter(f"top_k must be a whole number from 1 to {classes}")
    return top_k


def _pictures(texts: list[str], limit: int) -> list[bytes | Problem]:
    """Pictures in base64 to their bytes, or what is wrong with one."""
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
