"""Compares all archives of a model: their answers, their size, and the speed of the bare model."""

import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from classifier.pipeline import Classifier
from numpy.typing import NDArray
from rich.table import Column, Table

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, archives_of, model_in
from scripts.building.golden import VIEWS, golden_pixels, golden_set, labelled, view_pixels
from scripts.console import out, progress

_ROUNDS: Final = 5  # of timing, a few batches each


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One archive compared with the float32 eager archive."""

    name: str
    megabytes: float
    agreement: float  # share of the views of labelled photographs with the same top-1
    golden_agreement: float  # share of the golden set, half of which are textures
    max_abs_logit: float  # over the golden set
    rate: float  # pictures a second of the bare forward pass in batches of the recipe's size


def compare_archives(model: str, store: Path, count: int = VIEWS) -> list[Comparison]:
    """Compare all archives of a model with its float32 eager archive.

    Raises:
        UserError: the float32 eager archive is missing, or an archive cannot be loaded.
    """
    archives = archives_of(model, store)
    found: list[Comparison] = []
    reference: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    with progress(f"archives of {model}", len(archives)) as advance:
        for archive in archives:
            with loaded(archive.path) as classifier:
                golden = classifier.logits(golden_pixels(golden_set(), classifier.recipe))
                viewed = classifier.logits(view_pixels(classifier.recipe.input, count))
                reference = reference or (golden, viewed)
                found.append(
                    Comparison(
                        name=archive.path.name,
                        megabytes=archive.path.stat().st_size / 1e6,
                        agreement=_agreement(viewed, reference[1]),
                        golden_agreement=_agreement(golden, reference[0]),
                        max_abs_logit=float(np.abs(golden - reference[0]).max()),
                        rate=_rate(classifier),
                    )
                )
            advance(1)
    return found


def _agreement(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    return float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean())


def _rate(classifier: Classifier) -> float:
    spec, size = classifier.recipe.input, classifier.recipe.serving.batch_size
    pixels = np.random.default_rng(0).integers(0, 256, (size, *spec.size, 3), np.uint8)
    classifier.forward(pixels)
    took = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        classifier.forward(pixels)
        took.append(time.perf_counter() - begin)
    return size / float(np.median(took))


def table(found: list[Comparison], pictures: int) -> Table:
    """Format comparisons as a table."""
    result = Table(
        Column("archive", no_wrap=True),
        "MB",
        f"top-1 as the first, {pictures} views",
        "… golden set",
        "max |Δlogit|",
        "pictures/s, bare model",
    )
    for item in found:
        result.add_row(
            item.name,
            f"{item.megabytes:.0f}",
            f"{item.agreement:.1%}",
            f"{item.golden_agreement:.1%}",
            f"{item.max_abs_logit:.1e}",
            f"{item.rate:.1f}",
        )
    return result


def main(*, model: str | None = None, store: Path = STORE, views: int = VIEWS) -> None:
    """Compare the answers, size and speed of a model's archives.

    Args:
        model: name of the model; without it, the one model that lies in the store.
        store: folder of the archives.
        views: number of crops of each labelled photograph to compare on.
    """
    found = compare_archives(model or model_in(store), store, views)
    out.print(table(found, views * len(labelled())))
