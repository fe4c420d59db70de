"""The requests of clients: bodies, each with the answer that it must get."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from classifier.decode import decode
from classifier.input import PILLOW_LIMIT
from classifier.pipeline import Classifier
from classifier.problems import Problem
from msgspec.structs import replace
from PIL import Image

from scripts.console import UserError
from scripts.measuring.labelled import Expected, expected

_SHORT_SIDES: Final = (400, 1100)  # of the JPEGs that are made of a picture


class Body(msgspec.Struct, frozen=True):
    """One request and the answer that it must get."""

    name: str
    content: bytes
    status: int
    code: str = ""  # of the problem; empty if the status is 200
    content_type: str = ""  # header to send; none when empty
    same_as: str = ""  # the name of an earlier body with the same picture, where this one carries it in a form
    answer: Expected | None = None  # where the model's own answer is known

    def deserves(self, status: int, code: str, label: str, probability: float) -> bool:
        """Whether this is the answer that the request must get."""
        if (status, code) != (self.status, self.code):
            return False
        return self.answer is None or self.answer.fits(label, probability)

    @property
    def wanted(self) -> str:
        """The answer in words, where the class is known; otherwise empty."""
        return "" if self.answer is None else str(self.answer)


def good(pictures: Sequence[Path]) -> list[Body]:
    """Pictures as they are, and as JPEGs of several sizes."""
    found = []
    for path in pictures:
        found.append(Body(f"good/{path.name}", path.read_bytes(), 200))
        picture = decode(path.read_bytes(), PILLOW_LIMIT)
        for short_side in _SHORT_SIDES:
            share = short_side / min(picture.size)
            size = (max(1, round(side * share)) for side in picture.size)
            stream = io.BytesIO()
            picture.resize((next(size), next(size)), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
            found.append(Body(f"good/{path.name}-{short_side}", stream.getvalue(), 200))
    return found


def known(classifier: Classifier, bodies: Iterable[Body]) -> list[Body]:
    """The bodies, each picture among them with the answer that the loaded archive gives it, alone, in this process."""
    found: dict[str, Body] = {}
    for body in bodies:
        answer = found[body.same_as].answer if body.same_as else _answer(classifier, body)
        found[body.name] = replace(body, answer=answer)
    return list(found.values())


def _answer(classifier: Classifier, body: Body) -> Expected | None:
    if body.status != 200 or body.content.startswith(b"{"):  # an answer with several instances has no `class`
        return None
    answer = expected(classifier, body.content)
    # what the contract says of a body counts, not what this archive makes of it
    return None if isinstance(answer, Problem) else answer


def answered(bodies: Sequence[Body]) -> list[Body]:
    """The good bodies that the model answers: one with a small limit of pixels refuses large pictures.

    Raises:
        UserError: there are none.
    """
    found = [body for body in bodies if body.answer is not None]
    if not found:
        raise UserError(f"the model answers none of {len(bodies)} pictures; GOLDEN=<folder> names others")
    return found
