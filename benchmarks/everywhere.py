"""Asks every home of a model about the same pictures, and compares the answers: `make everywhere`."""

from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from classifier.labels import Label
from classifier.rank import Prediction, top_k
from numpy.typing import NDArray

from benchmarks.homes import Home, Model, all_homes
from edge import cpp_program, mobile, onnx_file
from edge.triton import repository
from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, find_archive, model_in
from scripts.building.golden import objects
from scripts.building.make import ensure_all
from scripts.console import UserError, done, show_table, step
from scripts.measuring.labelled import trial_pictures
from scripts.pages import markdown, replace_block

_SHOWN: Final = 4  # pictures
_WARM_UP, _ROUNDS = 5, 5  # untimed rounds, because servers compile while they answer; then timed rounds
# How far any class's probability may be from the reference's. `make parity` and `make mobile` measure the effect of
# lower precisions on more pictures.
_ALLOWED: Final = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05, "int8": 0.15}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of one home."""

    home: str
    precision: str
    best: list[Prediction]  # the likeliest class of each picture
    difference: float  # from the reference: the largest of any class's probability in any picture
    same: bool  # all likeliest classes are the reference's, or equally likely there within the tolerance
    megabytes: float
    milliseconds: float  # a picture: the mean of each picture's fastest round, because cores are shared


def visit(home: Home, pictures: list[Path], reference: NDArray[np.float32], labels: list[Label]) -> Row:
    """Ask a home about pictures, and compare its answers with the reference's probabilities [pictures,classes]."""
    rounds = [[home.ask(picture) for picture in pictures] for _ in range(_WARM_UP + _ROUNDS)]
    timed = [[answer.milliseconds for answer in answers] for answers in rounds[_WARM_UP:]]
    found = np.stack([answer.probabilities for answer in rounds[-1]])
    difference, allowed = float(np.abs(found - reference).max()), _ALLOWED[home.precision]
    # in a near tie either class may come first
    behind = reference.max(axis=1) - reference[range(len(found)), found.argmax(axis=1)]
    return Row(
        home=home.name,
        precision=home.precision,
        best=[top_k(row, labels, 1)[0] for row in found],
        difference=difference,
        same=difference <= allowed and bool((behind <= allowed).all()),
        megabytes=home.size / 1e6,
        milliseconds=float(np.mean([min(times) for times in zip(*timed, strict=True)])),
    )


class Compared(NamedTuple):
    """The pictures, and the answers of every home."""

    pictures: list[Path]
    rows: list[Row]


def compare_homes(model: str, store: Path, golden: Path | None = None) -> Compared:
    """Ask every home of a model about the pictures that it is surest of.

    Args:
        model: name of the model.
        store: folder of its archives.
        golden: folder of the pictures to choose from; scikit-image's without it.

    Raises:
        UserError: a home is not built; the message says how to build it.
    """
    with loaded(find_archive(f"{model}-eager", store).path) as classifier:
        chosen = trial_pictures(classifier, golden)[:_SHOWN]
        pictures = [path for path in objects(golden) if path in chosen]
        subject = Model(name=model, store=store, reference=classifier)
        reference = classifier.probabilities(np.concatenate([subject.pixels(picture) for picture in pictures]))
        rows = []
        with closing(all_homes(subject)) as homes:
            for home in homes:
                step(f"{home.name}, {home.precision}")
                rows.append(visit(home, pictures, reference, classifier.labels))
    return Compared(pictures, rows)


def cells(pictures: list[Path], rows: list[Row]) -> list[list[str]]:
    """The table of all homes: a head, and a line for each home."""
    head = ["home", "precision", *(path.name for path in pictures), "max Δp", "MB", "ms"]
    return [head] + [
        [
            row.home,
            row.precision,
            *(f"{item.class_name} {item.probability:.1%}" for item in row.best),
            f"{row.difference:.0e}",
            f"{row.megabytes:.1f}",
            f"{row.milliseconds:.1f}",
        ]
        for row in rows
    ]


def main(
    *, model: str | None = None, golden: Path | None = None, page: Path | None = None, store: Path = STORE
) -> None:
    """Ask every home of a model about the same photographs: are the answers the same?

    Args:
        model: name of the model; without it, the one model that lies in the store.
        golden: folder of pictures, of which those are shown that the model is surest of; scikit-image's without it.
        page: page of the documentation to write the table into.
        store: folder of the archives.
    """
    name = model or model_in(store)
    ensure_all(name, store=store)
    for build in (onnx_file.main, cpp_program.main, mobile.main, repository.main):
        build(model=name, store=store)
    pictures, rows = compare_homes(name, store, golden)
    lines = cells(pictures, rows)
    show_table(lines)
    if page:
        replace_block(page, "everywhere", markdown(lines))
    if odd := [f"{row.home}, {row.precision}" for row in rows if not row.same]:
        raise UserError(f"the answers differ from the reference's: {'; '.join(odd)}")
    done(f"{len(rows)} homes, the same answers")
