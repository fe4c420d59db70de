"""The model store: which archives it has, and what each of them is."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar, get_args

import msgspec
from classifier.digests import DIGESTS_FILE, members, reading
from classifier.errors import BrokenArchiveError, ForeignArchiveError
from classifier.identity import IDENTITY_FILE, RECIPE_FILE, Identity
from classifier.recipe import Recipe, RuntimeName, Serving

from scripts.archives.name import ArchiveName, numbers
from scripts.console import UserError

STORE: Final = Path("model_store")
DEFAULT_MODEL: Final = "vgg16"

_SIGNATURE: Final = ".sig"
_SBOM: Final = ".cdx.json"  # the suffix by which tools recognise CycloneDX
_SUFFIXES: Final = (".mar", ".tar.gz", "")
_DEFAULT_RUNTIME: Final = "eager"

_Content = TypeVar("_Content")


class _Served(msgspec.Struct):
    """What a server needs of an archive's recipe, whatever else is in it."""

    serving: Serving = msgspec.field(default_factory=Serving)


class Archive(msgspec.Struct, frozen=True):
    """An archive of the store."""

    path: Path
    identity: Identity


def find_archive(name: str, store: Path) -> Archive:
    """Find an archive by a name in the store (`vgg16`, `vgg16-eager`, `vgg16-eager-1.0[.mar]`) or by a path.

    A name without a version means the newest one, a name without a runtime the float32 archive of the first runtime
    that the store has, which is eager if the model has an eager one.

    Raises:
        UserError: there is no such archive, it was not built by `make archive`, or it is damaged.
    """
    path = find_path(name, store)
    return Archive(path, read_archive_identity(path))


def chosen_archive(archive: str | None, model: str | None, store: Path) -> Archive:
    """The archive that was named, else the eager archive of the named model, else that of the model of `model_in`.

    Raises:
        UserError: as `find_archive`.
    """
    return find_archive(archive or model or model_in(store), store)


def model_in(store: Path) -> str:
    """The one model whose archives lie in the store; vgg16 if there are several or none. Broken ones do not count."""
    models = set()
    for path in archives_in(store):
        with contextlib.suppress(UserError):
            models.add(read_archive_identity(path).model.name)
    return models.pop() if len(models) == 1 else DEFAULT_MODEL


def find_path(name: str, store: Path) -> Path:
    """The path of the archive that `find_archive` finds; the archive is not read.

    A whole file name is that file, and a name with a folder in it is the path of one file, in the store or elsewhere,
    relative to the current folder.

    Raises:
        UserError: there is no such archive.
    """
    if "/" in name:  # the text is tested, because a Path drops the folder of `./vgg16-eager-1.0.mar`
        return _find_file(Path(name), store)
    whole = name.endswith(_SUFFIXES[:2])
    path = store / name if whole and _is_archive(store / name) else None if whole else newest(name, store)
    if path is None:
        model = name.partition("-")[0].partition(".")[0]
        raise UserError(
            f"no archive {name} in {store} (there: {_names_in(store)}); build it with `make archive MODEL={model}`"
        )
    return path


def newest(name: str, store: Path) -> Path | None:
    """The archive that a name without a suffix means; None if the store has none.

    Only a file's name counts, which is read as `ArchiveName`. If no file has a name like that, one that is called
    `<name>.mar` is meant: a copy under another name, or an archive from before names had versions.
    """
    for runtime in ("", *(f"-{runtime}" for runtime in get_args(RuntimeName))):
        if (wanted := ArchiveName.parse(f"{name}{runtime}")) is None:
            continue
        found = [(there, path) for there, path in versions_in(store) if there.variant == wanted.variant]
        if found := [item for item in found if wanted.version in (None, item[0].version)]:
            return max(found, key=lambda item: item[0].age)[1]
    names = (f"{base}{suffix}" for base in (name, f"{name}-{_DEFAULT_RUNTIME}") for suffix in _SUFFIXES)
    return next((store / name for name in names if _is_archive(store / name)), None)


def versions_in(store: Path) -> list[tuple[ArchiveName, Path]]:
    """All archives of a folder whose names have versions; of the same version in several formats, `.mar` first."""
    found = [(ArchiveName.parse(path.name), path) for path in store.glob("*") if _is_archive(path)]
    named = [(name, path) for name, path in found if name is not None and name.version is not None]
    return sorted(named, key=lambda item: (item[0].variant, item[0].age, _order(item[1])))


def _order(path: Path) -> int:
    return next(order for order, suffix in enumerate(_SUFFIXES) if path.name.endswith(suffix))


def newest_in(store: Path) -> list[Path]:
    """The archives of a folder that are single files, of each variant of a model only the newest version."""
    newest_of: dict[tuple[str, str, str], Path] = {}
    for name, path in sorted(versions_in(store), key=lambda item: item[0].age, reverse=True):
        if path.is_file():
            newest_of.setdefault(name.variant, path)
    older = {path for _, path in versions_in(store)} - set(newest_of.values())
    return [path for path in archives_in(store) if path not in older]


