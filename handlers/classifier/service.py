"""The HTTP contract without HTTP: it takes the requests of a batch and returns a response for each.

Servers only translate between their own messages and these requests and responses.
"""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from classifier import stock, v2
from classifier.answer_form import FORMS
from classifier.answers import (
    ExplanationAnswer,
    ExplanationsAnswer,
    Region,
    instances_answer_of,
    predictions_answer_of,
)
from classifier.deadline import require_time
from classifier.description import describe
from classifier.identity import Model
from classifier.json_body import Pictures, empty_body, read_body
from classifier.pipeline import Classifier
from classifier.problems import (
    MEDIA_TYPE,
    BadParameter,
    Internal,
    Problem,
    SeveralPictures,
    TooManyInstances,
)
from classifier.rank import Prediction
from classifier.recipe import Answers
from classifier.record import Record
from classifier.responses import Response, json_response, prediction_response, problem_response

logger = logging.getLogger(__name__)

DEFAULT_TOP_K = 5
PICTURE_FIELDS = ("data", "file")  # the fields of a form that may carry the picture
# Parameters that may come as headers: TorchServe's front end drops the query of /predictions and /explanations. The
# models of edge/triton import this and parse_top_k from the core in the archive that they serve, which may be older.
PARAMETER_HEADERS = {"x-top-k": "top_k", "x-target": "target", "x-method": "method", "x-answers": "answers"}
SEVERAL_VALUES = "several values"  # of a parameter that came more than once; none of them means it, so it is refused
_PNG = "image/png"

