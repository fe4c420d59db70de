"""What a request to TorchServe's REST APIs can fail with: an answer with an error, or no answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from scripts.console import UserError

if TYPE_CHECKING:
    import requests

UNTRUSTED: Final = "untrusted"  # the code where the server's certificate is not trusted


class RequestFailedError(UserError):
    """The server answered with an error, or not at all. `status` is 0 when there was no answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def no_answer(
    error: requests.RequestException, url: str, connect_timeout_s: float, timeout_s: float
) -> RequestFailedError:
    """Turn what the library raises where no answer came into an exception that says what to do next."""
    import requests  # not before it is needed: a server starts without it

    if isinstance(error, requests.exceptions.SSLError):
        text = (
            f"the certificate of {url} is not trusted ({_reason(error)}); certificate_file in the configuration must "
            "be it, or what signed it, and must name this host"
        )
        return RequestFailedError(0, UNTRUSTED, text)
    if isinstance(error, requests.ConnectTimeout):
        return RequestFailedError(0, "unreachable", f"no connection to {url} in {connect_timeout_s:.0f} s")
    if isinstance(error, requests.Timeout):
        return RequestFailedError(0, "timeout", f"{url} did not answer within {timeout_s:.0f} s")
    if isinstance(error, requests.ConnectionError):
        text = f"nothing answers at {url}; is the server running? (make serve, make status)"
        return RequestFailedError(0, "unreachable", text)
    return RequestFailedError(0, "broken", f"the answer of {url} was cut off: {error}")


def _reason(error: requests.exceptions.SSLError) -> str:
    """What is wrong with a certificate, without the layers of libraries around it."""
    found = re.search(r"certificate verify failed: ([^()]+?) \(", str(error))
    return found[1] if found else str(error)


def failure_in(response: requests.Response) -> RequestFailedError:
    """Turn an error answer, in JSON or not, into an exception."""
    try:
        return failure_of(response.status_code, response.json())
    except ValueError:
        return RequestFailedError(response.status_code, "", f"{response.text or response.reason} (not JSON)")


def failure_of(status: int, content: Any) -> RequestFailedError:
    """Turn an error answer into an exception: the handler's problem, or the front end's own object."""
    fields = content if isinstance(content, dict) else {}
    if "detail" in fields:
        return RequestFailedError(
            status, str(fields.get("code", "")), f"{fields['detail']} ({status} {fields.get('code')})"
        )
    code = str(fields.get("type", ""))
    return RequestFailedError(status, code, f"{fields.get('message', content)} ({status} {code})")