def find_in_store(name: str, store: Path) -> Path:
    """As `find_path`, for a server, which loads archives only from its model store and only by their file names.

    Raises:
        UserError: there is no such archive, or it lies elsewhere; the store may have another file of the same name.
    """
    path = find_path(name, store)
    if not lies_in(path, store):
        raise UserError(
            f"{name} does not lie in the model store {store}, the only folder from which TorchServe loads archives; "
            f"copy it there first, or start the server with STORE={path.parent}"
        )
    return path


def lies_in(archive: Path, store: Path) -> bool:
    """Whether an archive lies directly in that folder, by whatever path it was named."""
    return archive.parent.resolve() == store.resolve()


def _find_file(path: Path, store: Path) -> Path:
    """The archive at exactly this path, spelt as a path below `store` if it lies there."""
    if not _is_archive(path):
        raise UserError(
            f"there is no archive {path} (in that folder: {_names_in(path.parent)}); a path must be that of one file, "
            f"a name without a folder that of an archive in {store}"
        )
    return store / path.name if lies_in(path, store) else path


def _names_in(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.glob("*") if _is_archive(path))) or "nothing"


def _is_archive(path: Path) -> bool:
    """Whether a path is an archive, by its name: signatures, bills of materials and settings lie beside archives."""
    return not path.name.startswith(".") and (path.is_dir() or path.name.endswith(_SUFFIXES[:2])) and path.exists()


def signature_of(archive: Path) -> Path:
    """The path of an archive's signature."""
    return archive.with_name(archive.name + _SIGNATURE)


def sbom_of(archive: Path) -> Path:
    """The path of an archive's bill of materials."""
    return archive.with_name(archive.name + _SBOM)


def archives_in(store: Path) -> list[Path]:
    """All archives of a folder that are single files."""
    return sorted(path for path in store.glob("*") if path.name.endswith(_SUFFIXES[:2]) and path.is_file())


def archives_of(model: str, store: Path) -> list[Archive]:
    """The newest archive of each runtime and precision of a model, that of `find_archive(model)` first.

    The others are measured against the first.

    Raises:
        UserError: there is no such archive, or an archive is damaged.
    """
    reference = find_archive(model, store)
    found = {_kind(reference): reference}
    for path in archives_in(store):
        if not path.name.startswith(f"{model}-"):
            continue
        archive = Archive(path, read_archive_identity(path))
        kind = _kind(archive)
        is_newer = kind not in found or _age(found[kind]) < _age(archive)
        if archive.identity.model.name == model and kind != _kind(reference) and is_newer:
            found[kind] = archive
    return list(found.values())


def _kind(archive: Archive) -> tuple[str, str]:
    return archive.identity.model.runtime, archive.identity.model.precision


def _age(archive: Archive) -> tuple[int, ...]:
    return numbers(archive.identity.model.version)


def read_archive_identity(path: Path) -> Identity:
    """Read the identity of an archive without unpacking it.

    Raises:
        UserError: the archive is damaged, or was not built by `make archive`.
    """
    return _read(path, IDENTITY_FILE, lambda content: msgspec.json.decode(content, type=Identity))


def read_archive_recipe(path: Path) -> Recipe:
    """Read the recipe in an archive; raises as `read_archive_identity`."""
    return _read(path, RECIPE_FILE, lambda content: msgspec.yaml.decode(content, type=Recipe))


def read_archive_serving(path: Path) -> Serving:
    """Read how an archive is to be served; raises as `read_archive_identity`."""
    return _read(path, RECIPE_FILE, lambda content: msgspec.yaml.decode(content, type=_Served)).serving


def content_of(path: Path) -> str:
    """SHA-256 of an archive's `digests.json`, which has the digest of every other file; raises as the above.

    It is quick to read, and the same in every format: `unzip -p <archive> digests.json | sha256sum`.
    """
    return _read(path, DIGESTS_FILE, lambda content: hashlib.sha256(content).hexdigest())


def _read(path: Path, wanted: str, decode: Callable[[bytes], _Content]) -> _Content:
    try:
        with reading(path):
            found = {name: stream.read() for name, stream in members(path) if name in (wanted, DIGESTS_FILE)}
            if found.keys() != {wanted, DIGESTS_FILE}:
                raise BrokenArchiveError(f"it lacks {wanted} or {DIGESTS_FILE}")
            return decode(found[wanted])
    except BrokenArchiveError as error:
        raise refusal(path, error) from error


def refusal(archive: Path, error: BrokenArchiveError, consequence: str = "") -> UserError:
    """The error for a user whose archive cannot be used.

    Args:
        archive: its path.
        error: why; an archive of somebody else is not called broken.
        consequence: what does not happen now, if that needs to be said.
    """
    if isinstance(error, ForeignArchiveError):
        return UserError(str(error))
    said = f"; {consequence}. Build" if consequence else "; build"
    return UserError(f"{archive} is broken ({error}){said} it again with `make archive`")
