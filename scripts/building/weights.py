"""Where a model's weights or its program come from: a download, a package, the user's own file, or a seed.

How a recipe names the place is in `classifier/places.py`.
"""

import importlib.util
from pathlib import Path
from typing import Final, Literal

import msgspec
import torch
from classifier.architecture import build
from classifier.identity import UNTRAINED
from classifier.places import Place, read_place, read_program
from classifier.recipe import Recipe
from filelock import FileLock

from scripts.building.download import DownloadError, checked_digest, download, file_digest
from scripts.building.sources import architecture_digest
from scripts.console import UserError, step, warn_untrained

SEED: Final = 0

Choice = Literal["auto", "pretrained"]


class Weights(msgspec.Struct, frozen=True):
    """A checkpoint or a program, the name of its training, and its SHA-256."""

    name: str
    path: Path
    sha256: str
    entry: str | None = None  # the key of the checkpoint under which the state_dict lies; None: any that fits
    prefix: str | None = None  # taken off the names in it; None: whatever fits


def resolve(recipe: Recipe, choice: str, cache: Path, folder: Path) -> Weights:
    """Find the weights, or the program, to build with.

    Args:
        recipe: the model.
        choice: `pretrained` (the recipe's weights, or an error), `auto` (the recipe's or, if they cannot be fetched,
            seeded untrained weights, with a banner), or the path of the user's own checkpoint.
        cache: folder for downloads.
        folder: the recipe's, to which its paths are relative.

    Raises:
        UserError: there are no such weights, or they do not have their digest.
    """
    if choice not in ("auto", "pretrained"):
        return _own(recipe, choice)
    if recipe.program is not None:
        return _found(read_program(recipe.program)[1], cache, folder, "program")
    try:
        return _found(read_place(recipe.weights or ""), cache, folder, "weights")
    except DownloadError as error:
        if choice == "pretrained":
            raise UserError(
                f"{error}\nTry again when there is a network, or pass WEIGHTS=<path of a state_dict>."
            ) from error
        warn_untrained(recipe.name, f"{error}")
        return _untrained(recipe, cache)


def _found(place: Place, cache: Path, folder: Path, field: str) -> Weights:
    """The file of a place, with its digest checked.

    Raises:
        DownloadError: it cannot be fetched.
        UserError: it is not there, or has another digest.
    """
    name = None
    if place.scheme == "torchvision":
        name, path = _from_torchvision(place.path, cache)
    elif place.scheme == "package":
        path = _in_package(place.path)
    elif place.scheme == "file":
        path = folder / place.path
        if not path.is_file():
            raise UserError(f"{field}: there is no file {path}; the path is relative to the recipe's folder")
    else:
        path = download(place.path, cache, place.sha256)
    sha256 = checked_digest(path, place.name or path.name, place.sha256)
    return Weights(name or path.stem, path, sha256, place.entry, place.prefix)


def _from_torchvision(name: str, cache: Path) -> tuple[str, Path]:
    from torchvision.models import get_weight

    try:
        entry = get_weight(name)
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"weights: torchvision has no {name}: {error}") from error
    path = download(entry.url, cache)
    checked_digest(path, path.name)
    return entry.name, path


def _in_package(place: str) -> Path:
    package, _, inside = place.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"weights: package {package} is not installed; `make setup` installs those of the project")
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise UserError(f"weights: package {package} has no file {inside}")
    return path


def _own(recipe: Recipe, choice: str) -> Weights:
    """The user's file, `<path>` or `<path>#entry=…&prefix=…`; its name need not carry a digest."""
    if recipe.program is not None:
        raise UserError(f"WEIGHTS={choice}: {recipe.name} is a program, which has its own weights; change its recipe")
    path, _, fragment = choice.partition("#") if not Path(choice).is_file() else (choice, "", "")
    if not Path(path).is_file():
        raise UserError(f"WEIGHTS={choice}: no such file; pass `auto`, `pretrained` or the path of a state_dict")
    sha256 = file_digest(Path(path))
    try:
        place = read_place("&".join(filter(None, (f"{path}#sha256={sha256}", fragment))))
    except ValueError as error:
        raise UserError(f"WEIGHTS={choice}: {error}") from error
    return Weights(Path(path).stem, Path(path), sha256, place.entry, place.prefix)


def _untrained(recipe: Recipe, cache: Path) -> Weights:
    """Seeded, untrained weights, the same on every machine of one kind. Kept until the architecture changes."""
    path = cache / f"{recipe.name}-{architecture_digest(recipe)[:8]}-seed{SEED}-{UNTRAINED}.pth"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if not path.exists():
            step(f"making {UNTRAINED} weights for {recipe.name} from seed {SEED}")
            with torch.random.fork_rng():
                torch.manual_seed(SEED)
                state_dict = build(recipe.architecture or "", recipe.arguments).state_dict()
            part = path.with_name(path.name + ".part")
            torch.save(state_dict, part)
            part.replace(path)
    return Weights(UNTRAINED, path, file_digest(path))
