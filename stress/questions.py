"""The requests of clients: bodies, each with the answer that it must get."""

import io
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace
from PIL import Image

from scripts.building.golden import labelled
from scripts.torchserve.client import Client

CAT: Final = "n02124075 Egyptian cat"
ESPRESSO: Final = "n07920052 espresso"
_CLASSES: Final = {
    "chelsea.png": CAT,
    "coffee.png": ESPRESSO,
    "rocket.jpg": "n03773504 missile",
    "motorcycle_left.png": "n03785016 moped",
    "motorcycle_right.png": "n03785016 moped",
}


class Body(msgspec.Struct, frozen=True):
    """One request and the answer that it must get."""

    name: str
    content: bytes
    status: int
    code: str = ""  # of the problem; empty if the status is 200
    content_type: str = ""  # header to send; none when empty
    label: str = ""  # the `class` of the answer, where it is known

    def deserves(self, status: int, code: str, label: str) -> bool:
        """Whether this is the answer that the request must get."""
        return (status, code) == (self.status, self.code) and self.label in ("", label)


def good() -> list[Body]:
    """Photographs that every server should recognise, as they are and as JPEGs of several sizes."""
    found = []
    for path in labelled():
        label = _CLASSES[path.name]
        found.append(Body(f"good/{path.stem}", path.read_bytes(), 200, label=label))
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        for short_side in (400, 1100):
            share = short_side / min(picture.size)
            resized = picture.resize((round(picture.width * share), round(picture.height * share)))
            stream = io.BytesIO()
            resized.save(stream, "JPEG", quality=90)
            found.append(Body(f"good/{path.stem}-{short_side}", stream.getvalue(), 200, label=label))
    return found


def alone(client: Client, model: str, pictures: Sequence[Body]) -> list[Body]:
    """The same pictures, each with the class that a model gives it while there are no other requests.

    The cat is a near tie: in int8 it gets another class than in float32, and on another processor a third one.
    """
    return [replace(picture, label=client.predict(picture.content, model)["class"]) for picture in pictures]
