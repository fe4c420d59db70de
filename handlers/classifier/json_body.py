"""Reads JSON bodies, as bytes or as decoded by a server, into typed requests."""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from classifier import v2
from classifier.errors import DECODE_ERRORS
from classifier.problems import BadJson

_EXPECTED: Final = 'expected {"instances": [{"b64": "<base64 of a picture>"}, …]}'


class Instance(msgspec.Struct, frozen=True):
    """One picture of a JSON body."""

    b64: str


class Instances(msgspec.Struct, frozen=True):
    """A JSON body: several pictures."""

    instances: list[Instance]


class _Either(msgspec.Struct, frozen=True):
    """A body of either shape. Only its fields tell which, because TorchServe does not tell its workers the path.

    The body is decoded once, because its pictures may be megabytes. The small fields of KServe's protocol mean nothing
    beside `instances`, so they are decoded only after the body is known to follow that protocol.
    """

    instances: list[Instance] | UnsetType = UNSET
    inputs: list[v2.InferInput] | UnsetType = UNSET
    id: Raw = Raw(b'""')
    parameters: Raw = Raw(b"{}")
    outputs: Raw = Raw(b"[]")


def read_json(body: object) -> Instances | v2.InferRequest:
    """Read a JSON body of either shape. Fields of neither shape are skipped, not decoded: they may be megabytes.

    Args:
        body: bytes, or JSON that a server has already decoded.

    Raises:
        BadJson: the body is not JSON, is nested too deep, or has neither shape; the detail says what was expected.
    """
    expected = _EXPECTED
    try:
        if isinstance(body, bytes | bytearray):
            either = msgspec.json.decode(body, type=_Either)
            if either.inputs is not UNSET:
                expected = v2.EXPECTED
                return _infer_request(either.inputs, either)
            if either.instances is UNSET:
                raise BadJson(f"Object missing required field `instances`; {expected}")
            return Instances(either.instances)
        if isinstance(body, dict) and "inputs" in body:
            expected = v2.EXPECTED
            return msgspec.convert(body, v2.InferRequest)
        return msgspec.convert(body, Instances)
    except (*DECODE_ERRORS, RecursionError) as error:
        raise BadJson(f"{error}; {v2.EXPECTED if '$.inputs' in str(error) else expected}") from error


def _infer_request(inputs: list[v2.InferInput], either: _Either) -> v2.InferRequest:
    return v2.InferRequest(
        inputs,
        msgspec.json.decode(either.id, type=v2.RequestId),
        msgspec.json.decode(either.parameters, type=v2.Parameters),
        msgspec.json.decode(either.outputs, type=list[v2.RequestedOutput]),
    )
