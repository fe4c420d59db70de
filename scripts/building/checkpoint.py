"""Reads checkpoints as training left them, without running anything that they carry.

A state_dict may be the file itself or stand in it beside other things, with names that begin differently from the
architecture's: DataParallel, torch.compile, Lightning and others put a prefix before them (fitting.py).
"""

import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scripts.building import inert_pickle
from scripts.console import UserError, warn

StateDict = dict[str, Tensor]
Kind = Literal["checkpoint", "safetensors", "torchscript", "export", "onnx", "archive"]

_DEPTH: Final = 4  # of dictionaries in dictionaries
_SHOWN: Final = 3  # names in a message
_FIRST_FIELD: Final = 8  # of an ONNX file: the byte before the version of its format
_ONNX_VERSIONS: Final = range(3, 32)  # of its format, and some to come
_PROGRAMS: Final[dict[Kind, str]] = {
    "torchscript": "a TorchScript program",
    "export": "a program of torch.export",
    "onnx": "an ONNX model",
    "archive": "an archive of TorchServe",
}
_PICKLED: Final = """\
{path} holds a pickled module{place}: its code is not in the file, and to read it would run whatever the file says. \
Where it was trained, run
    model = torch.load("{name}", weights_only=False){key}
    torch.save(model.state_dict(), "{stem}-weights.pth")
and use {stem}-weights.pth"""


def kind_of(path: Path) -> Kind:
    """What a file is, by its content; a checkpoint, if it is nothing else.

    Raises:
        UserError: it is a damaged zip file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = {name.partition("/")[2] or name for name in archive.namelist()}
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise UserError(f"{path} is damaged: {error}; copy it anew from where it was made") from error
        if "MANIFEST.json" in names:  # in MAR-INF/
            return "archive"
        if names & {"archive_format", "serialized_exported_program.json"}:
            return "export"
        return "torchscript" if "constants.pkl" in names else "checkpoint"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    is_onnx = path.suffix == ".onnx" or (len(head) > 1 and head[0] == _FIRST_FIELD and head[1] in _ONNX_VERSIONS)
    return "onnx" if is_onnx else "checkpoint"


def read_checkpoint(path: Path) -> dict[str, StateDict]:
    """All state_dicts of a file by their keys in it, on the CPU, in the file's own dtypes.

    The file's own dictionary has the key `""`; a key inside another follows it after a dot, as in `model.ema`. torch's
    formats since 0.1.10 and safetensors are read, whatever device they were saved on. No code of the file runs.

    Raises:
        UserError: it is another kind of file, holds a pickled module or no tensor with a name, or is damaged.
        OSError: it cannot be read.
    """
    kind = kind_of(path)
    if kind in _PROGRAMS:
        raise UserError(f"{path} is {_PROGRAMS[kind]}, not weights; `make adopt FROM={path}` makes a recipe of it")
    content = _safetensors(path) if kind == "safetensors" else _torch(path)
    odd: dict[str, str] = {}
    found = dict(_state_dicts(content, "", _DEPTH, set(), odd))
    left_out = (
        f"{len(odd)} tensors cannot be used: {_first_of(odd)}; save them dense, with values and in floating point"
    )
    if not found:
        _refuse_modules(content, path)
        why = left_out if odd else "save model.state_dict()"
        raise UserError(f"{path} has no state_dict, a dictionary of tensors by name; {why}")
    if odd:
        warn(f"{path.name}: {left_out}")
    return found


def _first_of(odd: dict[str, str]) -> str:
    """The first tensors that cannot be used, and how many more there are."""
    more = len(odd) - _SHOWN
    shown = ", ".join(f"{name} is {kind}" for name, kind in list(odd.items())[:_SHOWN])
    return shown + (f", and {more} more" if more > 0 else "")


def _safetensors(path: Path) -> StateDict:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is no whole file of safetensors: {error}") from error


def _torch(path: Path) -> Any:
    if tarfile.is_tarfile(path):
        raise UserError(f"{path} was written by a torch before 0.1.10; save it anew with a later one")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the sources of classes, which are not loaded
            return torch.load(
                path,
                map_location="cpu",
                pickle_module=inert_pickle,
                weights_only=False,  # which refuses files with any other object; inert_pickle makes those inert
                mmap=zipfile.is_zipfile(path),
                encoding="latin1",  # of Python 2's strings, NumPy's bytes included
            )
    except Exception as error:  # torch.load raises the exceptions of several readers
        raise UserError(f"{path} is no checkpoint that torch can read, or is damaged: {error}") from error


def _state_dicts(
    content: Any, key: str, depth: int, seen: set[int], odd: dict[str, str]
) -> Iterator[tuple[str, StateDict]]:
    """The dictionaries with tensors in `content`, itself first. One that stands in several places is found once.

    Tensors of kinds that cannot be read are put into `odd`: their kinds by name.
    """
    if isinstance(content, list | tuple):
        content = {str(index): item for index, item in enumerate(content)}
    if not isinstance(content, dict) or id(content) in seen:
        return
    seen.add(id(content))
    named = {name: item for name, item in content.items() if isinstance(name, str)}
    if tensors := {name: item.detach() for name, item in named.items() if isinstance(item, Tensor)}:
        yield key, tensors
    for name, item in named.items():
        place = f"{key}.{name}" if key else name
        if isinstance(item, inert_pickle.OddTensor):
            odd[place] = str(item.state)
        elif depth:
            yield from _state_dicts(item, place, depth - 1, seen, odd)


def _refuse_modules(content: Any, path: Path) -> None:
    within = content.items() if isinstance(content, dict) else ()
    for key, item in [(None, content), *within]:
        if isinstance(item, inert_pickle.Inert) and isinstance(item.state, dict) and "_parameters" in item.state:
            place, index = ("", "") if key is None else (f" under {key!r}", f"[{key!r}]")
            raise UserError(_PICKLED.format(path=path, place=place, name=path.name, key=index, stem=path.stem))
