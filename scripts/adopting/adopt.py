"""Writes a recipe of what somebody has: `make adopt FROM=…`."""

import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from classifier.errors import UnusableError
from classifier.labels import Label
from classifier.recipe import Recipe, read_recipe

from scripts.adopting.adoption import IMAGENET, Adoption, Request, inline, labels_in, labels_of, model_name
from scripts.adopting.files import adopt_checkpoint
from scripts.adopting.huggingface import adopt_folder
from scripts.adopting.libraries import adopt_timm, adopt_torchvision
from scripts.adopting.own_weights import count_classes
from scripts.adopting.programs import adopt_program
from scripts.adopting.stock import adopt_stock
from scripts.building.checkpoint import kind_of
from scripts.building.make import RECIPES
from scripts.console import UserError, done, out, step, warn
from scripts.turns import turn

_HANDLERS: Final = Path("handlers")
_IMAGENET_CLASSES: Final = 1000
_KNOWN: Final = (
    "torchvision:<model>, timm:<model>, a folder of Hugging Face, a checkpoint, a TorchScript, torch.export or ONNX "
    "file, or an archive of TorchServe's image_classifier"
)


def main(
    *,
    from_: str,
    name: str | None = None,
    architecture: str | None = None,
    arguments: str | None = None,
    weights: str | None = None,
    labels: str | None = None,
    like: str | None = None,
    force: bool = False,
    recipes: Path = RECIPES,
    handlers: Path = _HANDLERS,
) -> None:
    """Write the recipe of a trained model: of a library, a checkpoint, a program or an archive.

    Args:
        from_: `torchvision:<model or weights>`, `timm:<model>`, a folder of Hugging Face, a checkpoint, a TorchScript,
            torch.export or ONNX file, or an archive of TorchServe's image_classifier.
        name: the model's name; without it, one made of what it is adopted from.
        architecture: of a checkpoint: `torchvision:<model>`, `timm:<model>`, or `<module>:<class>` of handlers/.
        arguments: of the architecture, as a recipe has them: `{classes: 10, width: 64}`.
        weights: a checkpoint for a model of a library, instead of its own; `<path>#entry=…&prefix=…` chooses in it.
        labels: file of the classes' names, or imagenet1k.
        like: name of the recipe whose input, scores and serving to take.
        force: replace the recipe of that name.
        recipes: folder of the recipes.
        handlers: folder of the architectures; building archives finds those of another one by PYTHONPATH.
    """
    if name is not None and model_name(name) != name:
        raise UserError(f"NAME={name}: names have letters, digits and _, for example {model_name(name)}")
    if str(handlers.resolve()) not in sys.path:
        sys.path.insert(0, str(handlers.resolve()))
    with tempfile.TemporaryDirectory() as scratch:
        request = Request(
            recipes=recipes,
            handlers=handlers,
            scratch=Path(scratch),
            name=name,
            architecture=architecture,
            arguments=_arguments(arguments),
            weights=weights,
            labels=labels,
            like=None if like is None else recipes / f"{like}.yaml",
        )
        adoption = adopt(from_, request)
        if request.like is not None:
            adoption.follow(request.like)
        files = _files(adoption, _labels(adoption, request), request)
        recipe = _checked(files, adoption, request)
        recipes.mkdir(parents=True, exist_ok=True)
        with turn(recipes, f"another adoption into {recipes}"):  # of two with one name, both would find it free
            _write(files, force)
    _say(adoption, recipe, list(files), request)


def _arguments(text: str | None) -> dict[str, Any]:
    """The architecture's arguments.

    Raises:
        UserError: they are no mapping of names.
    """
    try:
        found = yaml.safe_load(text or "{}")
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise UserError(f"ARGUMENTS={text}: expected names and values, as ARGUMENTS='{{classes: 10, width: 64}}'")
    return found


def adopt(source: str, request: Request) -> Adoption:
    """What is known of a source, and what had to be assumed.

    Raises:
        UserError: it is nothing that can be adopted; the message says why.
    """
    if request.arguments and request.architecture is None and request.weights is None:
        raise UserError("ARGUMENTS= are those of an architecture that gets your own weights: pass these, too")
    scheme, _, rest = source.partition(":")
    if scheme in ("torchvision", "timm") and rest:
        if request.architecture is not None:
            raise UserError(f"{source} is an architecture: leave ARCHITECTURE= out")
        return (adopt_torchvision if scheme == "torchvision" else adopt_timm)(rest, request)
    path = Path(source)
    if path.is_dir():
        return adopt_folder(path, request)
    if not path.is_file():
        path = Path(source.partition("#")[0])
    if not path.is_file():
        raise UserError(f"FROM={source}: there is no such file or folder; it may be {_KNOWN}")
    kind = kind_of(path)
    if kind == "archive":
        return adopt_stock(path, request)
    if kind == "checkpoint" or kind == "safetensors":
        return adopt_checkpoint(path, source, request)
    return adopt_program(path, kind, request)


