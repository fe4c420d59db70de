"""Reads bodies that are not the bytes of a picture: JSON, as bytes or as decoded by a server, and base64 as text."""

import base64
import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from classifier import v2
from classifier.errors import DECODE_ERRORS
from classifier.problems import BadBase64, BadJson, EmptyBody, Problem, TooManyInstances
from classifier.responses import JSON

EXPECTED: Final = (
    'expected {"instances": [{"b64": "<base64 of a picture>"}, …]}, with `data` in place of `b64` for answers in '
    'KServe\'s protocol v1, or {"data": "<base64 of a picture>"}; a tensor of numbers is not taken, because the server '
    "prepares the picture itself"
)
# What is raised for JSON that does not have the type that was expected, or is nested too deep
JSON_ERRORS: Final = (*DECODE_ERRORS, RecursionError)

_OBJECT: Final = re.compile(rb"\s*\{")  # no picture format begins like a JSON object, so clients need not name the type
# Base64 and nothing else. No picture that the decoder knows is such a text: each has bytes beyond ASCII or zeros. The
# possessive quantifiers keep the match linear in the length of the body.
_BASE64_TEXT: Final = re.compile(
    rb"\s*+(?:data:[^,\s]{0,200};base64,\s*+)?+(?:[A-Za-z0-9+/_-]++(?:[ \t]*+[\r\n]\s*+)?+)++={0,2}+\s*+", re.IGNORECASE
)
_DATA_URL: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_URL_SAFE: Final = str.maketrans("-_", "+/")  # RFC 4648, section 5

_URL_ENCODED: Final = "application/x-www-form-urlencoded"


class Encoded(msgspec.Struct, frozen=True):
    """Bytes in JSON, as TensorFlow Serving and TorchServe's JSON envelope write them."""

    b64: str


Data = str | Encoded


class Instance(msgspec.Struct, frozen=True):
    """One picture of a JSON body, in `b64`, or in `data` as in KServe's protocol v1."""

    b64: str | UnsetType = UNSET
    data: Data | UnsetType = UNSET
    target: int | str | UnsetType = UNSET  # the class to explain


class Instances(msgspec.Struct, frozen=True):
    """A JSON body: several pictures."""

    instances: list[Instance]


