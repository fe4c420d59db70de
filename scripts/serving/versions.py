"""The versions of a running server: which one is the default and since when, from which file, with which weights."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from scripts.archives.store import content_of, read_archive_identity
from scripts.console import UserError, out
from scripts.torchserve.command import CONFIG
from scripts.torchserve.config import read_config

if TYPE_CHECKING:
    from scripts.torchserve.client import Client
    from scripts.torchserve.described import ModelVersion

_RECORD: Final = "defaults.json"  # TorchServe does not know since when a version is the default
_DIGITS: Final = 12  # of a digest


class Default(msgspec.Struct, frozen=True):
    """The default version of a model, and when it became that."""

    version: str
    since: str  # UTC


def remember_defaults(client: Client, state: Path) -> None:
    """Record which versions are the defaults now; called by all that may have changed that."""
    before, now = _recorded(state), time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    found = {}
    for model, version in client.defaults().items():
        known = before.get(model)
        found[model] = known if known is not None and known.version == version else Default(version, now)
    part = state / f".{_RECORD}.part"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    part.replace(state / _RECORD)


def _recorded(state: Path) -> dict[str, Default]:
    """The record; nothing if there is none, or none that can be read: it is only for people."""
    try:
        return msgspec.json.decode((state / _RECORD).read_bytes(), type=dict[str, Default])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


def show_versions(client: Client, state: Path, model: str | None = None) -> None:
    """Print two lines for each registered version of one model, or of all.

    Which version is the default is asked now. If it is not the one on record, somebody else has made it that, or
    started the server: then it is not known since when.
    """
    versions, defaults, recorded = client.versions(model), client.defaults(), _recorded(state)
    store = Path(read_config(state / CONFIG)["model_store"])
    for one in versions:
        default, known = "", recorded.get(one.name)
        if defaults.get(one.name) == one.version:
            since = known.since if known is not None and known.version == one.version else "when, is not known"
            default = f"  default since {since}"
        out.print(f"  {one.name} {one.version}{default}  {', '.join(one.workers) or 'no workers'}")
        out.print(f"    {one.archive}  {_content(store, one)}")


def _content(store: Path, version: ModelVersion) -> str:
    """The first digits of the digest of what is in a version's archive, and the name of its weights."""
    path = store / version.archive
    if not path.exists():
        return "the file is gone from the store"
    try:
        return f"content {content_of(path)[:_DIGITS]}  weights {read_archive_identity(path).model.weights}"
    except UserError as error:
        return str(error)
