"""Adopts an archive that was built for TorchServe's own image_classifier."""

import hashlib
import json
import lzma
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Final

from classifier.own_code import OF_EVERY_ARCHIVE
from classifier.places import ProgramKind

from scripts.adopting.adoption import Adoption, Request, labels_in, model_name
from scripts.building.checkpoint import kind_of, read_checkpoint
from scripts.console import UserError

_MANIFEST: Final = "MAR-INF/MANIFEST.json"
_HANDLER: Final = "image_classifier"
_LABELS: Final = "index_to_name.json"
_MOST_BYTES: Final = 8 << 30  # of all files together, unpacked
_PINNED: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])? ?== ?[A-Za-z0-9.!+_-]+( ?;.*)?$")
_NAMES: Final = ("modelName", "modelFile", "serializedFile", "requirementsFile", "handler")  # of the manifest
_UNPACKED: Final = "weights"
_DIGITS: Final = 8  # of a digest in a file's name
_PROGRAMS: Final[dict[str, ProgramKind]] = {"torchscript": "torchscript", "onnx": "onnx"}


def adopt_stock(path: Path, request: Request) -> Adoption:
    """Adopt an archive of the stock handler: its model file, weights and labels. None of its code runs here.

    Raises:
        UserError: it has another handler, or lacks something, or its names lead out of it.
    """
    if request.architecture is not None or request.weights is not None:
        raise UserError(f"{path} has an architecture and weights: leave ARCHITECTURE= and WEIGHTS= out")
    with zipfile.ZipFile(path) as archive:
        members = _members(archive, path)
        manifest = _manifest(members, path)
        unpacked = request.scratch / _UNPACKED
        unpacked.write_bytes(_part(members, manifest, "serializedFile", path))
    name = request.name or model_name(str(manifest.get("modelName", path.stem)))
    adoption = Adoption(name=name, source=f"{path.name}, an archive of TorchServe's {_HANDLER}")
    adoption.weights = unpacked
    kind = kind_of(unpacked)
    if kind in _PROGRAMS:
        adoption.fields["program"] = (
            f"{_PROGRAMS[kind]}:{_keep(adoption, request, PurePosixPath(manifest['serializedFile']))}"
        )
        adoption.fields["scores"] = "softmax"
        adoption.take(f"the program from {manifest['serializedFile']}; softmax of its outputs, as {_HANDLER} does")
    else:
        _eager(adoption, request, members, manifest, path)
    adoption.take(f"input: resize to 256, crop to 224, ImageNet's normalisation, as {_HANDLER} does")
    adoption.fields["answers"] = "stock"
    adoption.take("answers: stock, so that clients get what they got; remove that line for the answers of docs/http.md")
    if _LABELS in members:
        (request.scratch / _LABELS).write_bytes(members[_LABELS])
        adoption.labels = labels_in(request.scratch / _LABELS)
        adoption.take(f"{len(adoption.labels)} classes from {_LABELS}")
    return adoption


def _eager(
    adoption: Adoption, request: Request, members: dict[str, bytes], manifest: dict[str, Any], path: Path
) -> None:
    """Take the model file into handlers/, what it needs beside it, and the weights."""
    if "modelFile" not in manifest:
        raise UserError(f"{path} has a checkpoint but no model file, without which nobody can build the model")
    checkpoint = read_checkpoint(request.scratch / _UNPACKED)
    source = _part(members, manifest, "modelFile", path)
    module = f"{adoption.name}_net"
    adoption.files[request.handlers / f"{module}.py"] = source
    adoption.fields["architecture"] = module
    adoption.files |= _helpers(members, manifest["modelFile"], module, request.handlers, path)
    adoption.fields["weights"] = _keep(adoption, request, PurePosixPath("weights.pth"))
    adoption.take(f"the architecture from {manifest['modelFile']}; read it before you build: then its code runs")
    adoption.take(f"the weights from {manifest['serializedFile']}, {len(checkpoint.get('', {}))} tensors")
    adoption.weights = None
    if (wanted := manifest.get("requirementsFile")) in members:
        _require(adoption, members[str(wanted)].decode(errors="replace"))


def _helpers(members: dict[str, bytes], model_file: str, module: str, handlers: Path, path: Path) -> dict[Path, bytes]:
    """The modules beside the model file, which it may import, by where they go.

    Raises:
        UserError: one would take the place of the model's own file, of a file of this project or of another model.
    """
    names = [name for name in members if name.endswith(".py") and "/" not in name and name != model_file]
    found = {handlers / name: members[name] for name in sorted(names) if name.removesuffix(".py").isidentifier()}
    for target, content in found.items():
        if target.stem == module:
            raise UserError(f"{path} has a module {target.name}, as the model file will be called: pass NAME=<another>")
        beside = target.with_suffix("").is_dir() or target.stem in OF_EVERY_ARCHIVE
        if beside or (target.exists() and target.read_bytes() != content):
            raise UserError(
                f"{path} brings {target.name}, but {target.parent} has another module of that name, which FORCE=1 does "
                "not replace: rename it in the archive, and where it is imported; or remove yours, if no model needs it"
            )
    return found


def _require(adoption: Adoption, text: str) -> None:
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    pinned = [line for line in lines if _PINNED.match(line)]
    if pinned:
        adoption.fields["requirements"] = pinned
        adoption.take(f"requirements: {', '.join(pinned)}")
    if loose := [line for line in lines if line and line not in pinned]:
        adoption.assume("requirements", pinned, f"not needed, because no exact version is given: {', '.join(loose)}")


def _keep(adoption: Adoption, request: Request, name: PurePosixPath) -> str:
    """Have the unpacked file written beside the recipe; its place, as a recipe writes it."""
    content = (request.scratch / _UNPACKED).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    kept = request.recipes / f"{adoption.name}-{sha256[:_DIGITS]}{name.suffix}"
    adoption.files[kept] = content
    return f"{kept.name}#sha256={sha256}"


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, bytes]:
    """The files of an archive by name."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if ".." in parts or entry.filename.startswith("/") or "\\" in entry.filename:
            raise UserError(f"{path}: the name {entry.filename!r} leads out of the archive")
    if len({entry.filename for entry in entries}) < len(entries):
        raise UserError(f"{path}: two of its files have the same name")
    if sum(entry.file_size for entry in entries) > _MOST_BYTES:
        raise UserError(f"{path} unpacks to more than {_MOST_BYTES >> 30} GiB")
    try:
        return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _manifest(members: dict[str, bytes], path: Path) -> dict[str, Any]:
    try:
        model = json.loads(members[_MANIFEST])["model"]
        handler = model["handler"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: {_MANIFEST} says nothing of a model and its handler") from error
    if odd := [key for key in _NAMES if not isinstance(model.get(key, ""), str)]:
        raise UserError(f"{path}: {_MANIFEST} has {odd[0]} {model[odd[0]]!r}, which is no name")
    if handler != _HANDLER:
        own = " (this project built it: its recipe is recipe.yaml in it)" if "recipe.yaml" in members else ""
        raise UserError(
            f"{path} has the handler {handler}{own}; only archives of TorchServe's own {_HANDLER} can be adopted. Give "
            "the checkpoint and ARCHITECTURE= instead"
        )
    found: dict[str, Any] = model
    return found


def _part(members: dict[str, bytes], manifest: dict[str, Any], key: str, path: Path) -> bytes:
    name = manifest.get(key)
    if name not in members:
        raise UserError(f"{path}: {_MANIFEST} names {key} {name}, which is not in the archive")
    return members[name]
