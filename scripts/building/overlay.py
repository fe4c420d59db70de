"""The settings that `make tune` found best for a model on this machine; they replace those of a recipe's `serving`."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Final

import msgspec
import yaml
from classifier.digests import DIGESTS_FILE, write_digests
from classifier.errors import DECODE_ERRORS
from classifier.identity import RECIPE_FILE, write_identity
from classifier.recipe import OwnServing, Precision, RuntimeName, Threads, read_recipe
from msgspec import Meta
from msgspec.structs import replace

from scripts.archives.format import MANIFEST, format_of, manifest_text
from scripts.archives.loaded import unpacked
from scripts.archives.name import ArchiveName
from scripts.archives.settings import MODEL_CONFIG, front_end_settings, settings_text
from scripts.archives.store import Archive
from scripts.building.inputs import serving_digest
from scripts.building.options import TUNED
from scripts.building.packing import write_archive
from scripts.building.record import own_record, settle_record, write_next_record
from scripts.building.sbom import write_sbom
from scripts.console import UserError

_NOT_ASKED_FOR: Final = ""  # in a record: `make archive` has not been asked for this archive
_Positive = Annotated[int, Meta(ge=1)]
_NotNegative = Annotated[int, Meta(ge=0)]


class Tuned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings themselves; each has the same meaning as in a recipe."""

    workers: _Positive
    threads: Threads
    batch_size: _Positive
    max_batch_delay_ms: _NotNegative


class Overlay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The best settings of a model, and the archive that they are for."""

    model: str
    runtime: RuntimeName
    precision: Precision
    serving: Tuned
    found: str  # date and figures of the measurement, for the reader of the file

    def fits(self, runtime: str, precision: str) -> bool:
        """Whether the overlay is for that archive of its model."""
        return (self.runtime, self.precision) == (runtime, precision)


def read_overlay(model: str, folder: Path = TUNED) -> Overlay | None:
    """The overlay of a model, if `make tune` has written one.

    Raises:
        UserError: the file cannot be read.
    """
    path = folder / f"{model}.yaml"
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Overlay)
    except FileNotFoundError:
        return None
    except DECODE_ERRORS as error:
        raise UserError(f"{path}: {error}; remove it or run `make tune` again") from error


def write_overlay(overlay: Overlay, folder: Path = TUNED) -> Path:
    """Write an overlay that `read_overlay` reads."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{overlay.model}.yaml"
    path.write_text(
        "# Written by `make tune`, for this machine. `make archive` and `make serve` use it; remove it to go back.\n"
        + yaml.safe_dump(msgspec.to_builtins(overlay), sort_keys=False, allow_unicode=True)
    )
    return path


def overlaid(recipe: str, serving: Tuned | OwnServing) -> str:
    """The text of a recipe with other settings in its `serving`."""
    content = yaml.safe_load(recipe)
    content["serving"] = content.get("serving", {}) | msgspec.to_builtins(serving)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def apply(serving: Tuned, folder: Path) -> None:
    """Change the settings of an unpacked archive, and update its digests."""
    path = folder / RECIPE_FILE
    path.write_text(overlaid(path.read_text(), serving))
    settle(folder)


def settle(folder: Path) -> None:
    """Have TorchServe's settings and the digests of an unpacked archive follow from its recipe, which has changed."""
    settings = front_end_settings(read_recipe(folder / RECIPE_FILE).serving)
    (folder / MODEL_CONFIG).write_text(settings_text(settings))
    (folder / DIGESTS_FILE).unlink()  # it does not list itself
    write_digests(folder)


def repack(archive: Archive, serving: Tuned, version: str, store: Path) -> Path:
    """Write a version of an archive with other settings: the result is that of a build, but without the export.

    Args:
        archive: the archive, which stays as it is.
        serving: the settings.
        version: the version of the result.
        store: the folder to write it into.

    Raises:
        UserError: the archive is damaged.
    """
    model = replace(archive.identity.model, version=version)
    target = store / str(
        ArchiveName(
            model=model.name,
            runtime=model.runtime,
            precision=model.precision,
            version=version,
            archive_format=format_of(archive.path),
        )
    )
    with unpacked(archive.path) as source, tempfile.TemporaryDirectory(dir=store, prefix=".tuned-") as name:
        folder, finished = Path(name) / "content", Path(name) / target.name
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
        write_identity(replace(archive.identity, model=model), folder)
        _rename_version(folder / MANIFEST, version)
        apply(serving, folder)
        settings = serving_digest(read_recipe(folder / RECIPE_FILE).serving)
        write_archive(folder, format_of(archive.path), finished, model.name)
        if (record := own_record(archive.path)) is not None:
            inputs = record.inputs | {"serving": settings}
            write_next_record(finished, target, weights=record.weights, settings=_NOT_ASKED_FOR, inputs=inputs)
        finished.replace(target)
    if record is not None:
        settle_record(target)
    write_sbom(target)
    return target


def _rename_version(manifest: Path, version: str) -> None:
    content = json.loads(manifest.read_text())
    content["model"]["modelVersion"] = version
    manifest.write_text(manifest_text(content))
