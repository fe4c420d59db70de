"""Puts a user's checkpoint into an architecture: finds the arguments that it needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from classifier.architecture import build
from classifier.errors import UnusableError

from scripts.adopting.adoption import Adoption, Request, place
from scripts.adopting.trial import outputs_of, scores_of
from scripts.building.checkpoint import StateDict, read_checkpoint
from scripts.building.fitting import Fitted, MisfitError, fit
from scripts.console import UserError

Arguments = dict[str, Any]


def give_weights(adoption: Adoption, request: Request, tries: Sequence[Arguments] = ({},)) -> None:
    """Set the arguments and weights of an architecture from the user's checkpoint.

    Args:
        adoption: with its architecture; gets arguments, weights and notes.
        request: with the weights.
        tries: arguments to build the architecture with; the first with which the checkpoint fits are taken.

    Raises:
        UserError: it fits with none of them.
    """
    path, options = split(request.weights or "")
    architecture = adoption.fields["architecture"]
    checkpoint = read_checkpoint(path)
    first: UserError | None = None
    for arguments in tries:
        try:
            arguments, fitted = _fit(checkpoint, architecture, {**arguments, **request.arguments}, options)
        except MisfitError as error:
            first = first or UserError(f"{path.name} does not fit {architecture}: {error}{_way_on(request)}")
            continue
        except UserError as error:
            raise UserError(_with_choice(f"{path.name}: {error}", request.weights or "")) from error
        if arguments:
            adoption.fields["arguments"] = arguments
        if "num_classes" in arguments:
            adoption.take(f"{arguments['num_classes']} classes from the last layer of {path.name}")
        chosen = {"entry": fitted.entry, "prefix": fitted.prefix}
        written = {key: chosen[key] for key in ("entry", "prefix") if chosen[key] or key in options}
        adoption.fields["weights"] = place(path, adoption, request, written)
        adoption.weights = path
        return
    raise first or UserError(f"{path.name}: no arguments to try")


def split(weights: str) -> tuple[Path, dict[str, str]]:
    """A path, and what follows it as `#entry=…&prefix=…`.

    Raises:
        UserError: there is no such file, or something else follows it.
    """
    path, _, fragment = (weights, "", "") if Path(weights).is_file() else weights.partition("#")
    if not Path(path).is_file():
        raise UserError(f"WEIGHTS={weights}: there is no such file")
    options = dict(parse_qsl(fragment, keep_blank_values=True))
    if fragment and not (options and options.keys() <= {"entry", "prefix"}):
        raise UserError(f"WEIGHTS={weights}: what follows # must be entry=…, prefix=… or both, joined by &")
    return Path(path), options


def _fit(
    checkpoint: Mapping[str, StateDict], architecture: str, arguments: Arguments, options: Mapping[str, str]
) -> tuple[Arguments, Fitted]:
    """The arguments, with the number of classes where it must be said, and the fitting state_dict."""
    entry, prefix = options.get("entry"), options.get("prefix")
    try:
        return arguments, fit(checkpoint, _shapes(architecture, arguments), entry, prefix)
    except MisfitError as error:
        if error.classes is None or "num_classes" in arguments:
            raise
        counted = {**arguments, "num_classes": error.classes}
        try:
            shapes = _shapes(architecture, counted)
        except UserError as refused:  # an architecture may call its number of classes by another name
            raise error from refused
        return counted, fit(checkpoint, shapes, entry, prefix)


def _shapes(architecture: str, arguments: Arguments) -> dict[str, Any]:
    try:
        return {name: item.shape for name, item in build(architecture, arguments).state_dict().items()}
    except UnusableError as error:
        raise UserError(str(error)) from error


def _way_on(request: Request) -> str:
    """What may help if a checkpoint does not fit an architecture as it is built without arguments."""
    if request.arguments:
        return ""
    return "; if the architecture was built with arguments, pass them, as ARGUMENTS='{classes: 10}'"


def _with_choice(message: str, weights: str) -> str:
    """A message about several that fit, with how to choose here."""
    return message.replace(
        "choose one in `weights`: ", f"choose one, for example WEIGHTS='{weights}#entry=…&prefix=…': "
    )


def count_classes(adoption: Adoption, file: Path) -> int:
    """The number of classes, by computing; sets `scores` if the outputs are no logits.

    Args:
        adoption: all but its labels known.
        file: its weights or its program.

    Raises:
        UserError: the model does not compute.
    """
    where = adoption.fields.get("weights", "")
    options = dict(parse_qsl(where.partition("#")[2], keep_blank_values=True))
    outputs = outputs_of(adoption.recipe(["?"]), file, options.get("entry"), options.get("prefix"))
    library = adoption.recipe(["?"]).library is not None  # whose classifiers give logits
    found = None if library or "scores" in adoption.fields else scores_of(outputs)
    if found is not None:
        adoption.assume("scores", *found)
    return int(outputs.shape[1])
