"""Writes archives of a model as a model repository for NVIDIA's Triton: `make triton`.

There are four models: `<model>`, an ensemble, which clients call, and its steps `<model>_decode`, `<model>_network` and
`<model>_rank`. Each archive is a version of every step; the ensemble uses the version of the archive named last.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Final, Literal

import msgspec
from classifier.digests import DIGESTS_FILE, write_digests
from classifier.identity import IDENTITY_FILE, LABELS_FILE, RECIPE_FILE, UNTRAINED
from classifier.labels import read_labels
from classifier.recipe import Recipe, read_recipe

from scripts.archives.loaded import unpacked
from scripts.archives.runtimes import require_runtime
from scripts.archives.store import STORE, Archive, find_archive, model_in
from scripts.building.make import ensure
from scripts.console import UserError, done, step, warn_untrained

Backend = Literal["python", "onnxruntime"]

REPOSITORY: Final = Path("triton_repository")
STEPS: Final = ("decode", "network", "rank")

_SOURCES: Final = Path(__file__).with_name("models")
_PROBLEMS: Final = "triton_problems.py"  # the module that the Python models share
_CORE: Final = ("classifier", RECIPE_FILE, IDENTITY_FILE, LABELS_FILE)  # of an archive, for the steps without weights
_ONNX_FILE: Final = "model.onnx"  # the name that Triton's backend looks for


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """An unpacked archive as a version of a model."""

    folder: Path
    number: int  # as Triton counts
    serialized_file: str
    recipe: Recipe
    classes: int


def write_repository(archives: Sequence[Archive], backend: Backend, repository: Path) -> list[Path]:
    """Write the four models of an archive, or of several archives of one model; they replace existing ones.

    The same archives give the same bytes. Other models of the repository stay.

    Args:
        archives: the versions; the ensemble uses the last one.
        backend: what runs the network: Triton's own ONNX Runtime, or the archive's runtime in Triton's Python backend.
        repository: the folder to write into.

    Returns:
        The folders of the models, the ensemble's first.

    Raises:
        UserError: an archive is damaged, or the archives do not fit together.
    """
    check(archives, backend)
    model = archives[0].identity.model.name
    repository.mkdir(parents=True, exist_ok=True)
    names = [model, *(f"{model}_{name}" for name in STEPS)]
    with tempfile.TemporaryDirectory(dir=repository.parent, prefix=".triton-") as temporary:
        written = Path(temporary)
        tensors = set()
        for archive in archives:
            with unpacked(archive.path) as folder:
                version = _version(archive, folder)
                tensors.add((version.recipe.input.size, version.classes))
                _write_version(version, backend, written)
        if len(tensors) > 1:  # versions share a configuration
            raise UserError("the archives differ in input or number of labels; build all from the same recipe")
        (written / model / str(version.number)).mkdir(parents=True)  # Triton requires the folder, though it stays empty
        values = settings(version, backend)
        for name, source in zip(names, ("ensemble", *STEPS), strict=True):
            (written / name / "config.pbtxt").write_text(configuration(source, values))
        for name in names:  # the old models are removed only after all new ones are written
            shutil.rmtree(repository / name, ignore_errors=True)
            (written / name).rename(repository / name)
    return [repository / name for name in names]


def check(archives: Sequence[Archive], backend: Backend) -> None:
    """Refuse archives that cannot be versions of one model, each with a number of its own.

    Raises:
        UserError: the archives do not fit together; the message says what to do.
    """
    models = [archive.identity.model for archive in archives]
    if len({model.name for model in models}) != 1:
        raise UserError("ARCHIVE= must name archives of one model; call `make triton` once for each model")
    numbers = [version_number(model.version) for model in models]
    if len(set(numbers)) < len(numbers):
        raise UserError("two of the archives have the same version; build one of them with another VERSION=")
    for archive, model in zip(archives, models, strict=True):
        if backend == "onnxruntime" and model.runtime != "onnxruntime":
            raise UserError(f"{archive.path.name} is for {model.runtime}; BACKEND=python runs it, onnxruntime does not")


def version_number(version: str) -> int:
    """A recipe's version as the whole number that Triton needs, in the same order: 5.1 becomes 501.

    Raises:
        UserError: the version has more than two parts, or its number would be less than Triton's first, 1.
    """
    major, *minors = (int(part) for part in version.split("."))
    minor = minors[0] if minors else 0
    number = 100 * major + minor
    if len(minors) > 1 or minor > 99 or number < 1:
        raise UserError(f"version {version} has no number on Triton; build with VERSION=<1 or more>.<0 to 99>")
    return number


def settings(version: Version, backend: Backend) -> dict[str, str | int]:
    """The values for the configurations' templates, all of them from the archive. Triton's delay is in µs."""
    serving = version.recipe.serving
    height, width = version.recipe.input.size
    return {
        "model": version.recipe.name,
        "version": version.number,
        "backend": backend,
        "batch_size": serving.batch_size,
        "delay_us": 1000 * serving.max_batch_delay_ms,
        "workers": serving.workers,
        "threads": serving.threads if isinstance(serving.threads, int) else 0,
        "height": height,
        "width": width,
        "classes": version.classes,
    }


def configuration(source: str, values: Mapping[str, str | int]) -> str:
    """The config.pbtxt of the ensemble or of a step."""
    return Template((_SOURCES / f"{source}.pbtxt").read_text()).substitute(values)


def _version(archive: Archive, folder: Path) -> Version:
    return Version(
        folder=folder,
        number=version_number(archive.identity.model.version),
        serialized_file=archive.identity.serialized_file,
        recipe=read_recipe(folder / RECIPE_FILE),
        classes=len(read_labels(folder / LABELS_FILE)),
    )


def _write_version(version: Version, backend: Backend, repository: Path) -> None:
    """Write a version of each step, each with the core, as in an archive, and with digests of all its files."""
    for name in STEPS:
        folder = repository / f"{version.recipe.name}_{name}" / str(version.number)
        folder.mkdir(parents=True)
        if name == "network" and backend == "onnxruntime":
            _copy_onnx(version, folder)
            continue
        everything = sorted(path.name for path in version.folder.iterdir() if path.name != DIGESTS_FILE)
        for content in everything if name == "network" else _CORE:
            _copy(version.folder / content, folder / content)
        shutil.copyfile(_SOURCES / f"{name}.py", folder / "model.py")
        shutil.copyfile(_SOURCES / _PROBLEMS, folder / _PROBLEMS)
        write_digests(folder)


def _copy_onnx(version: Version, folder: Path) -> None:
    """Copy an ONNX graph under the name that Triton looks for, and its weights under the name that the graph has."""
    for path in version.folder.glob(f"{version.serialized_file}*"):
        shutil.copyfile(path, folder / (_ONNX_FILE if path.name == version.serialized_file else path.name))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)


def main(
    *,
    model: str | None = None,
    archive: tuple[str, ...] = (),
    backend: Backend = "python",
    output: Path = REPOSITORY,
    store: Path = STORE,
) -> None:
    """Write a model repository for NVIDIA's Triton.

    Args:
        model: model whose ONNX Runtime archive is used; without it, the one model that lies in the store.
        archive: archives to use instead, each a version; the last one answers.
        backend: backend of the network: Triton's own ONNX Runtime, or its Python backend with the archive's runtime.
        output: the repository to write into.
        store: folder of the archives.
    """
    if not archive:
        name = model or model_in(store)
        ensure(name, ("onnxruntime", "float32"), store=store)
        archive = (f"{name}-onnxruntime",)
    archives = [find_archive(name, store) for name in archive]
    for found in archives:
        if found.identity.model.weights == UNTRAINED:
            warn_untrained(found.path.name, "Build with WEIGHTS=pretrained, or WEIGHTS=<your state_dict>.")
    if backend == "python":  # it runs in an environment that lies over this one
        for found in archives:
            require_runtime(found.identity)
    ensemble, *_ = write_repository(archives, backend, output)
    for found in archives:
        version = found.identity.model.version
        step(f"{found.path.name}, version {version}, is version {version_number(version)} there")
    done(f"{ensemble} and its steps {', '.join(STEPS)}; the network on Triton's {backend} backend")
