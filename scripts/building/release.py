"""Builds an archive as a version, which is immutable: what decides its answers never changes under the same version.

A version may be built again in its place only if everything that decides its answers is the same and no server has it.
"""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

from classifier.errors import UnusableError
from classifier.identity import UNTRAINED
from classifier.recipe import Recipe, Variant, read_recipe
from msgspec import yaml
from msgspec.structs import replace

from scripts.archives.name import ArchiveName, numbers
from scripts.archives.store import read_archive_identity, versions_in
from scripts.building.build import build, checked, own_recipe
from scripts.building.gate import Report
from scripts.building.inputs import inputs_of
from scripts.building.options import NEXT, Options
from scripts.building.record import (
    DECISIVE,
    Record,
    content_digest,
    own_record,
    read_record,
    settle_record,
    write_next_record,
)
from scripts.building.weights import Weights, resolve
from scripts.console import UserError, done, step
from scripts.torchserve.registered import is_registered
from scripts.turns import turn


def release(options: Options, settings: str = "") -> tuple[Path, Report | None]:
    """Build an archive under its version, unless it is there with this content; without a build there is no report.

    Args:
        options: what to build.
        settings: a digest to record, by which the caller sees that nothing was changed.

    Raises:
        UserError: the archive cannot be built, or the version exists with another content.
    """
    try:
        recipe = read_recipe(options.recipe)
        variant = recipe.variant(options.runtime, options.precision)
        weights = _weights(options, recipe)
        serving = yaml.decode(own_recipe(options, recipe, variant), type=Recipe).serving
        inputs = inputs_of(options, recipe, variant, weights, serving)
        with alone(recipe.name, options.store):
            name = _name(options, recipe, variant, inputs)
            target = options.store / str(name)
            record = partial(write_next_record, weights=options.weights, settings=settings, inputs=inputs)
            if is_unchanged(target, inputs):
                record(target, target)
                report = None
            else:
                _check(target, name, inputs, options, recipe)
                options = replace(options, version=name.version)
                _, report = build(options, weights, lambda built: record(built, target))
            settle_record(target)
    except UnusableError as error:
        raise UserError(str(error)) from error
    return target, report


@contextlib.contextmanager
def alone(model: str, store: Path) -> Iterator[None]:
    """One at a time gives versions of a model in a store: of two, both would take the same one for free.

    Raises:
        OSError: the store cannot be written into.
    """
    store.mkdir(parents=True, exist_ok=True)
    with turn(store / f".{model}.lock", f"another build of {model} in {store}"):
        yield


def is_unchanged(archive: Path, inputs: dict[str, str]) -> bool:
    """Whether an archive is there, was built from these inputs, and is as it was built."""
    record = read_record(archive)
    return (
        record is not None
        and archive.exists()
        and not record.differences(inputs)
        and record.archive == content_digest(archive)
    )


def _weights(options: Options, recipe: Recipe) -> Weights:
    """The weights to build with. `auto` gives untrained ones only where no archive of the model has trained ones.

    Raises:
        UserError: there are no such weights, or they are not those that the archive must have.
    """
    strict = options.weights == "auto" and _trained(recipe.name, options.store)
    weights = resolve(recipe, "pretrained" if strict else options.weights, options.cache, options.recipe.parent)
    if options.same_weights is not None and options.same_weights != weights.sha256:
        raise UserError(
            f"{recipe.name}: the model's archives have weights {options.same_weights[:12]}, but WEIGHTS="
            f"{options.weights} is {weights.sha256[:12]} now; build the archive from theirs with `make archive "
            f"MODEL={recipe.name} RUNTIME={options.runtime} PRECISION={options.precision} WEIGHTS=<their file>`"
        )
    return weights


def _trained(model: str, store: Path) -> bool:
    for name, path in versions_in(store):
        with contextlib.suppress(UserError):  # a broken archive has no weights that could be lost
            if name.model == model and read_archive_identity(path).model.weights != UNTRAINED:
                return True
    return False


