"""What a container runs: TorchServe with the archives of a folder, in front, until it is told to stop.

Settings come from the environment, because that is what container tools set; each is explained in docker/README.md.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scripts.admission.signing import public_key
from scripts.archives.store import archives_in
from scripts.console import UserError, run
from scripts.serving.serve import serve
from scripts.torchserve.config import read_config

CONFIG: Final = Path("/etc/classifier/config.properties")
STATE: Final = Path("/var/lib/classifier")  # the one place, beside the temp folder, that it writes to

_TOKENS: Final = {"on": "false", "off": "true"}
_MANAGEMENT: Final = ("loopback", "open")


def settings(config: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The configuration with what the environment changes of it.

    Raises:
        UserError: a variable has a value that it does not know, or management would be open to everybody.
    """
    tokens, management = environment.get("TOKENS", "on"), environment.get("MANAGEMENT", "loopback")
    if tokens not in _TOKENS:
        raise UserError(f"TOKENS={tokens}: expected {' or '.join(_TOKENS)}")
    if management not in _MANAGEMENT:
        raise UserError(f"MANAGEMENT={management}: expected {' or '.join(_MANAGEMENT)}")
    changed = dict(config) | {"disable_token_authorization": _TOKENS[tokens]}
    if management == "open":
        if tokens == "off":
            raise UserError("MANAGEMENT=open needs TOKENS=on: whoever reaches it can run code here")
        changed |= {
            "management_address": changed["management_address"].replace("127.0.0.1", "0.0.0.0"),  # noqa: S104
            "grpc_management_address": "0.0.0.0",  # noqa: S104
            "enable_model_api": "true",
        }
    return changed


def models(store: Path, environment: Mapping[str, str]) -> str:
    """The archives to serve: those that `MODELS` names, or all of the store.

    Raises:
        UserError: there is none.
    """
    names = environment.get("MODELS", "") or " ".join(path.name for path in archives_in(store))
    if not names.split():
        raise UserError(f"there is no archive in {store}; mount a folder of archives there, or bake them in")
    return names


def main() -> None:
    """Serve what the environment says."""
    if not os.access(STATE, os.W_OK):
        raise UserError(f"{STATE} cannot be written to by user {os.getuid()}; mount a tmpfs or an emptyDir there")
    config = settings(read_config(CONFIG), os.environ)
    chosen = models(Path(config["model_store"]), os.environ)
    serve(config, STATE, chosen, foreground=True, public_key=public_key(os.environ))


if __name__ == "__main__":
    run(main)
