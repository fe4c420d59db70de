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
from scripts.building.golden import VIEWS, golden_pixels, golden_set, noise, objects, view_pixels
from scripts.console import UserError, out, progress

_ROUNDS: Final = 5  # of timing, a few batches each


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One archive compared with the float32 eager archive."""

    name: str
    megabytes: float
    agreement: float  # share of the views of photographs with the same top-1
    golden_agreement: float  # share of the golden set, of which scikit-image's is half textures
    max_abs_logit: float  # over the golden set
    rate: float  # pictures a second of the bare forward pass in batches of the recipe's size
    views: int


def compare_archives(model: str, store: Path, count: int = VIEWS, golden: Path | None = None) -> list[Comparison]:
    """Compare all archives of a model with its float32 eager archive.

    Args:
        model: name of the model.
        store: folder of the archives.
        count: views of each picture.
        golden: folder of the pictures to compare on; scikit-image's without it, of which the views are of photographs
            of an object.

    Raises:
        UserError: the float32 eager archive is missing, an archive cannot be loaded, or the folder has no pictures.
    """
    if count < 1:
        raise UserError(f"VIEWS={count}: at least 1")
    archives = archives_of(model, store)
    found: list[Comparison] = []
    pictures = objects(golden)
    reference: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    with progress(f"archives of {model}", len(archives)) as advance:
        for archive in archives:
            with loaded(archive.path) as classifier:
                whole = classifier.logits(golden_pixels(golden_set(golden), classifier.recipe))
                viewed = classifier.logits(view_pixels(classifier.recipe.input, pictures, count))
                reference = reference or (whole, viewed)
                found.append(
                    Comparison(
                        name=archive.path.name,
                        megabytes=archive.path.stat().st_size / 1e6,
                        agreement=_agreement(viewed, reference[1]),
                        golden_agreement=_agreement(whole, reference[0]),
                        max_abs_logit=float(np.abs(whole - reference[0]).max()),
                        rate=_rate(classifier),
                        views=len(viewed),
                    )
                )
            advance(1)
    return found


def _agreement(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    return float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean())


def _rate(classifier: Classifier) -> float:
    size = classifier.recipe.serving.batch_size
    pixels = noise(classifier.recipe.input, size)
    classifier.forward(pixels)
    took = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        classifier.forward(pixels)
        took.append(time.perf_counter() - begin)
    return size / float(np.median(took))


def table(found: list[Comparison]) -> Table:
    """Format comparisons as a table."""
    result = Table(
        Column("archive", no_wrap=True),
        "MB",
        f"top-1 as the first, {found[0].views} views",
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


def main(*, model: str | None = None, golden: Path | None = None, store: Path = STORE, views: int = VIEWS) -> None:
    """Compare the answers, size and speed of a model's archives.

    Args:
        model: name of the model; without it, the one model that lies in the store.
        golden: folder of pictures to compare on; scikit-image's without it.
        store: folder of the archives.
        views: number of crops of each picture to compare on.
    """
    out.print(table(compare_archives(model or model_in(store), store, views, golden)))
