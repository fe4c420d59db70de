"""The file that says which versions answer: `gateway/routes.yaml`, the user's own.

models:
cats:
versions: {"1.0": 95, "2.0": 5}
sticky: {header: x-user}
shadow: {version: "3.0", percent: 10}
predict: cats
replicas: ["10.0.0.11:8080", "10.0.0.12:8080"]
"""

import hashlib
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import yaml
from msgspec import Meta

from scripts.console import UserError

ROUTES_FILE: Final = Path("gateway", "routes.yaml")

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # what a path can name and Envoy's files too
_Header = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
_Percent = Annotated[float, Meta(gt=0, le=100)]
_Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
_WORD: Final = re.compile(r"(?P<version>[^=\s]+)=(?P<weight>[0-9]{1,7})")


class Sticky(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a caller is known, so that it always gets the same version while the weights stay."""

    header: _Header | None = None
    cookie: _Header | None = None  # Envoy gives one to callers that have none
    cookie_s: Annotated[int, Meta(ge=1)] = 86_400  # how long they keep it

    def __post_init__(self) -> None:
        if (self.header is None) == (self.cookie is None):
            raise ValueError("expected either `header` or `cookie`")


class Shadow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that gets a copy of some requests, and whose answers nobody waits for."""

    version: _Name
    percent: _Percent  # of the requests
    at_once: Annotated[int, Meta(ge=1)] = 2  # copies in flight; those beyond are not made


class ModelRoutes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which versions of a model answer requests that name none."""

    versions: Annotated[dict[_Name, _Weight], Meta(min_length=1)]  # weights; with 0 only callers that ask for it
    sticky: Sticky | None = None
    shadow: Shadow | None = None

    def __post_init__(self) -> None:
        if not sum(self.versions.values()):
            raise ValueError("all weights are 0, so nobody would be answered")


class Routes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. Models that are not in it are answered by their default versions."""

    models: dict[_Name, ModelRoutes] = {}
    predict: _Name | None = None  # the model that answers at /predict
    replicas: list[str] = []  # `<host>:<port>` of each


class RoutesFile(msgspec.Struct, frozen=True):
    """A file of routes, as it was read."""

    routes: Routes
    digest: str  # of its content


def read_routes(path: Path) -> RoutesFile:
    """Read a file of routes; one that is not there has none.

    Raises:
        UserError: it cannot be read, or does not say what it should; the message names the place.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from error
    return RoutesFile(_parsed(text, path), hashlib.sha256(text.encode()).hexdigest()[:12])


def _parsed(text: str, path: Path) -> Routes:
    try:
        # Everything is a text, so that the version 1.0 is no number
        content = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader makes nothing but texts
        return msgspec.convert(content or {}, Routes, strict=False)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {error}") from error


def parse_weights(words: tuple[str, ...]) -> dict[str, int]:
    """Parse `1.0=95 2.0=5`.

    Raises:
        UserError: a word is not of that form, or a version is there twice.
    """
    found: dict[str, int] = {}
    for word in words:
        match = _WORD.fullmatch(word)
        if match is None:
            raise UserError(f"{word}: expected <version>=<weight>, such as 1.0=95 2.0=5")
        if match["version"] in found:
            raise UserError(f"{match['version']} has two weights")
        found[match["version"]] = int(match["weight"])
    return found


def _ordered(version: str) -> list[tuple[int, str]]:
    """1.9 before 1.10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"[._-]", version)]


def set_weights(path: Path, model: str, weights: Mapping[str, int]) -> RoutesFile:
    """Give a model's versions new weights in a file of routes, whose comments and all else stay.

    Args:
        path: the file; it is made if it is missing.
        model: the model.
        weights: of its versions. Versions that are not named lose theirs.

    Raises:
        UserError: the file cannot be read, or the weights make no sense; then it stays as it was.
    """
    from ruamel.yaml import YAML  # keeps comments
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    read_routes(path)
    editor = YAML()
    document: Any = (editor.load(path.read_text()) if path.exists() else None) or {}
    models = document.setdefault("models", {})
    entry = models.setdefault(model, {})
    # Their order stays, new ones come last: callers then move from old ones to new ones, see `versions.py`
    known = [version for version in map(str, entry.get("versions") or ()) if version in weights]
    order = [*known, *sorted(weights.keys() - set(known), key=_ordered)]
    entry["versions"] = {DoubleQuotedScalarString(version): weights[version] for version in order}
    stream = StringIO()
    editor.dump(document, stream)
    _parsed(stream.getvalue(), path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(stream.getvalue())
    part.replace(path)
    return read_routes(path)
