"""The rules that find what TorchServe 0.12.0 does not understand in a config.properties, or does not start with."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from scripts.torchserve.config import EXPORTER, TLS_FILES, exporter_refusal
from scripts.torchserve.config_settings import APIS, DEFAULTS, KNOWN, NUMBER, Finding, Settings

_ADDRESS: Final = re.compile(r"https?://[^:/^]+(:(?P<port>[0-9]{1,5}))?|unix:/.*", re.IGNORECASE)  # what it starts with
_TOO_HIGH: Final = 65535  # a port, for TorchServe


def numbers(settings: Settings) -> Iterator[Finding]:
    """Numbers that are none, or that make no sense."""
    for name, default in DEFAULTS.items():
        if not NUMBER.fullmatch(default):
            continue
        least = min(int(default), 1)
        if not NUMBER.fullmatch(settings.text(name)):
            yield Finding("trouble", name, f"{settings.text(name)!r} is not a number, so TorchServe does not start")
        elif settings.number(name) < least:
            yield Finding("trouble", name, f"{settings.number(name)} makes no sense; expected a number from {least}")


def addresses(settings: Settings) -> Iterator[Finding]:
    """Addresses that TorchServe does not start with."""
    for api in APIS:
        name = f"{api}_address"
        address = settings.text(name)
        understood = _ADDRESS.fullmatch(address)
        if understood is None or int(understood["port"] or 0) >= _TOO_HIGH:
            hint = "; it knows no IPv6 addresses, but a name that stands for one" if "[" in address else ""
            text = f"TorchServe does not start with {address}; write http://<host>:<port>{hint}"
            yield Finding("trouble", name, text)
    exporter = settings.text(EXPORTER)
    if exporter and (refusal := exporter_refusal(exporter)):
        yield Finding("trouble", EXPORTER, refusal)


def tls(settings: Settings) -> Iterator[Finding]:
    """Encryption without a certificate that clients can check, or with files that are not there."""
    encrypted = [f"{api}_address" for api in APIS if settings.text(f"{api}_address").lower().startswith("https:")]
    encrypted += ["enable_grpc_ssl"] if settings.on("enable_grpc_ssl") else []
    if not encrypted:
        return
    own = [name for name in ("certificate_file", "private_key_file") if not settings.text(name)]
    if own and not settings.text("keystore"):
        text = "TorchServe makes a certificate that no client can check; set certificate_file and private_key_file"
        yield Finding("trouble", encrypted[0], text)
    for name in TLS_FILES:
        if settings.text(name) and not Path(settings.text(name)).is_file():
            yield Finding("trouble", name, f"there is no file {settings.text(name)}, so TorchServe does not start")


def unknown(settings: Settings) -> Iterator[Finding]:
    """Settings that TorchServe does not know."""
    for name in settings.said:
        if name not in KNOWN and name != EXPORTER:
            close = get_close_matches(name, KNOWN, 1)
            text = "TorchServe does not know it and ignores it" + (f"; did you mean {close[0]}?" if close else "")
            yield Finding("trouble", name, text)