class Pictures(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures of a body, and how it wrote them: the answer follows it."""

    pictures: list[bytes | Problem]
    # How they were listed: each as `b64` in this project's own form, or as `data` in KServe's protocol v1; None for a
    # body that is one picture.
    listed: Literal["b64", "data"] | None = None
    target: str | None = None  # of an explanation
    infer: v2.InferRequest | None = None  # the request, if the body follows KServe's protocol v2


class _Body(Instance, frozen=True, kw_only=True):
    """A JSON object of any of the shapes. Only its fields tell which: TorchServe does not tell its workers the path.

    A body is decoded once, because its pictures may be megabytes. The small fields of KServe's protocol v2 mean nothing
    in other protocols, so they are decoded only after the body is known to follow this one.
    """

    instances: list[Instance] | UnsetType = UNSET
    inputs: list[v2.InferInput] | UnsetType = UNSET
    id: Raw = Raw(b'""')
    parameters: Raw = Raw(b"{}")
    outputs: Raw = Raw(b"[]")

    def request(self) -> v2.InferRequest | None:
        """The request in KServe's protocol v2; None if the body follows another protocol.

        Raises:
            BadJson: one of the small fields has another type.
        """
        if self.inputs is UNSET:
            return None
        try:
            return v2.InferRequest(
                self.inputs,
                msgspec.json.decode(self.id, type=v2.RequestId),
                msgspec.json.decode(self.parameters, type=v2.Parameters),
                msgspec.json.decode(self.outputs, type=list[v2.RequestedOutput]),
            )
        except JSON_ERRORS as error:
            raise _bad_json(error, v2.EXPECTED) from error


def empty_body(content_type: str) -> EmptyBody:
    """The problem of a request in which no picture was found.

    Tools call a body a form unless they are told another type, and TorchServe's front end takes forms apart: of a
    picture or of JSON nothing is left.
    """
    if content_type.lower().startswith(_URL_ENCODED):
        return EmptyBody(
            f"the body was taken apart as a form, because the request calls it one ({_URL_ENCODED}, as `curl -d` and "
            "`--data-binary` do unless they are told another type): use `curl -T <file>`, or add "
            "-H 'Content-Type: application/octet-stream' for a picture, -H 'Content-Type: application/json' for JSON"
        )
    return EmptyBody("send the bytes of a picture as the body, or as the form field `data` or `file`")


def is_json(body: bytes | bytearray, content_type: str) -> bool:
    """Whether a body is JSON, by its type or by how it begins."""
    return content_type.lower().startswith(JSON) or _OBJECT.match(body) is not None


def read_body(body: object, content_type: str, limit: int, *, strings: bool = False) -> Pictures:
    """Read a body of any shape. Fields of no shape are skipped, not decoded: they may be megabytes.

    Args:
        body: bytes, or JSON that a server has already decoded.
        content_type: of the request.
        limit: the most pictures that one request may have.
        strings: whether JSON may be a string, the base64 of one picture.

    Raises:
        BadJson: JSON is expected, but the body is none, is nested too deep, or has none of the shapes; the detail says
            what was expected.
        EmptyBody, TooManyInstances: there is no picture, or there are more than the limit.
        BadParameter: an output is asked for that does not exist.
    """
    if isinstance(body, bytes | bytearray) and not is_json(body, content_type):
        is_text = _BASE64_TEXT.fullmatch(body) is not None
        return Pictures(pictures=[_decode_base64(body.decode("ascii")) if is_text else bytes(body)])
    found = _decode(body, strings=strings)
    if isinstance(found, str):
        return Pictures(pictures=[_decode_base64(found)])
    if isinstance(found, _Body) and found.instances is not UNSET and (found.data, found.b64) != (UNSET, UNSET):
        raise BadJson("one object has both `instances` and a picture of its own; send all pictures in `instances`")
    if isinstance(found, v2.InferRequest):
        v2.check(found)
        return Pictures(pictures=_pictures_of(found.pictures, limit), infer=found)
    if found.instances is UNSET:
        return Pictures(pictures=[_decode_base64(_text(found))], target=_target(found))
    texts = [_text(instance) for instance in found.instances]
    return Pictures(
        pictures=_pictures_of(texts, limit),
        listed="b64" if all(instance.data is UNSET for instance in found.instances) else "data",
        target=_target(found.instances[0]),
    )


def _decode(body: object, *, strings: bool) -> str | _Body | v2.InferRequest:
    shapes: type[object] = str | _Body if strings else _Body  # type: ignore[assignment] # a union is no type to mypy
    try:
        if isinstance(body, bytes | bytearray):
            found: str | _Body = msgspec.json.decode(body, type=shapes)  # type: ignore[assignment] # as above
            return found if isinstance(found, str) else found.request() or found
        if isinstance(body, dict) and "inputs" in body:
            return msgspec.convert(body, v2.InferRequest)
        converted: str | _Body = msgspec.convert(body, shapes)  # type: ignore[assignment] # as above
        return converted
    except JSON_ERRORS as error:
        raise _bad_json(error, EXPECTED) from error


def _bad_json(error: Exception, expected: str) -> BadJson:
    """The problem of a body that could not be decoded; `expected` says what would do, in the body's own protocol."""
    return BadJson(f"{error}; {v2.EXPECTED if '$.inputs' in str(error) else expected}")


def _text(instance: Instance) -> str:
    """The base64 of a picture."""
    if instance.data is UNSET and instance.b64 is UNSET:
        raise BadJson(f"Object missing required field `b64` or `data`; {EXPECTED}")
    if instance.data is not UNSET and instance.b64 is not UNSET:
        raise BadJson("one object has both `b64` and `data`; send one picture in each")
    found = instance.b64 if instance.data is UNSET else instance.data
    return found.b64 if isinstance(found, Encoded) else str(found)


def _target(instance: Instance) -> str | None:
    return None if instance.target is UNSET else str(instance.target)


def _pictures_of(texts: Sequence[str], limit: int) -> list[bytes | Problem]:
    """Decode pictures from base64. A problem stands in place of a picture that cannot be decoded."""
    if not texts:
        raise EmptyBody("the list of pictures is empty; send at least one")
    if len(texts) > limit:
        raise TooManyInstances(f"{len(texts)} pictures are more than the limit of {limit}")
    return [_decode_base64(text) for text in texts]


def _decode_base64(text: str) -> bytes | Problem:
    """Decode base64 in any usual dress: in lines, after `data:…;base64,`, in the alphabet for URLs, without padding.

    A blank within a line is refused: it may be a `+` that a form has changed.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        pass  # it has another dress, or none
    plain = "".join(line.strip(" \t") for line in text.replace("\r", "\n").split("\n"))
    if prefix := _DATA_URL.match(plain):
        plain = plain[prefix.end() :]
    if not ("+" in plain or "/" in plain):
        plain = plain.translate(_URL_SAFE)
    if "=" not in plain:
        plain += "=" * (-len(plain) % 4)
    try:
        return base64.b64decode(plain, validate=True)
    except ValueError as error:
        return BadBase64(f"the picture is not base64: {error}")
