"""Fits a checkpoint to an architecture: which of its state_dicts it is, and what stands before the names."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import torch
from torch import Tensor

from scripts.building.checkpoint import StateDict
from scripts.console import UserError

_COUNTER: Final = "num_batches_tracked"  # of BatchNorm, which no answer depends on; torch < 0.4.1 had none
_AVERAGED: Final = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
_SHOWN: Final = 3  # names in a message


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
    fitting = _fitting(tried, prefix)
    if not fitting:
        unwrapped = {key: {_unwrapped(name): item for name, item in found.items()} for key, found in entries.items()}
        fitting = _fitting(_candidates(unwrapped, wanted, prefix), prefix)
    if not fitting:
        asked = [candidate for candidate in tried if prefix in (None, candidate.prefix)]
        raise max(asked, key=lambda candidate: candidate.score).misfit()
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
    """Each entry with each prefix that stands in it, and with the one that is asked for."""
    return [
        _Candidate(key, start, tensors, wanted)
        for key, tensors in entries.items()
        for start in dict.fromkeys([*([] if prefix is None else [prefix]), *_prefixes(tensors, wanted)])
    ]


def _fitting(tried: list["_Candidate"], prefix: str | None) -> list["_Candidate"]:
    """Those that fit: what they leave over is nothing, or another whole copy of the weights, as a teacher's beside."""
    whole = [candidate for candidate in tried if candidate.whole]
    found = []
    for candidate in whole:
        starts = tuple(
            other.prefix
            for other in whole
            if other.entry == candidate.entry and other.prefix != candidate.prefix
            if other.prefix.startswith(candidate.prefix)
        )
        if all(f"{candidate.prefix}{name}".startswith(starts) for name in candidate.left):
            found.append(candidate)
    return [candidate for candidate in found if prefix in (None, candidate.prefix)]


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
    def whole(self) -> bool:
        """Whether nothing but counters is missing."""
        return not self.other_shape and all(map(_is_counter, self.missing))

    @property
    def left(self) -> list[str]:
        """What is left over, but for counters."""
        return [name for name in self.unexpected if not _is_counter(name) and name != _AVERAGED]

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
