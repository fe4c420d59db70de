"""TorchServe's config.properties: reads it, and makes the configuration that one server is started with."""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import javaproperties
import msgspec

from scripts.console import UserError
from scripts.ports import free_port

CONFIG_FILE: Final = Path("config.properties")
SECURE: Final = {"disable_token_authorization": "false"}  # makes a server ask for tokens

TLS_FILES: Final = ("certificate_file", "private_key_file", "keystore")
_URLS: Final = ("inference_address", "management_address", "metrics_address")
_GRPC: Final = ("grpc_inference", "grpc_management")
EXPORTER: Final = "exporter_address"  # this project's own setting, which TorchServe ignores
_EXPORTER_ADDRESS: Final = re.compile(r"http://[^:/]+:[0-9]{1,5}")


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens: URLs, and two `host:port` for gRPC."""

    inference: str
    management: str
    metrics: str
    grpc_inference: str
    grpc_management: str
    exporter: str | None = None  # of the program beside the server that shows metrics and health; None: there is none

    def ports(self) -> dict[str, int]:
        """The port of each address."""
        return {
            name: int(address.rpartition(":")[2])
            for name, address in msgspec.structs.asdict(self).items()
            if address is not None
        }


def read_config(path: Path = CONFIG_FILE) -> dict[str, str]:
    """Read a config.properties.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return javaproperties.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text in UTF-8: {error.reason}") from error


def write_config(config: dict[str, str], path: Path) -> None:
    """Write a config.properties for both of its readers: TorchServe's Java, and its launcher, which knows no escapes.

    A colon or an equals sign in a value needs no escape.
    """
    text = javaproperties.dumps(config, sort_keys=True, timestamp=False)
    path.write_text(text.replace(r"\:", ":").replace(r"\=", "="))


def addresses(config: dict[str, str]) -> Addresses:
    """The addresses that a configuration names.

    Raises:
        UserError: an address is missing, or has no port, or the exporter's cannot be its. TorchServe's five must be
            set, so that readers need not know its defaults.
    """
    try:
        urls = {key.removesuffix("_address"): config[key] for key in _URLS}
        grpc = {key: f"{config[f'{key}_address']}:{config[f'{key}_port']}" for key in _GRPC}
    except KeyError as error:
        raise UserError(f"the configuration has no {error.args[0]}") from error
    for key, address in (*config.items(), *grpc.items()):
        if key in (*_URLS, *_GRPC) and not address.rpartition(":")[2].isdecimal():
            raise UserError(f"{key}={address}: every address of the configuration must end in its port")
    found = Addresses(**urls, **grpc, exporter=config.get(EXPORTER) or None)
    if found.exporter is not None:
        _check_exporter(found.exporter, found)
    return found


def _check_exporter(address: str, among: Addresses) -> None:
    if refusal := exporter_refusal(address):
        raise UserError(f"{EXPORTER}={address}: {refusal}")
    ports = among.ports()
    own = ports.pop("exporter")
    for name, port in ports.items():
        if port == own:
            raise UserError(f"{EXPORTER}={address}: {name} has that port; give the exporter one of its own")


def exporter_refusal(address: str) -> str | None:
    """Why the exporter cannot listen at an address, and what to write instead; None if it can."""
    return (
        None if _EXPORTER_ADDRESS.fullmatch(address) else "the exporter cannot listen there; write http://<host>:<port>"
    )


def with_absolute_files(config: dict[str, str], folder: Path) -> dict[str, str]:
    """The configuration with the files of TLS as they are found from `folder`: a server runs in one of its own."""
    return config | {key: str(folder.resolve() / config[key]) for key in TLS_FILES if config.get(key)}


def certificate(config: Mapping[str, str]) -> str | None:
    """The file of the certificate to check a server's with, if an address is encrypted and a file is named."""
    used = config.get("enable_grpc_ssl") == "true" or any(config[key].lower().startswith("https:") for key in _URLS)
    return config.get("certificate_file") if used else None


def asks_for_tokens(config: Mapping[str, str]) -> bool:
    """Whether a server with this configuration asks for tokens, which is TorchServe's default."""
    return config.get("disable_token_authorization") != "true"


def with_free_ports(config: dict[str, str]) -> dict[str, str]:
    """The configuration with every port replaced by one that is free now."""
    urls = [*_URLS, *([EXPORTER] if config.get(EXPORTER) else [])]
    with ExitStack() as stack:  # all held at once, so that no two are the same
        ports = [str(free_port(stack)) for _ in (*urls, *_GRPC)]
    changed = {key: f"{config[key].rpartition(':')[0]}:{port}" for key, port in zip(urls, ports, strict=False)}
    changed |= {f"{key}_port": port for key, port in zip(_GRPC, ports[len(urls) :], strict=True)}
    return config | changed


def saved_models(snapshots: Iterable[Path]) -> str | None:
    """The models of the last server: the `model_snapshot` of the newest snapshot, if it names any model.

    TorchServe writes a snapshot at every change, named by its time. If it were started with a snapshot, it would take
    all other settings from it too, and ignore a changed config.properties; so only this one value is taken over.
    """
    for path in sorted(snapshots, reverse=True):
        models = read_config(path).get("model_snapshot", "{}")
        try:
            return models if json.loads(models).get("models") else None
        except ValueError:
            continue  # incomplete: the server was killed while it wrote the file
    return None
