"""How long a client waits for its answer: nothing is computed for one that has gone away.

A client says in `X-Timeout-Ms` how long it waits. When its request arrived is known where a proxy before the server
tells (`X-Request-Start`), as the gateway does: TorchServe does not say how long a request was in its queue.
"""

import time
from typing import Final

from classifier.problems import BadParameter, DeadlineExceeded

_MICROSECONDS, _MILLISECONDS = 1e14, 1e11  # numbers above these are no seconds since 1970: that were the year 5138
_LONGEST_QUEUE_S: Final = 3600.0  # a clock of another machine, or a header of another meaning
_DIGITS: Final = 9  # of a timeout: twelve days


def require_time(timeout_ms: str, request_start: str) -> None:
    """Refuse a request whose client no longer waits.

    Args:
        timeout_ms: the header `X-Timeout-Ms`, milliseconds; empty if the client did not say.
        request_start: the header `X-Request-Start`.

    Raises:
        DeadlineExceeded: the time is over.
        BadParameter: the header is no whole number of milliseconds.
    """
    if not timeout_ms:
        return
    if not (timeout_ms.isascii() and timeout_ms.isdigit() and len(timeout_ms) <= _DIGITS):
        raise BadParameter("X-Timeout-Ms must be a whole number of milliseconds")
    now = time.time()
    arrived = arrival(request_start, now)
    if arrived is not None and now - arrived > int(timeout_ms) / 1e3:
        raise DeadlineExceeded(f"the request waited longer than its {timeout_ms} ms, and was not computed")


def arrival(header: str, now: float) -> float | None:
    """When a request arrived at the proxy before the server, in seconds since 1970; None if nobody says so credibly.

    Args:
        header: `X-Request-Start`: seconds, milliseconds or microseconds since 1970, with or without `t=` before them.
        now: the time now.
    """
    try:
        said = float(header.removeprefix("t="))
    except ValueError:
        return None
    seconds = said / 1e6 if said > _MICROSECONDS else said / 1e3 if said > _MILLISECONDS else said
    return seconds if now - _LONGEST_QUEUE_S < seconds <= now else None
