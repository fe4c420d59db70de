"""Measures an archive's top-1 and top-5 accuracy on labelled pictures: the user's own, or a public data set."""

import re
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from classifier.labels import Label
from classifier.pipeline import Classifier
from classifier.problems import Problem
from classifier.rank import Prediction
from rich.table import Column, Table

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, archives_of, find_archive, model_in
from scripts.console import UserError, out, progress, warn
from scripts.measuring.classes import Classes

_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_BATCH: Final = 64  # pictures decoded at a time
_TOP: Final = 5
_SHOWN: Final = 5  # names of files that are left out


class Labelled(msgspec.Struct, frozen=True):
    """A picture and the class that it shows."""

    path: Path
    class_id: str


class Found(NamedTuple):
    """The labelled pictures of a folder, and what in it is left out."""

    pictures: list[Labelled]
    left_out: list[str]  # reasons, each with the number of files


class Score(msgspec.Struct, kw_only=True):
    """The result of evaluating one archive."""

    top1: int = 0
    top5: int = 0
    agreeing: int = 0  # pictures with the reference's top-1
    unreadable: int = 0
    pictures: int = 0
    classes: int = 0  # of the model
    seconds: float = 0.0


def find_pictures(folder: Path, labels: Sequence[Label], label_file: Path | None = None) -> Found:
    """The labelled pictures of a folder.

    Args:
        folder: has a folder of pictures for each class, named by its id or its name; with `label_file`, has pictures.
        labels: the classes, in the order of the logits.
        label_file: each line has a picture's name and its class, by id, name or number, as in `val.txt` and ImageNet's
            `LOC_val_solution.csv`.

    Raises:
        UserError: there are no pictures of the model's classes, a name may be one of several classes, or the class of
            a line is unknown.
    """
    if not folder.is_dir():
        raise UserError(f"DATA={folder}: there is no such folder")
    classes = Classes(labels)
    found = _by_line(folder, label_file, classes, labels) if label_file else _by_folder(folder, classes)
    if not found.pictures:
        raise UserError(
            f"DATA={folder}: no pictures of this model's classes; expected a folder for each class, for example "
            f"{labels[0].class_id} or {labels[0].class_name}, or pictures and LABELS=<file>"
            + "".join(f"; {reason}" for reason in found.left_out)
        )
    return found


def _by_folder(folder: Path, classes: Classes) -> Found:
    pictures: list[Labelled] = []
    left_out: list[str] = []
    others = [path for path in folder.iterdir() if not path.is_dir()]
    for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = _files(inside)
        class_id = classes.find(inside.name, f"DATA={folder}")
        if class_id is None:
            near = classes.nearest(inside.name)
            hint = f"; is it {near}?" if near else ""
            left_out.append(f"folder {inside.name} with {_number(files)} is no class of this model{hint}")
            continue
        pictures += [Labelled(path, class_id) for path in files if is_picture(path)]
        others += [path for path in files if not is_picture(path)]
    return Found(pictures, left_out + _no_pictures(others, "not counted as pictures of a class"))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its name."""
    return path.suffix.lower() in _SUFFIXES


def _no_pictures(files: Sequence[Path], what: str) -> list[str]:
    """The reason why these files are left out; empty without files."""
    if not files:
        return []
    names = ", ".join(sorted(path.name for path in files)[:_SHOWN]) + (", …" if len(files) > _SHOWN else "")
    return [f"{_number(files)} {what}: {names}"]


def _number(files: Sequence[Path]) -> str:
    return f"{len(files)} file" + "s" * (len(files) != 1)


def _by_line(folder: Path, label_file: Path, classes: Classes, labels: Sequence[Label]) -> Found:
    named = _by_name([path for path in _files(folder) if is_picture(path)], folder)
    try:
        lines = label_file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"LABELS={label_file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"LABELS={label_file}: is not UTF-8 ({error})") from error
    pictures: dict[Path, Labelled] = {}
    absent = []
    for number, line in enumerate(lines, 1):
        where = f"LABELS={label_file}, line {number}"
        name, words = _words(line)
        if not words or (number == 1 and name == "ImageId"):
            continue
        class_id = _class_in(words, classes, labels, where)
        path = _picture_named(name, named, where)
        if path is None:
            absent.append(Path(name))
        elif pictures.setdefault(path, Labelled(path, class_id)).class_id != class_id:
            raise UserError(f"{where}: another line has {path} with another class")
    unlabelled = [path for path in _files(folder) if path not in pictures and path.resolve() != label_file.resolve()]
    left_out = _no_pictures(absent, f"of LABELS={label_file} not found in {folder}")
    return Found(list(pictures.values()), left_out + _no_pictures(unlabelled, f"without a line in LABELS={label_file}"))


def _by_name(paths: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """Pictures by path in the folder, by name, and by name without its suffix."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        for name in dict.fromkeys((path.relative_to(folder).as_posix(), path.name, path.stem)):
            found.setdefault(name, []).append(path)
    return found


