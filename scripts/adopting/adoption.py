"""What is known about a model that is adopted, what had to be assumed, and how both become a recipe."""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
import yaml
from classifier.errors import UnusableError
from classifier.input import NORMALIZATIONS, Input, Normalization
from classifier.label_files import classes_of, read_label_file
from classifier.labels import Label
from classifier.recipe import Recipe
from msgspec.structs import asdict

from scripts.building.download import file_digest
from scripts.building.make import recipe_file, recipe_in
from scripts.console import UserError

IMAGENET: Final = "imagenet1k"
_ORDER: Final = (
    "name", "architecture", "arguments", "weights", "program", "labels", "input", "scores", "threshold", "answers",
    "requirements", "serving", "archives", "mobile",
)  # fmt: skip
_FROM_LIKE: Final = ("input", "scores", "threshold", "serving")
_INLINE_LABELS: Final = 20  # more stand in a file
_WIDE: Final = 10_000  # columns: digests make lines long, and folded ones cannot be read
_LIMIT_OF_NAMES: Final = 64


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asks for, besides what to adopt."""

    recipes: Path  # folder of the recipes
    handlers: Path  # folder of the architectures
    scratch: Path  # folder for what is needed meanwhile
    name: str | None = None
    architecture: str | None = None
    arguments: dict[str, Any] = {}  # of the architecture
    weights: str | None = None  # the path of a checkpoint, perhaps with #entry=…&prefix=…
    labels: str | None = None
    like: Path | None = None  # the recipe whose input to take


class Adoption(msgspec.Struct, kw_only=True):
    """A recipe in the making."""

    name: str
    source: str  # for the recipe's first line; no path of this machine
    fields: dict[str, Any] = {}  # of the recipe, without labels and input
    input: dict[str, Any] = {}
    known: dict[str, Any] = {}  # of `input`: what is certain, which another recipe's input does not replace
    labels: list[Label] | str | None = None  # the source's own
    taken: list[str] = []  # sentences
    assumed: dict[str, str] = {}  # sentences by field, `input.crop` and the like
    files: dict[Path, bytes] = {}  # to be written with the recipe
    weights: Path | None = None  # the file of weights or the program, if it is here

    def take(self, what: str) -> None:
        """Note what was taken from where."""
        self.taken.append(what)

    def assume(self, field: str, value: Any, why: str) -> None:
        """Set a field to what nothing says."""
        top, _, inner = field.partition(".")
        if inner:
            self.input[inner] = value
        elif field == "input":
            self.input = value
        elif field != "labels":
            self.fields[top] = value
        self.assumed[field] = why

    def follow(self, other: Path) -> None:
        """Take input, scores and serving from another recipe, except what is certain.

        Raises:
            UserError: it cannot be read.
        """
        try:
            recipe_in(recipe_file(other.stem, other.parent))
        except UserError as error:
            raise UserError(f"LIKE={other.stem}: {error}") from error
        like = yaml.safe_load(other.read_bytes())
        self.assumed = {key: why for key, why in self.assumed.items() if key.partition(".")[0] not in _FROM_LIKE}
        own = {key: value for key, value in self.fields.items() if key not in _FROM_LIKE}
        self.fields = own | {key: like[key] for key in _FROM_LIKE[1:] if key in like}
        self.input = dict(like.get("input", {}))
        kept = {key: value for key, value in self.known.items() if self.input.get(key, _default(key)) != value}
        if "crop" in kept:  # the other's resize is for its own size
            self.input.pop("resize", None)
        self.input |= kept
        self.take(f"input, scores and serving from {other.name}")
        if kept:
            self.take(f"{', '.join(kept)} from the model itself, not from {other.name}")

    def recipe(self, labels: str | list[Any]) -> Recipe:
        """The recipe so far, checked.

        Raises:
            UserError: its fields do not go together.
        """
        try:
            return msgspec.convert({**self._fields(labels)}, Recipe)
        except msgspec.ValidationError as error:
            raise UserError(f"{self.source} cannot be said in a recipe: {error}") from error

    def text(self, labels: str | list[Any]) -> str:
        """The recipe's text, with each assumption above what it is about."""
        source = _one_line(self.source)
        lines = [f"# {self.name}: adopted from {source} by `make adopt`. recipes/README.md explains every field."]
        before = ""
        for key, value in self._fields(labels).items():
            if "input" in (key, before):
                lines.append("")
            before = key
            lines += self._comment(key)
            if key != "input":
                lines.append(_yaml(key, value))
                continue
            lines.append("input:")
            for inner, setting in value.items():
                lines += [f"  {line}" for line in (*self._comment(f"input.{inner}"), _yaml(inner, setting))]
        return "\n".join(lines) + "\n"

    def _fields(self, labels: str | list[Any]) -> dict[str, Any]:
        every = {"name": self.name, **self.fields, "labels": labels}
        if self.input:
            order = Input.__struct_fields__
            every["input"] = {key: self.input[key] for key in sorted(self.input, key=order.index)}
        return {key: every[key] for key in _ORDER if key in every}

    def _comment(self, field: str) -> list[str]:
        return [f"# Assumed: {_one_line(self.assumed[field])}"] if field in self.assumed else []


