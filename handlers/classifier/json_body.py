"""Reads JSON bodies, as bytes or as decoded by a server, into typed requests."""

import base64
import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from classifier import v2
from classifier.errors import DECODE_ERRORS
from classifier.problems import BadBase64, BadJson, EmptyBody, Problem, TooManyInstances
from classifier.responses import JSON

_EXPECTED: Final = 'expected {"instances": [{"b64": "<base64 of a picture>"}, …]}'
# What is raised for JSON that does not have the type that was expected, or is nested too deep
JSON_ERRORS: Final = (*DECODE_ERRORS, RecursionError)

_OBJECT: Final = re.compile(rb"\s*\{")  # no picture format begins like a JSON object, so clients need not name the type


class Instance(msgspec.Struct, frozen=True):
    """One picture of a JSON body."""

    b64: str


class Instances(msgspec.Struct, frozen=True):
    """A JSON body: several pictures."""

    instances: list[Instance]


class InferFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a body in KServe's protocol v2.

    A body is decoded once, because its pictures may be megabytes. The small fields mean nothing in other protocols, so
    they are decoded only after the body is known to follow this one.
    """

    inputs: list[v2.InferInput] | UnsetType = UNSET
    id: Raw = Raw(b'""')
    parameters: Raw = Raw(b"{}")
    outputs: Raw = Raw(b"[]")

    def request(self) -> v2.InferRequest | None:
        """The request, with its small fields decoded; None if the body follows another protocol."""
        if self.inputs is UNSET:
            return None
        return v2.InferRequest(
            self.inputs,
            msgspec.json.decode(self.id, type=v2.RequestId),
            msgspec.json.decode(self.parameters, type=v2.Parameters),
            msgspec.json.decode(self.outputs, type=list[v2.RequestedOutput]),
        )


class _Either(InferFields, frozen=True, kw_only=True):
    """A body of either shape. Only its fields tell which, because TorchServe does not tell its workers the path."""

    instances: list[Instance] | UnsetType = UNSET


def is_json(body: bytes | bytearray, content_type: str) -> bool:
    """Whether a body is JSON, by its type or by how it begins."""
    return content_type.lower().startswith(JSON) or _OBJECT.match(body) is not None


def read_json(body: object) -> Instances | v2.InferRequest:
    """Read a JSON body of either shape. Fields of neither shape are skipped, not decoded: they may be megabytes.

    Args:
        body: bytes, or JSON that a server has already decoded.

    Raises:
        BadJson: the body is not JSON, is nested too deep, or has neither shape; the detail says what was expected.
    """
    try:
        if isinstance(body, bytes | bytearray):
            either = msgspec.json.decode(body, type=_Either)
            if request := infer_request(either):
                return request
            if either.instances is UNSET:
                raise BadJson(f"Object missing required field `instances`; {_EXPECTED}")
            return Instances(either.instances)
        if isinstance(body, dict) and "inputs" in body:
            return convert_infer_request(body)
        return msgspec.convert(body, Instances)
    except JSON_ERRORS as error:
        raise bad_json(error, _EXPECTED) from error


def infer_request(fields: InferFields) -> v2.InferRequest | None:
    """The request of KServe's protocol v2 that a body is; None if it follows another protocol.

    Raises:
        BadJson: one of the small fields has another type.
    """
    try:
        return fields.request()
    except JSON_ERRORS as error:
        raise bad_json(error, v2.EXPECTED) from error


def convert_infer_request(body: dict[object, object]) -> v2.InferRequest:
    """The request of KServe's protocol v2 in a body that a server has already decoded.

    Raises:
        BadJson: the body is no such request.
    """
    try:
        return msgspec.convert(body, v2.InferRequest)
    except JSON_ERRORS as error:
        raise bad_json(error, v2.EXPECTED) from error


def bad_json(error: Exception, expected: str) -> BadJson:
    """The problem of a body that could not be decoded; `expected` says what would do, in the body's own protocol."""
    return BadJson(f"{error}; {v2.EXPECTED if '$.inputs' in str(error) else expected}")


def pictures_of(texts: Sequence[str], limit: int) -> list[bytes | Problem]:
    """Decode pictures from base64. A problem stands in place of a picture that cannot be decoded.

    Args:
        texts: the pictures, each in base64.
        limit: the most that one request may have.

    Raises:
        EmptyBody: there is no picture.
        TooManyInstances: there are more than the limit.
    """
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