def _picture_named(name: str, named: Mapping[str, Sequence[Path]], where: str) -> Path | None:
    """The picture of a line: by its path in the folder, its name, or its name without the suffix."""
    paths = named.get(name) or (named.get(Path(name).stem) if "/" not in name else None) or []
    if len(paths) > 1:
        raise UserError(f"{where}: {name} may be {' or '.join(map(str, paths))}; write its path in DATA=")
    return next(iter(paths), None)


def _words(line: str) -> tuple[str, str]:
    """The name of a picture and all that follows it, in a line that tabs, commas or spaces divide."""
    divider = next((mark for mark in ("\t", ",") if mark in line), None)
    name, rest = [*line.strip().split(divider, maxsplit=1), "", ""][:2]
    return name.strip(), rest.strip()


def _class_in(words: str, classes: Classes, labels: Sequence[Label], where: str) -> str:
    """The class that these words name: all of them or the first, by id or name, or by number from 0."""
    first = re.split(r"[\s,]", words, maxsplit=1)[0]
    for name in (words, first):
        if (class_id := classes.find(name, where)) is not None:
            return class_id
    if first.isdecimal() and int(first) < len(labels):
        return labels[int(first)].class_id
    raise UserError(f"{where}: {words} is not a class of this model")


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
    score, best = Score(classes=len(classifier.labels)), list[str | None]()
    remaining = iter(pictures)
    with progress(title, len(pictures)) as advance:
        while batch := list(islice(remaining, _BATCH)):
            bodies = [item.path.read_bytes() for item in batch]
            begin = time.perf_counter()
            answers = classifier.classify(bodies, [min(_TOP, len(classifier.labels))] * len(bodies))
            score.seconds += time.perf_counter() - begin
            for item, answer in zip(batch, answers, strict=True):
                _count(score, item, answer)
                best.append(answer[0].class_id if not isinstance(answer, Problem) and answer else None)
            advance(len(batch))
    score.agreeing = sum(own == other for own, other in zip(best, reference or best, strict=True))
    return score, best


def _count(score: Score, item: Labelled, answer: list[Prediction] | Problem) -> None:
    score.pictures += 1
    if isinstance(answer, Problem):
        score.unreadable += 1
        return
    ids = [prediction.class_id for prediction in answer]
    score.top1 += ids[:1] == [item.class_id]  # with a threshold there may be no class at all
    score.top5 += item.class_id in ids


def table(scores: dict[str, Score]) -> Table:
    """Format scores as a table. A picture that cannot be read counts as wrong.

    The top-5 of a model with five classes or fewer is always right, so it is left out.
    """
    telling = any(score.classes > _TOP for score in scores.values())
    head = [
        "top-1",
        *(["top-5"] if telling else []),
        "agreement with the first",
        "pictures/s",
        "pictures",
        "unreadable",
    ]
    result = Table(Column("archive", no_wrap=True), *head)
    for name, score in scores.items():
        counts = (score.top1, *((score.top5,) if telling else ()), score.agreeing)
        shares = (f"{count / score.pictures:.2%}" for count in counts)
        rate = f"{score.pictures / score.seconds:.1f}"
        result.add_row(name, *shares, rate, str(score.pictures), str(score.unreadable))
    return result


def _said(found: Found) -> list[Labelled]:
    """The pictures; what is left out is said."""
    for reason in found.left_out:
        warn(f"left out: {reason}")
    return found.pictures


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
        data: a folder with one folder of pictures for each class or, with labels, a folder of pictures. A folder has
            the id or the name of its class, exactly, or but for upper case, composed letters and underscores.
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
            pictures = pictures or _said(find_pictures(data, classifier.labels, labels))
            score, best = evaluate(classifier, pictures, found.path.name, reference)
        reference = best if reference is None else reference
        scores[found.path.name if found.path.name not in scores else str(found.path)] = score
    out.print(table(scores))