Wish = Literal["prediction", "explanation", "description"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `body` is bytes as they were received, or JSON that the server has already decoded."""

    body: Any
    wants: Wish = "prediction"
    content_type: str = ""
    accept: str = ""  # the media types that the client accepts, as in the header `Accept`
    parameters: Mapping[str, str] = {}
    request_id: str = ""
    client_request_id: str = ""  # the client's own, in its header `X-Request-Id`
    traceparent: str = ""  # the client's, as W3C Trace Context says
    tracestate: str = ""
    request_start: str = ""  # when it arrived at a proxy before the server, in the header `X-Request-Start`
    timeout_ms: str = ""  # how long the client waits, in the header `X-Timeout-Ms`
    pictures: int = 1  # how many a form has; only one can be answered
    tensors: bool = False  # whether the server can pass on nothing but a response of KServe's protocol v2


_Results = list[list[Prediction] | Problem]


class _Asked(msgspec.Struct, frozen=True):
    """What a request asks for: the pictures to classify, and a function that makes the response from their results."""

    pictures: Sequence[bytes | Problem]
    top_k: int
    respond: Callable[[_Results, Model], Response]


def answer(
    classifier: Classifier, requests: Sequence[Request], answers: Answers | None = None, record: Record | None = None
) -> list[Response]:
    """Answer the requests of one batch, with all their pictures classified together.

    A problem of one request affects no other.

    Args:
        classifier: the model.
        requests: what the clients asked.
        answers: the form of the answers, the recipe's by default; a request's parameter `answers` wins over it.
        record: takes down what is known of the batch besides.
    """
    form = answers or classifier.recipe.answers
    asked = [_read(request, classifier, form) for request in requests]
    results = iter(
        classifier.classify(
            [picture for item in asked for picture in item.pictures],
            [item.top_k for item in asked for _ in item.pictures],
            record,
        )
    )
    return [
        _respond(request, item, list(islice(results, len(item.pictures))), classifier.identity.model)
        for request, item in zip(requests, asked, strict=True)
    ]


def _read(request: Request, classifier: Classifier, form: Answers) -> _Asked:
    """Read what a request asks for. Explanations take long, so they are computed after all predictions of the batch."""
    if request.wants == "explanation":
        return _Asked([], 0, lambda *_: answer_explanation(classifier, request, form))
    if request.wants == "description":
        return _Asked([], 0, lambda *_: describe(classifier, form))
    return _parse(request, classifier, form)


def _parse(request: Request, classifier: Classifier, form: Answers) -> _Asked:
    """Read the pictures of a request. A problem of the whole request stands in place of a single picture."""
    try:
        require_time(request.timeout_ms, request.request_start)
        top_k = parse_top_k(request.parameters, len(classifier.labels))
        form = _form(request, form)
        asked = _read_body(request, classifier, form)
        if asked.infer:  # one form for all servers
            return _infer(asked.infer, asked.pictures, top_k, len(classifier.labels))
        respond = partial(stock.respond, asked) if form == "stock" else _RESPOND[asked.listed]
        return _Asked(asked.pictures, top_k, respond)
    except Problem as problem:
        return _Asked([problem.forget_origin()], 0, _one)
    except Exception as error:  # any other error must fail this request alone
        _log(request, "could not be read", error)
        said = "the request could not be read; the server's log has the reason, under the id of this request"
        return _Asked([Internal(said)], 0, _one)


def _read_body(request: Request, classifier: Classifier, form: Answers) -> Pictures:
    limit = classifier.recipe.serving.max_instances
    return read_body(_body(request), request.content_type, limit, strings=form == "stock")


def _form(request: Request, default: Answers) -> Answers:
    """The form of the answer to a request. Its parameter `answers` lets clients change over one by one.

    Raises:
        BadParameter: there is no such form.
    """
    asked = request.parameters.get("answers", default)
    for form in FORMS:
        if form == asked:
            return form
    raise BadParameter(f"answers must be {' or '.join(FORMS)}")


def _body(request: Request) -> Any:
    """The body of a request, text as bytes.

    Raises:
        EmptyBody: there is none.
        SeveralPictures: there is more than one.
    """
    if request.pictures > 1:
        raise SeveralPictures(
            f"{request.pictures} pictures in one form; send one, or JSON with `instances` for several"
        )
    body = request.body.encode("utf-8", "replace") if isinstance(request.body, str) else request.body
    if body is None or body == b"":
        raise empty_body(request.content_type)
    return body


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
            _log(request, "the classifier failed", result.__cause__)
            result.forget_origin()  # it has been logged
    response = asked.respond(results, model)
    if not request.tensors or response.content_type != MEDIA_TYPE:
        return response
    return replace(json_response(v2.problem_to(request.body, response.body.decode(), model)), code=response.code)


def _log(request: Request, what: str, cause: BaseException) -> None:
    """Log a failure; `request_log` finds the request's id in the record."""
    logger.error("request %s: %s", request.request_id, what, exc_info=cause, extra={"request_id": request.request_id})


def _one(results: _Results, model: Model) -> Response:
    """The response to a body that is one picture: a problem of the picture is a problem of the request."""
    (result,) = results
    return problem_response(result) if isinstance(result, Problem) else prediction_response(result, model)


# ---- several pictures, in JSON


def _infer(asked: v2.InferRequest, pictures: list[bytes | Problem], top_k: int, classes: int) -> _Asked:
    """What a request in KServe's protocol v2 asks for; its own `top_k` wins."""
    if "top_k" in asked.parameters:
        top_k = parse_top_k({"top_k": str(asked.parameters["top_k"])}, classes)
    return _Asked(pictures, top_k, lambda results, model: json_response(v2.response_to(asked, top_k, results, model)))


# The response to the pictures of a body, by how it listed them
_RESPOND: dict[Literal["b64", "data"] | None, Callable[[_Results, Model], Response]] = {
    None: _one,
    "b64": lambda results, model: json_response(instances_answer_of(results, model)),
    "data": lambda results, model: json_response(predictions_answer_of(results, model)),
}


# ---- explanations


def answer_explanation(classifier: Classifier, request: Request, answers: Answers | None = None) -> Response:
    """Explain one class of one picture; `target` and `method` are parameters, `Accept: image/png` asks for a PNG.

    In the stock form, `target` alone counts, and the answer has a number for each value of the model's input.
    """
    try:
        require_time(request.timeout_ms, request.request_start)
        form = _form(request, answers or classifier.recipe.answers)
        asked = _read_body(request, classifier, form)
        as_stock = form == "stock" and not asked.infer  # KServe's protocol v2 has one form for all servers
        return (_explained_as_stock if as_stock else _explained)(classifier, request, asked)
    except Problem as problem:
        return problem_response(problem.forget_origin())
    except Exception as error:  # any other error must fail this request alone
        _log(request, "the explanation failed", error)
        return problem_response(
            Internal("the explanation failed; the server's log has the reason, under the id of this request")
        )


def _explained(classifier: Classifier, request: Request, asked: Pictures) -> Response:
    from classifier.explain import explain, overlay  # here, because few servers are asked for explanations

    explanation = explain(
        classifier,
        _single_picture(asked.pictures),
        request.parameters.get("target", asked.target),
        request.parameters.get("method"),
    )
    if _PNG in request.accept.lower():
        stream = io.BytesIO()
        overlay(explanation).save(stream, "PNG")
        return Response(status=200, content_type=_PNG, body=stream.getvalue())
    found = ExplanationAnswer(
        class_=explanation.prediction.full_name,
        probability=explanation.prediction.probability,
        method=explanation.method,
        region=Region(*explanation.region),
        heatmap=explanation.heatmap.astype(float).round(3).tolist(),
        model=classifier.identity.model,
    )
    return json_response(ExplanationsAnswer(explanations=[found]) if asked.listed == "data" else found)


def _explained_as_stock(classifier: Classifier, request: Request, asked: Pictures) -> Response:
    from classifier.explain import attributions

    target = request.parameters.get("target", asked.target)
    return stock.explanation_of(asked, attributions(classifier, _single_picture(asked.pictures), target))


def _single_picture(pictures: Sequence[bytes | Problem]) -> bytes:
    if len(pictures) > 1:
        raise TooManyInstances("ask for the explanation of one picture at a time")
    (picture,) = pictures
    if isinstance(picture, Problem):
        raise picture
    return picture
