"""What an archive says about itself, without loading it: origin, files, digests, signature, packages."""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from classifier.digests import digest, members, reading
from classifier.errors import DECODE_ERRORS, BrokenArchiveError
from classifier.identity import LABELS_FILE, PARITY_FILE, RECIPE_FILE
from classifier.labels import Label
from classifier.recipe import Recipe

from scripts.admission.signing import PublicKeys, check_signature, digest_of, read_signature
from scripts.archives.store import Archive, read_archive_recipe, refusal, sbom_of, signature_of
from scripts.building.gate import Report
from scripts.console import UserError

SignatureState = Literal["verified", "unverified", "other", "none"]

_READ: Final = (RECIPE_FILE, LABELS_FILE, PARITY_FILE)
_ELSEWHERE: Final = ("name", "weights", "labels", "archives", "mobile")  # fields of a recipe with a place of their own


class File(msgspec.Struct, frozen=True):
    """A file in the archive; its size is in bytes."""

    name: str
    size: int
    sha256: str


class Signed(msgspec.Struct, frozen=True):
    """Whether the archive is signed, and by which key.

    `unverified`: the signature is for this content, but no public key was given to check it with. `other`: it is for
    another content.
    """

    state: SignatureState
    key: str | None = None


class Package(msgspec.Struct, frozen=True):
    """A package that the archive's workers may import."""

    name: str
    version: str
    licences: list[str]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an archive before it is loaded."""

    size: int  # bytes
    sha256: str  # of the file; of `digests.json` if the archive is a folder
    is_folder: bool
    files: list[File]
    signature: Signed
    recipe: Recipe
    recipe_text: str
    settings: list[tuple[str, str]]  # the recipe's fields by their dotted names, those with a value
    labels: list[Label]
    report: Report
    packages: list[Package] | None  # None without a bill of materials of this very archive

    def has_other_weights(self, sha256: str) -> bool:
        """Whether weights with this digest are certainly not the recipe's, as after `WEIGHTS=`: it names another."""
        written = self.recipe.weights or ""
        return "sha256=" in written and f"sha256={sha256}" not in written


def read_facts(archive: Archive, keys: PublicKeys | None = None) -> Facts:
    """Read the facts of an archive; its files are not checked against their digests.

    Args:
        archive: the archive.
        keys: the keys to trust; None leaves a signature unverified.

    Raises:
        UserError: the archive is broken, what lies beside it cannot be read, or `keys` are given and none of them has
            signed it.
    """
    signature = _signature(archive.path, keys)
    files, content = [], dict[str, bytes]()
    try:
        with reading(archive.path):
            for name, stream in members(archive.path):
                start = stream.tell()
                sha256 = digest(stream)
                files.append(File(name, stream.tell() - start, sha256))
                if name in _READ:
                    stream.seek(start)
                    content[name] = stream.read()
            report = msgspec.json.decode(content[PARITY_FILE], type=Report)
            labels = msgspec.json.decode(content[LABELS_FILE], type=list[Label])
            sha256 = digest_of(archive.path)
    except BrokenArchiveError as error:
        raise refusal(archive.path, error) from error
    recipe = read_archive_recipe(archive.path)
    is_folder = archive.path.is_dir()
    return Facts(
        size=size_of(archive.path),
        sha256=sha256,
        is_folder=is_folder,
        files=sorted(files, key=lambda file: file.name),
        signature=signature,
        recipe=recipe,
        recipe_text=content[RECIPE_FILE].decode(errors="replace"),
        settings=settings(msgspec.to_builtins(recipe)),
        labels=labels,
        report=report,
        packages=_packages(archive.path, None if is_folder else sha256),
    )


def size_of(archive: Path) -> int:
    """The bytes of an archive: of the file, or of all files of the folder."""
    if archive.is_dir():
        return sum(path.stat().st_size for path in archive.rglob("*") if path.is_file())
    return archive.stat().st_size


def settings(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The fields of a recipe that have a value, with dotted names; those that the page shows elsewhere are left out."""
    found: list[tuple[str, str]] = []
    for name, value in fields.items():
        if not prefix and name in _ELSEWHERE:
            continue
        if isinstance(value, dict):
            found += settings(value, f"{prefix}{name}.")
        elif value not in (None, []):
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            found.append((f"{prefix}{name}", text))
    return found


def _signature(archive: Path, keys: PublicKeys | None) -> Signed:
    if keys is not None:
        check_signature(archive, keys)
    if not signature_of(archive).exists():
        return Signed("none")
    signature = read_signature(archive)
    if keys is not None:
        return Signed("verified", signature.key)
    try:
        same = digest_of(archive) == signature.sha256
    except BrokenArchiveError as error:
        raise refusal(archive, error) from error
    return Signed("unverified" if same else "other", signature.key)


class _Licence(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _LicenceChoice(msgspec.Struct):
    license: _Licence | None = None
    expression: str | None = None

    def text(self) -> str:
        """The licence in words."""
        found = self.expression or (self.license and (self.license.id or self.license.name))
        return found or "unknown"


class _Hash(msgspec.Struct):
    content: str


class _Component(msgspec.Struct):
    name: str
    type: str
    version: str = ""
    licenses: list[_LicenceChoice] = []
    hashes: list[_Hash] = []


class _Metadata(msgspec.Struct):
    component: _Component


class _Bill(msgspec.Struct):
    """What the page reads of a bill of materials in CycloneDX."""

    metadata: _Metadata
    components: list[_Component] = []


def _packages(archive: Path, sha256: str | None) -> list[Package] | None:
    """The packages of the bill of materials beside an archive; None if there is none, or one of another content."""
    path = sbom_of(archive)
    if not path.exists():
        return None
    try:
        bill = msgspec.json.decode(path.read_bytes(), type=_Bill)
    except DECODE_ERRORS as error:
        raise UserError(f"{path} is no bill of materials ({error}); build the archive again, or remove it") from error
    if sha256 is not None and [item.content for item in bill.metadata.component.hashes] != [sha256]:
        return None
    return [
        Package(item.name, item.version, [choice.text() for choice in item.licenses])
        for item in bill.components
        if item.type == "library"
    ]
