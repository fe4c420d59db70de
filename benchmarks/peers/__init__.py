"""Other servers with the same model, to compare with: each in a module of its own, as its documentation recommends."""

from typing import Final, Literal

PeerName = Literal["litserve", "mosec", "bentoml", "ray", "fastapi"]

SUBJECT: Final = "BENCH_SUBJECT"  # environment variable of such a server: the file that says what to serve
