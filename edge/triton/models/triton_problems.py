"""The core's problems as Triton's errors, for the Python models beside this file."""

import logging
from typing import Any, Final

import msgspec
import triton_python_backend_utils as pb_utils
from classifier.problems import Internal, NotSupported, Problem

logger = logging.getLogger(__name__)

# Triton has fewer codes than HTTP; the problem in the message keeps the contract's own status. By name, because the
# Python backend completes pb_utils only after it has imported a model.
_CODES: Final = {Internal: "INTERNAL", NotSupported: "UNSUPPORTED"}


def error_response(problem: Problem, request_id: str) -> Any:
    """The response for one request: an error whose message is the problem's JSON (RFC 9457)."""
    if isinstance(problem, Internal):
        logger.error("request %s: the classifier failed", request_id, exc_info=problem.__cause__)
    code = getattr(pb_utils.TritonError, _CODES.get(type(problem), "INVALID_ARG"))
    message = msgspec.json.encode(problem.answer()).decode()
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
