"""The parameters of a request: how they may be sent, and how many classes the one named `top_k` asks for."""

from collections.abc import Mapping

from classifier.problems import BadParameter

DEFAULT_TOP_K = 5
# Parameters that may come as headers: TorchServe's front end drops the query of /predictions and /explanations.
PARAMETER_HEADERS = {"x-top-k": "top_k", "x-target": "target", "x-method": "method", "x-answers": "answers"}
SEVERAL_VALUES = "several values"  # of a parameter that came more than once; none of them means it, so it is refused


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
