"""Reads checkpoints as training left them, without running anything that they carry, and fits them to an architecture.

A state_dict may be the file itself or stand in it beside other things, with names that begin differently from the
architecture's: DataParallel, torch.compile, Lightning and others put a prefix before them.
"""

import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scripts.building import inert_pickle
from scripts.console import UserError

StateDict = dict[str, Tensor]
Kind = Literal["checkpoint", "safetensors", "torchscript", "export", "onnx", "archive"]

_DEPTH: Final = 4  # of dictionaries in dictionaries
_COUNTER: Final = "num_batches_tracked"  # of BatchNorm, which no answer depends on; torch < 0.4.1 had none
_AVERAGED: Final = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
_SHOWN: Final = 3  # names in a message
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


class Fitted(msgspec.Struct, frozen=True):
    """A state_dict with the architecture's own names, and where it was found."""

    entry: str  # its key in the file; empty if the file is the state_dict
    prefix: str  # taken off the names
    state_dict: StateDict
    notes: list[str]  # what was added, left out or converted


class MisfitError(UserError):
    """A checkpoint is not of this architecture. `classes` is its number of classes, if only that differs."""

    def __init__(self, message: str, classes: int | None = None) -> None:
        super().__init__(message)
        self.classes = classes


def kind_of(path: Path) -> Kind:
    """What a file is, by its content; a checkpoint, if it is nothing else.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] or name for name in archive.namelist()}
        if "MANIFEST.json" in names:  # in MAR-INF/
            return "archive"
        if names & {"archive_format", "serialized_exported_program.json"}:
            return "export"
        return "torchscript" if "constants.pkl" in names else "checkpoint"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    # the first field of an ONNX file is the version of its format
    return "onnx" if path.suffix == ".onnx" or (head[:1] == b"\x08" and head[1] in _ONNX_VERSIONS) else "checkpoint"


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
    found = dict(_state_dicts(content, "", _DEPTH, set()))
    if not found:
        _refuse_modules(content, path)
        raise UserError(f"{path} has no state_dict, a dictionary of tensors by name; save model.state_dict()")
    return found


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


def _state_dicts(content: Any, key: str, depth: int, seen: set[int]) -> Iterator[tuple[str, StateDict]]:
    """The dictionaries with tensors in `content`, itself first. One that stands in several places is found once."""
    if isinstance(content, list | tuple):
        content = {str(index): item for index, item in enumerate(content)}
    if not isinstance(content, dict) or id(content) in seen:
        return
    seen.add(id(content))
    named = {name: item for name, item in content.items() if isinstance(name, str)}
    if tensors := {name: item.detach() for name, item in named.items() if isinstance(item, Tensor)}:
        yield key, tensors
    if depth:
        for name, item in named.items():
            yield from _state_dicts(item, f"{key}.{name}" if key else name, depth - 1, seen)


def _refuse_modules(content: Any, path: Path) -> None:
    within = content.items() if isinstance(content, dict) else ()
    for key, item in [(None, content), *within]:
        if isinstance(item, inert_pickle.Inert) and isinstance(item.state, dict) and "_parameters" in item.state:
            place, index = ("", "") if key is None else (f" under {key!r}", f"[{key!r}]")
            raise UserError(_PICKLED.format(path=path, place=place, name=path.name, key=index, stem=path.stem))


def fit(
    checkpoint: Mapping[str, StateDict],
    wanted: Mapping[str, torch.Size],
    entry: str | None = None,
    prefix: str | None = None,
) -> Fitted:
    """Find the state_dict of an architecture in a checkpoint.

    Args:
        checkpoint: state_dicts by their keys, as `read_checkpoint` gives them.
        wanted: the shapes of the architecture's own state_dict, by name.
        entry: the key to take; any that fits, if None.
        prefix: what to take off the names; any that fits, if None.

    Returns:
        Tensors of exactly the wanted names and shapes; floating ones in float32.

    Raises:
        MisfitError: none fits. The message tells how near the nearest is.
        UserError: several do, or there is no such entry.
    """
    if entry is not None and entry not in checkpoint:
        raise UserError(f"the checkpoint has no entry {entry!r}; it has {_listed(map(repr, checkpoint))}")
    entries = checkpoint if entry is None else {entry: checkpoint[entry]}
    tried = _candidates(entries, wanted, prefix)
    fitting = [candidate for candidate in tried if candidate.fits]
    if not fitting:
        unwrapped = {key: {_unwrapped(name): item for name, item in found.items()} for key, found in entries.items()}
        fitting = [candidate for candidate in _candidates(unwrapped, wanted, prefix) if candidate.fits]
    if not fitting:
        raise max(tried, key=lambda candidate: candidate.score).misfit()
    if len(fitting) > 1:
        ways = "; ".join(f"&entry={item.entry}&prefix={item.prefix}" for item in fitting)
        raise UserError(f"the checkpoint has {len(fitting)} state_dicts that fit; choose one in `weights`: {ways}")
    chosen = fitting[0].fitted()
    if fitting[0] not in tried:
        chosen.notes.append("'module.' or '_orig_mod.' is taken out of the middle of names")
    return chosen


def _candidates(
    entries: Mapping[str, StateDict], wanted: Mapping[str, torch.Size], prefix: str | None
) -> list["_Candidate"]:
    return [
        _Candidate(key, start, tensors, wanted)
        for key, tensors in entries.items()
        for start in ([prefix] if prefix is not None else _prefixes(tensors, wanted))
    ]


def _unwrapped(name: str) -> str:
    """A name without DataParallel and torch.compile around a part of the module: `features.module.0.weight`."""
    return name.replace(".module.", ".").replace("._orig_mod.", ".")


def _prefixes(names: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """What stands before the architecture's names in these names, the most frequent first; always at least one."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        starts = (".".join(parts[:count]) + "." if count else "" for count in range(len(parts)))
        counts.update(start for start in starts if name[len(start) :] in wanted)
    return [start for start, _ in counts.most_common()] or [""]