def _name(options: Options, recipe: Recipe, variant: Variant, inputs: dict[str, str]) -> ArchiveName:
    """The name of the archive to build. For VERSION=next, the newest version if it has this very content."""
    if options.version != NEXT:
        return options.name(recipe.name, checked(options.version or variant.version))
    wanted = options.name(recipe.name, variant.version)
    versions = [item for item in versions_in(options.store) if item[0].variant == wanted.variant]
    if versions:
        name, path = max(versions, key=lambda item: item[0].age)
        if name.archive_format == wanted.archive_format and is_unchanged(path, inputs):
            return name
    return replace(wanted, version=next_version(wanted, recipe, options.store))


def next_version(wanted: ArchiveName, recipe: Recipe, store: Path) -> str:
    """The version after the newest one of an archive, which no other archive of the model has.

    1.0 is followed by 1.0.1 and 1.0.2: after the recipe's own version a number is added, because 1.1 may be another
    archive's; of a later version the last number is raised.

    Args:
        wanted: the archive, with the recipe's version.
        recipe: the recipe, whose versions are taken.
        store: the folder of the archives, whose versions are taken.
    """
    there = [name for name, _ in versions_in(store) if name.model == wanted.model]
    others = [one for one in recipe.archives if (one.runtime, one.precision) != (wanted.runtime, wanted.precision)]
    taken = {name.age for name in there} | {numbers(one.version) for one in others}
    newest, version = max((name.age for name in there if name.variant == wanted.variant), default=()), wanted.age
    if newest == version:
        version = (*version, 1)
    elif newest > version:
        version = _raised(newest)
    while version in taken:
        version = _raised(version)
    return ".".join(map(str, version))


def _raised(version: tuple[int, ...]) -> tuple[int, ...]:
    return (*version[:-1], version[-1] + 1)


def _check(target: Path, name: ArchiveName, inputs: dict[str, str], options: Options, recipe: Recipe) -> None:
    """Refuse to build what would change a version, or give one version to two archives.

    Raises:
        UserError: the version is taken; the message says by what, and the ways on.
    """
    for other, path in versions_in(options.store):
        if (other.model, other.age) != (name.model, name.age):
            continue
        if (other.variant, other.version) != (name.variant, name.version):  # as numbers, 1.00 is 1.0
            raise UserError(
                f"version {name.version} of {name.model} is {path.name}; each archive of a model needs a version of "
                f"its own, by which TorchServe tells them apart: VERSION={_free(options, recipe)}, or VERSION=next"
            )
    served = is_registered(target, options.state)
    if not (served or target.exists()):
        return
    record = own_record(target)
    changed = (
        ["unknown: there is no record of how this file was built"] if record is None else record.differences(inputs)
    )
    decisive = record is None or not set(DECISIVE).isdisjoint(changed)
    if changed and (served or (decisive and not options.force)):
        _refuse(target, _in_words(changed, record, inputs), options, recipe, served=served)


def _free(options: Options, recipe: Recipe) -> str:
    variant = recipe.variant(options.runtime, options.precision)
    return next_version(options.name(recipe.name, variant.version), recipe, options.store)


def _in_words(changed: list[str], record: Record | None, inputs: dict[str, str]) -> str:
    old = {} if record is None else record.inputs
    return "; ".join(f"{one} (was {old[one][:12]}, is {inputs[one][:12]})" if one in old else one for one in changed)


def _refuse(target: Path, changed: str, options: Options, recipe: Recipe, *, served: bool) -> NoReturn:
    free = _free(options, recipe)
    force = "FORCE=1 replaces it; no server here has it."
    if served:
        force = f"FORCE=1 does not replace it: the server of {options.state} has it, or gets it back when it starts."
    raise UserError(
        f"{target}: this version exists, and a version is immutable. What differs: {changed}.\n"
        f"Build a new version with VERSION={free}, or with VERSION=next, which finds the next free one for each "
        f"archive. {force}"
    )


def main() -> None:
    """Build the archive that the command line describes: the JSON of `Options`, and a digest to record."""
    target, report = release(Options.read(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
    if report is None:
        step(f"{target} is up to date")
        return
    size = sum(path.stat().st_size for path in target.rglob("*")) if target.is_dir() else target.stat().st_size
    done(
        f"{target} ({size / 1e6:.0f} MB), max |Δlogit| {report.max_abs_logit:.1e}, "
        f"top-1 {report.top1_agreement:.0%}, top-5 {report.top5_agreement:.0%}"
        + (f", calibrated on {report.calibration_pictures} pictures" if report.calibration_pictures else "")
    )
