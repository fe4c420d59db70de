"""The problems that a request can have, each with its HTTP status and a stable code (RFC 9457)."""

from typing import Annotated, ClassVar, Self

import msgspec
from msgspec import Meta

MEDIA_TYPE = "application/problem+json"
DETAIL_LENGTH = 500  # characters: a detail may quote what a client sent, and that may be megabytes


class ProblemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no answer (RFC 9457). Compare `code`, which is stable; `detail` says what to change."""

    type: Annotated[str, Meta(extra_json_schema={"format": "uri"})]
    title: str
    status: int
    code: str
    detail: Annotated[str, Meta(max_length=DETAIL_LENGTH)]


class Problem(Exception):  # noqa: N818 - the word of RFC 9457, and half of the time it is returned, not raised
    """One picture or request could not be answered.

    `detail` is for the client: it says what to change, and discloses nothing about the server.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        short = detail if len(detail) <= DETAIL_LENGTH else detail[: DETAIL_LENGTH - 1] + "…"
        self.detail = short.encode("utf-8", "replace").decode()  # it may quote a client's unpaired surrogates

    def forget_origin(self) -> Self:
        """Drop the traceback, cause and context; for callers that return the problem instead of raising it.

        The traceback holds the frames that the problem was raised in, with the client's bytes and a half-decoded
        picture, and through their callers the list that the problem is put into. That is a reference cycle, which only
        the garbage collector frees. Beside torch's many objects it runs so rarely that hundreds of megabytes gathered.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)

    def answer(self) -> ProblemAnswer:
        """The problem as a client gets it."""
        return ProblemAnswer(
            type=f"urn:problem-type:image-classifier:{self.code}",
            title=self.title,
            status=self.status,
            code=self.code,
            detail=self.detail,
        )


class EmptyBody(Problem):
    """The request has nothing to decode."""

    status, code, title = 400, "empty_body", "The request carries no picture"


class SeveralPictures(Problem):
    """A form or call carries more than one picture, and only one could be answered."""

    status, code, title = 400, "several_pictures", "The form carries several pictures"


class BadJson(Problem):
    """The JSON body is not JSON, or not of the documented shape."""

    status, code, title = 400, "bad_json", "The JSON body cannot be used"


class BadBase64(Problem):
    """A picture is in base64, but cannot be decoded from it."""

    status, code, title = 400, "bad_base64", "A picture is not valid base64"


class BadParameter(Problem):
    """A query parameter is out of range."""

    status, code, title = 400, "bad_parameter", "A parameter is out of range"


class ImageTooLarge(Problem):
    """The picture has more pixels than the recipe allows, by its header, before anything is decoded."""

    status, code, title = 413, "image_too_large", "The picture has too many pixels"


class TooManyInstances(Problem):
    """One request has more pictures than the recipe allows."""

    status, code, title = 413, "too_many_instances", "The request carries too many pictures"


class NotAnImage(Problem):
    """No decoder knows the bytes."""

    status, code, title = 415, "not_an_image", "The body is not a picture"


class ImageNotSupported(Problem):
    """The file is good, and of an accepted format, but no decoder here reads this kind of it."""

    status, code, title = 415, "image_not_supported", "This kind of picture is not supported"


class ImageBroken(Problem):
    """A decoder knows the bytes but cannot finish: truncated or corrupt."""

    status, code, title = 422, "image_broken", "The picture is broken"


class Internal(Problem):
    """A failure of the server. The cause is in the log under the request's id, never in the answer."""

    status, code, title = 500, "internal", "The classifier failed"


class DeadlineExceeded(Problem):
    """The client's time was over before the request could be computed."""

    status, code, title = 504, "deadline_exceeded", "The time for an answer is over"


class NotSupported(Problem):
    """The request asks for something that this archive cannot do."""

    status, code, title = 501, "not_supported", "This archive cannot do that"
