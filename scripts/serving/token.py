"""Print the token that an API of the running server asks for: `make token`."""

from pathlib import Path

from scripts.console import UserError, out
from scripts.torchserve.server import STATE_FOLDER, running
from scripts.torchserve.tokens import Api


def main(*, api: Api = "inference", renew: bool = False, state: Path = STATE_FOLDER) -> None:
    """Print the token of an API, for a server that asks for tokens.

    Args:
        api: the API that the token is for.
        renew: have the server make a new token; it refuses the old one from then on.
        state: state folder of the server.
    """
    client = running(state).client()
    if renew:
        client.renew_token(api)
    header = client.tokens.headers(api).get("Authorization")
    if header is None:
        raise UserError("this server asks for no tokens; `make stop`, then `make serve SECURE=1`")
    out.out(header.removeprefix("Bearer "))
