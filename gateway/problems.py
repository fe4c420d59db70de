"""The problems that the gateway answers by itself, in the form of those of a server (docs/http.md)."""

from typing import Final

from classifier.problems import DeadlineExceeded, ProblemAnswer


def problem(status: int, code: str, title: str, detail: str) -> ProblemAnswer:
    """A problem of the gateway's own."""
    return ProblemAnswer(
        type=f"urn:problem-type:image-classifier:{code}", title=title, status=status, code=code, detail=detail
    )


BUSY: Final = problem(429, "busy", "Too many requests wait", "ask again after the seconds in Retry-After")
NO_REPLICA: Final = problem(
    503,
    "no_replica",
    "No server can answer",
    "try again in a moment; no server with this model and version is healthy, or its connection was lost",
)
LATE: Final = DeadlineExceeded("the time for an answer is over").answer()


def no_such_version(model: str, versions: list[str], header: str) -> ProblemAnswer:
    """A caller wants a version that the gateway has no route to."""
    detail = f"{header} names no version of {model}; there are {', '.join(versions)}"
    return problem(404, "no_such_version", "There is no such version", detail)
