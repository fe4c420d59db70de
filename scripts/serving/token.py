"""Print the token that an API of the running server asks for: `make token`."""

import argparse
from pathlib import Path
from typing import get_args

from scripts.console import UserError, out, run
from scripts.torchserve.server import STATE_FOLDER, running
from scripts.torchserve.tokens import Api


def main() -> None:
    """Print a token, a new one if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m scripts.serving.token", description=__doc__)
    parser.add_argument("--state", type=Path, default=STATE_FOLDER, help="state folder of the server")
    parser.add_argument("--api", choices=get_args(Api), default="inference")
    parser.add_argument("--renew", action="store_true", help="make a new one; the old one is refused from then on")
    arguments = parser.parse_args()
    client = running(arguments.state).client()
    if arguments.renew:
        client.renew_token(arguments.api)
    header = client.tokens.headers(arguments.api).get("Authorization")
    if header is None:
        raise UserError("this server asks for no tokens; `make stop`, then `make serve SECURE=1`")
    out.out(header.removeprefix("Bearer "))


if __name__ == "__main__":
    run(main)
