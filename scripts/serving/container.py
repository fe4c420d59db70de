"""The program of a container: TorchServe with the archives of a folder, in the foreground, until it is told to stop.

Settings come from environment variables, as is usual for containers; docker/README.md explains each of them.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar, get_args

from scripts.admission.signing import public_key
from scripts.archives.store import newest_in
from scripts.console import UserError, run
from scripts.serving.serve import Form, Log, serve
from scripts.torchserve.config import read_config

CONFIG: Final = Path("/etc/classifier/config.properties")
STATE: Final = Path("/var/lib/classifier")  # the only folder that it writes to, besides the temp folder

_TOKENS: Final = {"on": "false", "off": "true"}
_MANAGEMENT: Final = ("loopback", "open")
_Choice = TypeVar("_Choice", bound=str)
_FORMS: Final[tuple[Form, ...]] = get_args(Form)
_LOGS: Final[tuple[Log, ...]] = get_args(Log)


def settings(config: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The configuration with the changes that the environment asks for.

    Raises:
        UserError: a variable has an unknown value, or management would be open without tokens.
    """
    tokens = _chosen(environment, "TOKENS", tuple(_TOKENS), "on")
    management = _chosen(environment, "MANAGEMENT", _MANAGEMENT, "loopback")
    changed = dict(config) | {"disable_token_authorization": _TOKENS[tokens]}
    if management == "open":
        if tokens == "off":
            raise UserError("MANAGEMENT=open needs TOKENS=on: anybody who reaches that API can run code here")
        changed |= {
            "management_address": changed["management_address"].replace("127.0.0.1", "0.0.0.0"),  # noqa: S104
            "grpc_management_address": "0.0.0.0",  # noqa: S104
            "enable_model_api": "true",
        }
    return changed


def form(environment: Mapping[str, str]) -> Form:
    """The form of the answers, by `ANSWERS`. Nothing is remembered: a container's environment says all.

    Raises:
        UserError: there is no such form.
    """
    return _chosen(environment, "ANSWERS", _FORMS, "recipe")


def log(environment: Mapping[str, str]) -> Log:
    """The form of the request log, by `LOG`. Off without it: the folder of the logs is often memory.

    Raises:
        UserError: there is no such form.
    """
    return _chosen(environment, "LOG", _LOGS, "off")


def _chosen(environment: Mapping[str, str], name: str, choices: Sequence[_Choice], default: str) -> _Choice:
    """What a variable chooses.

    Raises:
        UserError: it is none of the choices.
    """
    said = environment.get(name, default)
    for choice in choices:
        if choice == said:
            return choice
    *others, last = choices
    raise UserError(f"{name}={said}: expected {', '.join(others)} or {last}")


def models(store: Path, environment: Mapping[str, str]) -> str:
    """The archives to serve: those that `MODELS` names, or of each archive of the store the newest version.

    Raises:
        UserError: there are none.
    """
    names = environment.get("MODELS", "") or " ".join(path.name for path in newest_in(store))
    if not names.split():
        raise UserError(f"there is no archive in {store}; mount a folder of archives there, or build it into the image")
    return names


def main() -> None:
    """Serve the models that the environment names."""
    if not os.access(STATE, os.W_OK):
        raise UserError(f"user {os.getuid()} cannot write to {STATE}; mount a tmpfs or an emptyDir there")
    config = settings(read_config(CONFIG), os.environ)
    chosen, answers = models(Path(config["model_store"]), os.environ), form(os.environ)
    serve(
        config,
        STATE,
        chosen,
        foreground=True,
        public_key=public_key(os.environ),
        answers=answers,
        log=log(os.environ),
        traces=os.environ.get("TRACES"),
    )


if __name__ == "__main__":
    run(main)