def _labels(adoption: Adoption, request: Request) -> list[Label] | str:
    """The labels: the user's, the source's own, ImageNet's, or numbers; counts the classes where the model is here.

    Raises:
        UserError: there are not as many as classes.
    """
    chosen = adoption.labels
    if request.labels == IMAGENET:
        chosen = IMAGENET
    elif request.labels is not None:
        chosen = labels_in(Path(request.labels))
        adoption.take(f"{len(chosen)} classes from {Path(request.labels).name}")
    if adoption.weights is None:
        if chosen is None:
            raise UserError("nothing says what the classes are: pass LABELS=<file>")
        return chosen
    step(f"computing {adoption.name} on a few pictures")
    classes = count_classes(adoption, adoption.weights)
    if chosen is None:
        if classes == _IMAGENET_CLASSES:
            adoption.assume(
                "labels", IMAGENET, "1000 classes, taken for ImageNet's in their usual order; LABELS= names others"
            )
            return IMAGENET
        adoption.assume("labels", None, "numbers, because nothing names the classes; LABELS=<file> does")
        return labels_of([str(index) for index in range(classes)])
    count = _IMAGENET_CLASSES if isinstance(chosen, str) else len(chosen)
    if count != classes:
        raise UserError(
            f"there are {count} labels, but the model has {classes} classes; pass LABELS=<file with {classes}>"
        )
    return chosen


def _files(adoption: Adoption, labels: list[Label] | str, request: Request) -> dict[Path, bytes]:
    """All files to write, the recipe last."""
    files = dict(adoption.files)
    written: Any = labels
    if isinstance(labels, list):
        written = inline(labels)
        if written is None:
            beside = request.recipes / f"{adoption.name}.labels.json"
            files[beside] = msgspec.json.format(msgspec.json.encode(labels), indent=1) + b"\n"
            written = beside.name
    files[request.recipes / f"{adoption.name}.yaml"] = adoption.text(written).encode()
    return files


def _checked(files: dict[Path, bytes], adoption: Adoption, request: Request) -> Recipe:
    """The recipe among the files, as it will be read."""
    path, text = list(files.items())[-1]
    copy = request.scratch / path.name
    copy.write_bytes(text)
    try:
        return read_recipe(copy)
    except UnusableError as error:
        raise UserError(f"{adoption.source} cannot be said in a recipe: {error}") from error


def _write(files: dict[Path, bytes], force: bool) -> None:
    """Write all files or none; each one is there whole or not at all.

    Raises:
        UserError: one is there with other content, and may not be replaced.
    """
    for path, content in files.items():
        if path.exists() and path.read_bytes() != content and not force:
            raise UserError(f"{path} is there already, with other content: pass NAME=<another> or FORCE=1")
    parts = {path.with_name(f".{path.name}.{os.getpid()}.part"): path for path in files}
    try:
        for part, path in parts.items():  # all of them, before the first takes its place: the disk may become full
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(files[path])
        for part, path in parts.items():
            part.replace(path)
    finally:
        for part in parts:
            with contextlib.suppress(NotADirectoryError):  # of the one that could not be written
                part.unlink(missing_ok=True)


def _say(adoption: Adoption, recipe: Recipe, files: list[Path], request: Request) -> None:
    for sentence in adoption.taken:
        step(sentence)
    for field, sentence in adoption.assumed.items():
        warn(f"assumed {field}: {sentence}")
    for path in files:
        done(str(path))
    where = "" if request.recipes == RECIPES else f" RECIPES={shlex.quote(str(request.recipes))}"
    handlers = request.handlers.resolve()
    found = "" if handlers == _HANDLERS.resolve() else f"PYTHONPATH={shlex.quote(str(handlers))} "
    out.print(f"Next:\n  {found}make archives MODEL={adoption.name}{where}", markup=False)
    out.print(f"  make serve MODELS={adoption.name}-{recipe.archives[0].runtime}", markup=False)