def _one_line(text: str) -> str:
    """Text for a comment, which a name of a file with an end of a line in it must not end."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _yaml(key: str, value: Any) -> str:
    """One field, on one line."""
    flow = isinstance(value, dict | list)
    content = value if flow else {key: value}
    dump: Any = partial(yaml.safe_dump, content, default_flow_style=flow, sort_keys=False, width=_WIDE)
    text: str = dump(allow_unicode=True)
    if yaml.safe_load(text) != content:  # PyYAML reads some signs as ends of lines that it writes as they are
        text = dump(allow_unicode=False)
    return f"{key}: {text.strip()}" if flow else text.strip()


def _default(field: str) -> Any:
    return getattr(Input(), field)


def input_fields(spec: Input) -> dict[str, Any]:
    """The fields of an input that differ from the defaults, as a recipe has them."""
    found = {key: value for key, value in asdict(spec).items() if value != _default(key)}
    if isinstance(spec.normalization, Normalization):
        usual = asdict(Normalization())
        found["normalization"] = {
            key: value for key, value in asdict(spec.normalization).items() if value != usual[key]
        }
    return found


def whole_input(spec: Input) -> dict[str, Any]:
    """The fields of an input that decide what the model sees, for a comment to stand above them."""
    settings = {"crop": spec.crop, "interpolation": spec.interpolation, "normalization": spec.normalization}
    if spec.fit == "crop" and spec.crop_percentage is None:
        settings["resize"] = spec.scaled[0]
    return {**settings, **input_fields(spec)}


def input_of(
    size: tuple[int, int],
    mean: Any,
    std: Any,
    scale: float | None = None,
    **others: Any,
) -> Input:
    """An input in its shortest form.

    Args:
        size: height and width.
        mean: of each channel, or one number.
        std: likewise.
        scale: what levels are multiplied with; to 0…1 if None.
        others: further fields of `Input`; those that say what is the default anyway are left out.

    Raises:
        ValueError: a recipe cannot say this.
    """
    crop: Any = size[0] if size[0] == size[1] else list(size)
    means, stds = (_shortest(values) for values in (mean, std))
    numbers = Normalization(mean=means, std=stds, **({} if scale is None else {"scale": scale}))
    named = next((name for name, known in NORMALIZATIONS.items() if known == numbers), None)
    spec = msgspec.convert({"crop": crop, "normalization": named or asdict(numbers), **others}, Input)
    for key in ("resize", "crop_percentage"):
        if getattr(spec, key) is not None and msgspec.structs.replace(spec, **{key: None}).scaled == spec.scaled:
            spec = msgspec.structs.replace(spec, **{key: None})
    return spec


def _shortest(values: Any) -> Any:
    listed = [float(value) for value in values] if isinstance(values, tuple | list) else [float(values)]
    return listed[0] if len(set(listed)) == 1 else listed


def model_name(text: str) -> str:
    """A valid name for a model, from any text: `3-Blumen v2` becomes `model_3_Blumen_v2`."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    joined = "_".join("".join(sign if sign.isalnum() else " " for sign in plain).split())
    named = joined if joined and not joined[0].isdigit() else f"model_{joined}".rstrip("_")
    return named[:_LIMIT_OF_NAMES]


def place(path: Path, adoption: Adoption, request: Request, options: Mapping[str, str] | None = None) -> str:
    """A file as a recipe names it: relative to the recipe's folder if both lie in one project, with its SHA-256.

    Raises:
        UserError: the path cannot be written in a recipe.
        OSError: the file cannot be read.
    """
    whole, recipes = path.resolve(), request.recipes.resolve()
    if whole.is_relative_to(recipes.parent):
        written = os.path.relpath(whole, recipes)
    else:
        written = str(whole)
        adoption.take(f"{whole} is outside the project: the recipe has its whole path, which other machines lack")
    if "#" in written:
        raise UserError(f"{path}: recipes end a path at #; rename the file")
    further = "".join(f"&{key}={quote(value, safe='')}" for key, value in (options or {}).items())
    return f"{written}#sha256={file_digest(path)}{further}"


def labels_of(listed: Sequence[object]) -> list[Label]:
    """The labels of names, or of pairs of id and name.

    Raises:
        UserError: one is empty, or an id is there twice.
    """
    try:
        return [Label(*found) for found in classes_of(listed)]
    except ValueError as error:
        raise UserError(f"the classes cannot be used: {error}") from error


def labels_in(path: Path) -> list[Label]:
    """The labels in a file of any of the forms that people have.

    Raises:
        UserError: there is no such file, it has none, or they cannot be used.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"LABELS={path}: there is no such file; it may be {IMAGENET}, or a file of the classes' names")
    try:
        return [Label(*found) for found in read_label_file(path)]
    except UnusableError as error:
        raise UserError(str(error)) from error


def inline(labels: list[Label]) -> list[str] | None:
    """Labels as a recipe's own list, if they are few and have no ids besides their indices."""
    if len(labels) > _INLINE_LABELS or any(label.class_id != str(index) for index, label in enumerate(labels)):
        return None
    return [label.class_name for label in labels]
