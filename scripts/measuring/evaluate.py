"""Measures an archive's top-1 and top-5 accuracy on labelled pictures, for example ImageNet's validation set."""

import re
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from classifier.labels import Label
from classifier.pipeline import Classifier
from classifier.problems import Problem
from classifier.rank import Prediction
from rich.table import Column, Table

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, archives_of, find_archive, model_in
from scripts.console import UserError, out, progress

_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_BATCH: Final = 64  # pictures decoded at a time
_TOP: Final = 5


class Labelled(msgspec.Struct, frozen=True):
    """A picture and the class that it shows."""

    path: Path
    class_id: str


class Score(msgspec.Struct, kw_only=True):
    """The result of evaluating one archive."""

    top1: int = 0
    top5: int = 0
    agreeing: int = 0  # pictures with the reference's top-1
    unreadable: int = 0
    pictures: int = 0
    seconds: float = 0.0


def find_pictures(folder: Path, labels: Sequence[Label], label_file: Path | None = None) -> list[Labelled]:
    """The labelled pictures of a folder.

    Args:
        folder: has a folder of pictures for each class, named by its id or its name; with `label_file`, has pictures.
        labels: the classes, in the order of the logits.
        label_file: each line has a picture's name and its class, by id or number, as in `val.txt` and ImageNet's
            `LOC_val_solution.csv`.

    Raises:
        UserError: there are no pictures, or the name of a folder or the class of a line is unknown.
    """
    if not folder.is_dir():
        raise UserError(f"DATA={folder}: there is no such folder")
    classes = _class_ids(labels)
    found = list(_by_line(folder, label_file, classes, labels) if label_file else _by_folder(folder, classes))
    if not found:
        raise UserError(
            f"DATA={folder}: no pictures; expected a folder for each class, for example "
            f"{labels[0].class_id} or {labels[0].class_name}, or pictures and LABELS=<file>"
        )
    return found


def _class_ids(labels: Sequence[Label]) -> dict[str, str]:
    """Map ids and names of classes, in any spelling, to ids; a name of two classes is left out."""
    ids = {_plain(label.class_id): label.class_id for label in labels}
    names: dict[str, str | None] = {}
    for label in labels:
        name = _plain(label.class_name)
        names[name] = None if name in names else label.class_id
    return {name: class_id for name, class_id in names.items() if class_id is not None} | ids


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def _by_folder(folder: Path, classes: dict[str, str]) -> Iterator[Labelled]:
    for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
        class_id = classes.get(_plain(inside.name))
        if class_id is None:
            raise UserError(f"DATA={folder}: folder {inside.name} is not a class of this model, by id or by name")
        for path in sorted(inside.rglob("*")):
            if path.suffix.lower() in _SUFFIXES:
                yield Labelled(path, class_id)


def _by_line(folder: Path, label_file: Path, classes: dict[str, str], labels: Sequence[Label]) -> Iterator[Labelled]:
    paths = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES}
    try:
        lines = label_file.read_text().splitlines()
    except OSError as error:
        raise UserError(f"LABELS={label_file}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        words = re.split(r"[\s,]+", line.strip())
        if len(words) < 2 or (number == 1 and words[0] == "ImageId"):
            continue
        name, word = words[:2]
        by_number = labels[int(word)].class_id if word.isdigit() and int(word) < len(labels) else None
        class_id = classes.get(_plain(word), by_number)
        if class_id is None:
            raise UserError(f"LABELS={label_file}, line {number}: {word} is not a class of this model")
        if path := paths.get(Path(name).stem):
            yield Labelled(path, class_id)


def evaluate(
    classifier: Classifier, pictures: Sequence[Labelled], title: str, reference: Sequence[str | None] | None = None
) -> tuple[Score, list[str | None]]:
    """Classify all pictures, with a progress bar.

    Args:
        classifier: the classifier to evaluate.
        pictures: the pictures to classify.
        title: title of the progress bar.
        reference: the reference's best class of each picture, None where the reference could not read it.

    Returns:
        The score, and the best class of each picture.
    """
    score, best = Score(), list[str | None]()
    remaining = iter(pictures)
    with progress(title, len(pictures)) as advance:
        while batch := list(islice(remaining, _BATCH)):
            bodies = [item.path.read_bytes() for item in batch]
            begin = time.perf_counter()
            answers = classifier.classify(bodies, [min(_TOP, len(classifier.labels))] * len(bodies))
            score.seconds += time.perf_counter() - begin
            for item, answer in zip(batch, answers, strict=True):
                _count(score, item, answer)
                best.append(None if isinstance(answer, Problem) else answer[0].class_id)
            advance(len(batch))
    score.agreeing = sum(own == other for own, other in zip(best, reference or best, strict=True))
    return score, best


def _count(score: Score, item: Labelled, answer: list[Prediction] | Problem) -> None:
    score.pictures += 1
    if isinstance(answer, Problem):
        score.unreadable += 1
        return
    ids = [prediction.class_id for prediction in answer]
    score.top1 += ids[0] == item.class_id
    score.top5 += item.class_id in ids


def table(scores: dict[str, Score]) -> Table:
    """Format scores as a table. A picture that cannot be read counts as wrong."""
    result = Table(
        Column("archive", no_wrap=True),
        "top-1",
        "top-5",
        "agreement with the first",
        "pictures/s",
        "pictures",
        "unreadable",
    )
    for name, score in scores.items():
        shares = (f"{count / score.pictures:.2%}" for count in (score.top1, score.top5, score.agreeing))
        rate = f"{score.pictures / score.seconds:.1f}"
        result.add_row(name, *shares, rate, str(score.pictures), str(score.unreadable))
    return result


def main(
    data: Path,
    *,
    labels: Path | None = None,
    model: str | None = None,
    archive: tuple[str, ...] = (),
    store: Path = STORE,
) -> None:
    """Measure top-1 and top-5 accuracy on labelled pictures.

    Args:
        data: a folder with one folder of pictures for each class or, with labels, a folder of pictures.
        labels: a file with a line for each picture: its name and its class.
        model: name of the model; without it, the one model that lies in the store.
        archive: archives to evaluate instead; the first one is the reference.
        store: folder of the archives.
    """
    scores: dict[str, Score] = {}
    pictures: list[Labelled] = []
    reference: list[str | None] | None = None
    for found in [find_archive(name, store) for name in archive] or archives_of(model or model_in(store), store):
        with loaded(found.path) as classifier:
            pictures = pictures or find_pictures(data, classifier.labels, labels)
            score, best = evaluate(classifier, pictures, found.path.name, reference)
        reference = best if reference is None else reference
        scores[str(found.path)] = score
    out.print(table(scores))
