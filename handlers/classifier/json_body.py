"""JSON bodies, as far as they are asked for: bytes, or what a server had decoded already, to a typed request."""

from typing import TypeVar

import msgspec

from classifier.errors import DECODE_ERRORS
from classifier.problems import BadJson

Shape = TypeVar("Shape")


def read_json(body: object, shape: type[Shape], expected: str) -> Shape:
    """A JSON body as a value of that type. What the type does not name is skipped, not built: it may be megabytes.

    Args:
        body: bytes, or JSON that a server had decoded.
        shape: what msgspec is to make of it.
        expected: the documented shape, for the client.

    Raises:
        BadJson: it is no JSON, is nested too deep, or has not that shape.
    """
    try:
        if isinstance(body, bytes | bytearray):
            return msgspec.json.decode(body, type=shape)
        return msgspec.convert(body, shape)
    except (*DECODE_ERRORS, RecursionError) as error:
        raise BadJson(f"{error}; {expected}") from error
