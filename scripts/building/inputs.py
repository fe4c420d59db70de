"""What an archive is built from, by name and by content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import yaml
from classifier.errors import UnusableError
from classifier.places import read_place, read_program
from classifier.recipe import Recipe, Serving, Variant

from scripts.building.options import Options
from scripts.building.record import digest, pictures
from scripts.building.sources import files

if TYPE_CHECKING:
    from scripts.building.weights import Weights  # imports torch, for which an archive that is up to date need not wait

_HANDLERS: Final = Path(__file__).parents[2] / "handlers"
_SOURCES: Final = (_HANDLERS / "classifier", Path(__file__).parents[1] / "archives", Path(__file__).parent)
# What a recipe says that changes no answer, or that is an input of its own.
_NOT_OF_THE_RECIPE: Final = (
    *("name", "architecture", "arguments", "weights", "program", "labels"),
    *("serving", "archives", "mobile", "baseline"),
)


def inputs_of(options: Options, recipe: Recipe, variant: Variant, weights: Weights, serving: Serving) -> dict[str, str]:
    """The digest of each input of an archive. Those named in `record.DECISIVE` decide its answers, the rest does not.

    Args:
        options: what is asked for.
        recipe: the recipe.
        variant: the archive's own lines in it.
        weights: the weights, or the program.
        serving: the archive's own `serving`.
    """
    said = yaml.safe_load(options.recipe.read_bytes())
    named = list(_label_files(recipe, options.recipe.parent))
    kind = None if recipe.program is None else read_program(recipe.program)[0]
    part = [weights.entry, weights.prefix]
    baseline = [] if recipe.baseline is None else [_baseline(options.recipe, recipe.baseline)]
    return {
        "weights": weights.sha256 if part == [None, None] else digest(_text([weights.sha256, *part])),
        "architecture": digest(_text([recipe.architecture, recipe.arguments, kind]), files(recipe)),
        "labels": digest(b"", named) if named else digest(_text(recipe.labels)),
        "recipe": digest(_text({name: said[name] for name in said if name not in _NOT_OF_THE_RECIPE})),
        "export": _export(options, variant),
        "serving": serving_digest(serving),
        "gate": digest(_text(variant.tolerance), pictures(options.golden)),
        "code": digest(b"", code()),
        **({"baseline": digest(b"", baseline)} if baseline else {}),
    }


def _baseline(recipe_file: Path, named: str) -> Path:
    path = recipe_file.parent / named
    if not path.is_file():
        raise UnusableError(
            f"{recipe_file}: baseline: there is no file {path}; `make baseline DATA=<folder>` writes one"
        )
    return path


def serving_digest(serving: Serving) -> str:
    """The digest of an archive's `serving`."""
    return digest(_text(serving))


def _export(options: Options, variant: Variant) -> str:
    """The digest of what decides the export of weights to a runtime."""
    method = options.torchscript if variant.runtime == "torchscript" else None
    calibrated = variant.precision == "int8"
    # without pictures for calibration, those of the gate are taken
    shown = pictures(options.calibration or options.golden) if calibrated else ()
    return digest(_text([variant.runtime, variant.precision, variant.float32_layers, method]), shown)


def named_files(recipe: Recipe, folder: Path) -> Iterator[Path]:
    """The files of the user's own that a recipe names: labels, a baseline, and weights or a program."""
    yield from _label_files(recipe, folder)
    if recipe.baseline is not None:
        yield folder / recipe.baseline
    place = read_program(recipe.program)[1] if recipe.program else read_place(recipe.weights or "")
    if place.scheme == "file":
        yield folder / place.path


def _label_files(recipe: Recipe, folder: Path) -> Iterator[Path]:
    if isinstance(recipe.labels, str) and (folder / recipe.labels).is_file():
        yield folder / recipe.labels


def code() -> Iterator[Path]:
    """The project's own source files that an archive holds, or that build it."""
    yield _HANDLERS / "image_classifier_handler.py"
    for folder in _SOURCES:
        yield from sorted(folder.rglob("*.py"))


def _text(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
