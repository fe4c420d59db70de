"""The form of TorchServe's own `image_classifier`, for clients that were written for it: its bodies and its answers.

An answer is one object, `{"<name of a class>": <probability>, …}`, likeliest first. TorchServe builds it as a
dictionary by name: of two classes of one name in an answer it loses the likelier one. Here the likelier one has the
plain name and the other its id behind it, so the answer has every key that TorchServe's has, and no class is lost.

A body is one of these:

* the bytes of a picture, or their base64 as text;
* JSON: `"<base64>"` or `{"data": "<base64>"}`;
* JSON of KServe's protocol v1: `{"instances": [{"data": "<base64>"}, …]}`, answered by `{"predictions": [{…}, …]}`, or
  by `{"explanations": […]}`;
* JSON of KServe's protocol v2, which has one form for all servers (v2.py).
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from classifier.identity import Model
from classifier.json_body import (
    JSON_ERRORS,
    InferFields,
    bad_json,
    convert_infer_request,
    infer_request,
    is_json,
    pictures_of,
)
from classifier.problems import BadJson, Problem
from classifier.rank import Prediction
from classifier.responses import Response, json_response, problem_response
from classifier.v2 import InferRequest

EXPECTED: Final = (
    'expected {"data": "<base64 of a picture>"} or {"instances": [{"data": "<base64 of a picture>"}, …]}; '
    "a tensor of numbers is not taken, because the server prepares the picture itself"
)
# Base64 and nothing else. No picture that the decoder knows is such a text: each has bytes beyond ASCII or zeros. The
# possessive quantifiers keep the match linear in the length of the body.
_BASE64_TEXT: Final = re.compile(rb"[A-Za-z0-9+/\s]++={0,2}+\s*+")


class Encoded(msgspec.Struct, frozen=True):
    """Bytes in JSON, as TensorFlow Serving and TorchServe's JSON envelope write them."""

    b64: str


Data = str | Encoded


class StockInstance(msgspec.Struct, frozen=True):
    """One picture of KServe's protocol v1; `b64` in place of `data` is this project's own form."""

    data: Data | UnsetType = UNSET
    b64: str | UnsetType = UNSET
    target: int | str | UnsetType = UNSET  # the class to explain

    def text(self) -> str:
        """The picture in base64.

        Raises:
            BadJson: there is none.
        """
        return _text(self.data if self.data is not UNSET else self.b64)


class _Body(InferFields, frozen=True, kw_only=True):
    """A JSON object of any of the shapes; only its fields tell which."""

    data: Data | UnsetType = UNSET
    target: int | str | UnsetType = UNSET
    instances: list[StockInstance] | UnsetType = UNSET


class StockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as a stock client sends it."""

    pictures: list[bytes | Problem]
    enveloped: bool = False  # in KServe's protocol v1, so the answer is too
    target: str | None = None  # of an explanation


def read(body: object, content_type: str, limit: int) -> StockRequest | InferRequest:
    """Read a body.

    Args:
        body: bytes, or JSON that a server has already decoded.
        content_type: of the request.
        limit: the most pictures that one request may have.

    Raises:
        Problem: the body as a whole cannot be used.
    """
    if isinstance(body, bytes | bytearray) and not is_json(body, content_type):
        if _BASE64_TEXT.fullmatch(body):
            return StockRequest(pictures=_pictures([body.decode("ascii")], limit))
        return StockRequest(pictures=[bytes(body)])
    if isinstance(body, dict) and "inputs" in body:
        return convert_infer_request(body)
    found = _decode(body)
    if isinstance(found, str):
        return StockRequest(pictures=_pictures([found], limit))
    if request := infer_request(found):
        return request
    if found.instances is UNSET:
        return StockRequest(pictures=_pictures([_text(found.data)], limit), target=_target(found.target))
    texts = [instance.text() for instance in found.instances]
    target = _target(found.instances[0].target) if found.instances else None
    return StockRequest(pictures=_pictures(texts, limit), enveloped=True, target=target)


def _decode(body: object) -> str | _Body:
    try:
        if isinstance(body, bytes | bytearray):
            return msgspec.json.decode(body, type=str | _Body)
        return msgspec.convert(body, str | _Body)
    except JSON_ERRORS as error:
        raise bad_json(error, EXPECTED) from error


def _text(data: Data | UnsetType) -> str:
    if data is UNSET:
        raise BadJson(f"Object missing required field `data`; {EXPECTED}")
    return data.b64 if isinstance(data, Encoded) else data


def _target(given: int | str | UnsetType) -> str | None:
    return None if given is UNSET else str(given)


def _pictures(texts: Sequence[str], limit: int) -> list[bytes | Problem]:
    """Decode pictures from base64 with or without line ends, which `base64` and `openssl` write and stock skips."""
    return pictures_of(["".join(text.split()) for text in texts], limit)


def respond(request: StockRequest, results: Sequence[list[Prediction] | Problem], _: Model) -> Response:
    """The response to a request.

    A picture's problem is the problem of the whole request, as with TorchServe's handler: a client that takes each
    element of `predictions` for probabilities by name would take a problem for them too.

    Args:
        request: the request as it was read.
        results: the result of each picture, in their order.
    """
    for place, result in enumerate(results, 1):
        if isinstance(result, Problem):
            where = f"picture {place} of {len(results)}: " if len(results) > 1 else ""
            return problem_response(type(result)(f"{where}{result.detail}"))
    answers = [by_name(result) for result in results if not isinstance(result, Problem)]
    return json_response({"predictions": answers} if request.enveloped else answers[0])


def explanation_of(request: StockRequest, attributions: NDArray[np.float32]) -> Response:
    """The response to a request for an explanation: a number for each value of the model's input.

    Args:
        request: the request as it was read.
        attributions: how much each value speaks for the class, [channels,rows,columns].
    """
    values = attributions.tolist()
    return json_response({"explanations": [values]} if request.enveloped else values)


def by_name(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Probabilities by the name of the class, likeliest first; see the module's text about names that occur twice."""
    found: dict[str, float] = {}
    for prediction in predictions:
        name = prediction.class_name
        while name in found:
            name = f"{name} ({prediction.class_id})"
        found[name] = prediction.probability
    return found
