"""Makes a baseline of an archive's answers, with which live traffic is compared: `make baseline`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from classifier.baseline import OTHER, Baseline
from classifier.pipeline import Classifier
from classifier.problems import Problem
from classifier.recipe import read_recipe
from classifier.record import Record

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, chosen_archive
from scripts.building.make import RECIPES, recipe_file
from scripts.console import UserError, done, progress, step, warn
from scripts.measuring.evaluate import is_picture

_BATCH: Final = 64  # pictures decoded at a time
# Even without any change, the index of a comparison of n answers with m pictures in b bins is about
# (b - 1) * (1/n + 1/m), the mean of a chi-squared distribution; with 20 bins 0.1 for 200 pictures and 0.02 for 1,000.
_FEWEST: Final = 100
_FEW: Final = 1000
_CLASSES: Final = 19  # with a bin of their own
_LEAST: Final = 0.02  # share of such a class
_BOUNDS: Final = 10  # bins of probability


def baseline_of(labels: Sequence[str], confidences: Sequence[float]) -> Baseline:
    """The baseline of answers.

    Args:
        labels: the likeliest class of each picture, by id and name.
        confidences: its probability.

    Returns:
        Bins for the most frequent classes, and for probabilities such that each has about as many pictures.
    """
    number = len(labels)
    frequent = {
        name: count / number for name, count in Counter(labels).most_common(_CLASSES) if count >= _LEAST * number
    }
    quantiles = np.quantile(confidences, np.linspace(0, 1, _BOUNDS + 1)[1:-1], method="lower")
    bounds = [*sorted({bound for bound in map(_rounded, quantiles) if bound < 1}), 1.0]
    inside = np.bincount(np.searchsorted(bounds, np.minimum(confidences, 1.0)), minlength=len(bounds))
    return Baseline(
        pictures=number,
        classes=frequent | {OTHER: max(0.0, 1 - sum(frequent.values()))},
        bounds=bounds,
        confidence=[float(count / number) for count in inside],
    )


def _rounded(bound: float) -> float:
    return round(float(bound), 4)


def _answers(classifier: Classifier, pictures: Sequence[Path], title: str) -> Iterator[tuple[str, float]]:
    """The likeliest class of each picture that can be read, and its probability."""
    remaining, unreadable = iter(pictures), 0
    with progress(title, len(pictures)) as advance:
        while batch := list(islice(remaining, _BATCH)):
            record = Record()
            found = classifier.classify([path.read_bytes() for path in batch], [1] * len(batch), record)
            unreadable += sum(isinstance(answer, Problem) for answer in found)
            for scores in record.scores:
                best = int(scores.argmax())
                yield classifier.labels[best].full_name, float(scores[best])
            advance(len(batch))
    if unreadable:
        warn(f"{unreadable} of {len(pictures)} pictures could not be classified, and are left out")


def main(
    data: Path,
    *,
    model: str | None = None,
    archive: str | None = None,
    recipes: Path = RECIPES,
    store: Path = STORE,
) -> None:
    """Write how a model answers pictures like those that it was made for, to compare live traffic with.

    Args:
        data: a folder of such pictures, with or without folders inside; 1,000 or more.
        model: name of the model; without it, the one model that lies in the store.
        archive: the archive that answers; the model's first one without it.
        recipes: folder of the recipes, beside which the baseline is written.
        store: folder of the archives.
    """
    found = chosen_archive(archive, model, store)
    name = found.identity.model.name
    recipe = recipe_file(name, recipes)
    pictures = sorted(path for path in data.rglob("*") if path.is_file() and is_picture(path))
    if len(pictures) < _FEWEST:
        raise UserError(f"DATA={data}: {len(pictures)} pictures are too few to compare with; take {_FEW:,} or more")
    if len(pictures) < _FEW:
        warn(f"{len(pictures)} pictures are few: chance alone will look like a change; take {_FEW:,} or more")
    with loaded(found.path) as classifier:
        labels, confidences = zip(*_answers(classifier, pictures, found.path.name), strict=True)
    path = recipes / f"{name}.baseline.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(baseline_of(labels, confidences))) + b"\n")
    done(str(path))
    if read_recipe(recipe).baseline != path.name:
        step(f"write `baseline: {path.name}` into {recipe}: `make archive` puts it into the archives")
