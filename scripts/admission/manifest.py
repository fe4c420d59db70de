"""Checks what an archive tells TorchServe: its manifest and settings may have only what `make archive` writes there."""

import json
from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml
from classifier.digests import members, reading
from classifier.identity import IDENTITY_FILE, Identity

from scripts.archives.format import MANIFEST, manifest_text
from scripts.archives.settings import MODEL_CONFIG, FrontEndSettings, settings_text

_READ: Final = (MANIFEST, MODEL_CONFIG, IDENTITY_FILE)
_MAX_BYTES: Final = 1 << 16  # of each of them; those of `make archive` have a few hundred


class _Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The fields that a manifest may have; not `requirementsFile`, which TorchServe would give to pip."""

    model_name: str
    serialized_file: str
    handler: str
    model_version: str
    config_file: str
    model_file: str | None = None


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    created_on: str
    runtime: Literal["python"]
    model: _Model
    archiver_version: str


def check_manifest(archive: Path) -> None:
    """Refuse an archive (`.mar`, `.tar.gz` or directory) that makes TorchServe run, load or install other files.

    Raises:
        BrokenArchiveError: manifest or settings have a field that `make archive` does not write, or are spelt so that
            two readers could understand them differently; or the manifest names a file that is not in the archive, or
            another model than the identity.
    """
    names: set[str] = set()
    found: dict[str, bytes] = {}
    with reading(archive):
        for name, stream in members(archive):
            names.add(name)
            if name in _READ:
                found[name] = stream.read(_MAX_BYTES + 1)
        for name in _READ:
            if len(found.get(name, b"")) not in range(1, _MAX_BYTES + 1):
                raise ValueError(f"{name} is missing, empty, or larger than {_MAX_BYTES} bytes")
        manifest = _read_manifest(found[MANIFEST])
        _check_settings(found[MODEL_CONFIG])
        _check_files(manifest.model, names)
        _check_model(manifest.model, msgspec.json.decode(found[IDENTITY_FILE], type=Identity))


def _read_manifest(content: bytes) -> _Manifest:
    decoded = json.loads(content)
    if manifest_text(decoded).encode() != content:
        raise ValueError(f"{MANIFEST} is not spelt as `make archive` spells it; it may have a key twice")
    try:
        return msgspec.convert(decoded, _Manifest)
    except msgspec.ValidationError as error:
        raise ValueError(f"{MANIFEST}: {error}") from error


def _check_settings(content: bytes) -> None:
    """Check the spelling first: TorchServe reads YAML with another reader, to which tags are classes of Java."""
    decoded = yaml.safe_load(content)
    if settings_text(decoded).encode() != content:
        raise ValueError(f"{MODEL_CONFIG} is not spelt as `make archive` spells it; it may have a key twice")
    try:
        msgspec.convert(decoded, FrontEndSettings)
    except msgspec.ValidationError as error:
        raise ValueError(f"{MODEL_CONFIG}: {error}") from error


def _check_files(model: _Model, names: set[str]) -> None:
    named = {"handler": model.handler, "serializedFile": model.serialized_file, "configFile": model.config_file}
    if model.model_file is not None:
        named["modelFile"] = model.model_file
    for field, name in named.items():
        if name not in names:
            raise ValueError(f"{MANIFEST}: {field} {name!r} is not a file of the archive")
    if not model.handler.endswith(".py") or model.config_file != MODEL_CONFIG:
        raise ValueError(f"{MANIFEST}: the handler must be a .py file, and the configFile {MODEL_CONFIG}")


def _check_model(model: _Model, identity: Identity) -> None:
    said = (model.model_name, model.model_version, model.serialized_file)
    if said != (identity.model.name, identity.model.version, identity.serialized_file):
        raise ValueError(f"{MANIFEST} and {IDENTITY_FILE} name different models")