class _Candidate:
    """One entry with one prefix taken off its names, compared with what is wanted."""

    def __init__(self, entry: str, prefix: str, tensors: StateDict, wanted: Mapping[str, torch.Size]) -> None:
        self.entry, self.prefix, self.wanted = entry, prefix, wanted
        self.named = {name[len(prefix) :]: item for name, item in tensors.items() if name.startswith(prefix)}
        self.outside = [name for name in tensors if not name.startswith(prefix)]
        self.missing = [name for name in wanted if name not in self.named]
        self.unexpected = [name for name in self.named if name not in wanted]
        self.other_shape = [name for name, item in self.named.items() if item.shape != wanted.get(name, item.shape)]
        self.score = sum(wanted.get(name) == item.shape for name, item in self.named.items())

    @property
    def fits(self) -> bool:
        """Whether nothing but counters is missing or left over."""
        left = [name for name in self.unexpected if not _is_counter(name) and name != _AVERAGED]
        return not left and not self.other_shape and all(map(_is_counter, self.missing))

    def fitted(self) -> Fitted:
        """The tensors in the architecture's order, and what was done to them."""
        counters = torch.zeros((), dtype=torch.int64)
        found = {name: self.named.get(name, counters.clone()) for name in self.wanted}
        halves = {str(item.dtype).removeprefix("torch.") for item in found.values() if _is_other_float(item)}
        notes = [
            *([f"taken from the entry {self.entry!r}"] if self.entry else []),
            *([f"{self.prefix!r} is taken off the names"] if self.prefix else []),
            *([f"{len(self.missing)} counters {_COUNTER} are missing, and 0"] if self.missing else []),
            *([f"left out: {_listed(self.unexpected)}"] if self.unexpected else []),
            *([f"left out, because without {self.prefix!r}: {_listed(self.outside)}"] if self.outside else []),
            *([f"converted to float32 from {', '.join(sorted(halves))}"] if halves else []),
        ]
        tensors = {name: item.float() if _is_other_float(item) else item for name, item in found.items()}
        return Fitted(self.entry, self.prefix, tensors, notes)

    def misfit(self) -> MisfitError:
        """What is wrong, for people."""
        where = f" under {self.entry!r}" if self.entry else ""
        if self.prefix:
            where += f" without {self.prefix!r}"
        start = f"{self.score} of the architecture's {len(self.wanted)} names fit{where}"
        classes = self._classes()
        if classes is not None:
            have, want = classes
            text = f"the checkpoint has {have} classes, the architecture {want}: `arguments: {{num_classes: {have}}}`"
            return MisfitError(f"{start}; {text}", have)
        shapes = [
            f"{name} {list(self.named[name].shape)} instead of {list(self.wanted[name])}" for name in self.other_shape
        ]
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": shapes}
        return MisfitError("; ".join([start, *(f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names)]))

    def _classes(self) -> tuple[int, int] | None:
        """The checkpoint's number of classes and the architecture's, if they are all that differs.

        That is so if only the first lengths of some tensors differ, in the same way. Architectures with auxiliary
        classifiers have several layers of this kind.
        """
        others = [name for name in (*self.missing, *self.unexpected) if not _is_counter(name) and name != _AVERAGED]
        pairs = {(tuple(self.named[name].shape), tuple(self.wanted[name])) for name in self.other_shape}
        lengths = {(have[:1], want[:1]) for have, want in pairs}
        if others or len(lengths) != 1 or any(have[1:] != want[1:] or not have for have, want in pairs):
            return None
        ((have, want),) = lengths
        return have[0], want[0]


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == _COUNTER


def _is_other_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype != torch.float32


def _listed(names: Any) -> str:
    """The first names, and how many more there are."""
    every = list(names)
    more = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
