"""A baseline: how a model answered pictures like those that it was made for. Live traffic is compared with it.

It has shares of the likeliest classes, and of the probability that each had, both in a few bins: so many that a change
shows, and so few that some hundred answers fill them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from classifier.errors import DECODE_ERRORS, UnusableError
from classifier.labels import Label

BASELINE_FILE: Final = "baseline.json"  # in an archive
OTHER: Final = "other"  # the bin of all classes that have none of their own
_Share = Annotated[float, Meta(ge=0, le=1)]
_ROUNDING: Final = 1e-3


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shares. Bins of probability have upper bounds, the last of which is 1."""

    pictures: Annotated[int, Meta(ge=1)]
    classes: dict[str, _Share]  # by id and name of the class; OTHER for the rest
    bounds: Annotated[list[_Share], Meta(min_length=1)]
    confidence: list[_Share]  # of the bins, in their order

    def __post_init__(self) -> None:
        """Refuse shares that are not of a whole, and bins without an order."""
        if OTHER not in self.classes or abs(sum(self.classes.values()) - 1) > _ROUNDING:
            raise ValueError(f"classes: expected shares that sum up to 1, that of {OTHER!r} among them")
        if sorted(set(self.bounds)) != self.bounds or self.bounds[-1] != 1:
            raise ValueError("bounds: expected upper bounds in ascending order, the last of them 1")
        if len(self.confidence) != len(self.bounds) or abs(sum(self.confidence) - 1) > _ROUNDING:
            raise ValueError("confidence: expected a share for each of the bounds, which sum up to 1")

    def class_bin(self, name: str) -> str:
        """The bin of a class, by its id and name."""
        return name if name in self.classes else OTHER

    def confidence_bin(self, confidence: float) -> str:
        """The bin of a probability: its upper bound."""
        return _name(self.bounds[min(bisect_left(self.bounds, confidence), len(self.bounds) - 1)])

    def shares(self) -> dict[tuple[str, str], float]:
        """The share of each bin, by what is compared (`class`, `confidence`) and the bin."""
        by_confidence = zip(map(_name, self.bounds), self.confidence, strict=True)
        return {("class", name): share for name, share in self.classes.items()} | {
            ("confidence", name): share for name, share in by_confidence
        }


def _name(bound: float) -> str:
    return f"{bound:.4g}"


def read_baseline(path: Path, labels: Sequence[Label]) -> Baseline:
    """Read a baseline.

    Args:
        path: its file.
        labels: the classes of the model.

    Raises:
        UnusableError: the file is no baseline, or one of a model with other classes.
        OSError: it cannot be read.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Baseline)
    except DECODE_ERRORS as error:
        raise UnusableError(f"{path}: {error}") from error
    known = {label.full_name for label in labels}
    if unknown := [name for name in found.classes if name != OTHER and name not in known]:
        raise UnusableError(f"{path}: {', '.join(unknown)}: no class of this model; make the baseline again")
    return found
