"""Reads the labels of a model in each form that people have them in."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from classifier.labels import Label

from scripts.console import UserError

_HEADS: Final = {"", "id", "class_id", "index", "idx", "name", "class_name", "class", "label", "synset", "wnid"}


def read_any_labels(path: Path) -> list[Label]:
    """The labels of a file, in the order of the model's outputs.

    A JSON file is a list of names, of pairs of id and name, or of objects with `class_id` and `class_name`; or an
    object from index to any of these (`index_to_name.json`), from name to index, or with `id2label` in it. A CSV or TSV
    file has rows of id and name, or of index, id and name, with or without a head. Any other text has a name a line.

    Raises:
        UserError: it is none of these; the message says where it differs.
        OSError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: {error}") from error
    try:
        if path.suffix == ".json" or text.lstrip()[:1] in ("{", "["):
            return labels_of(json.loads(text))
        if path.suffix in (".csv", ".tsv"):
            return _of_rows(text, path.suffix)
        return labels_of([line.strip() for line in text.splitlines() if line.strip()])
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is no list of labels: {error}") from error


def labels_of(content: Any) -> list[Label]:
    """The labels that a decoded JSON file means.

    Raises:
        ValueError: none; the message says why.
    """
    if isinstance(content, dict):
        content = _in_order(content.get("id2label", content))
    if not isinstance(content, list) or not content:
        raise ValueError("it must be a list, or an object from index to name, and not empty")
    pairs = [_pair(item, index) for index, item in enumerate(content)]
    return with_ids(pairs)


def with_ids(pairs: Sequence[tuple[str | None, str]]) -> list[Label]:
    """Labels of ids and names. A name is its own id where none is given; an index, if that names several classes."""
    names = [name for _, name in pairs]
    unique = len(set(names)) == len(names)
    return [
        Label(class_id if class_id is not None else (name if unique else str(index)), name)
        for index, (class_id, name) in enumerate(pairs)
    ]


def _in_order(content: Any) -> list[Any]:
    """The values by their keys 0, 1, 2 …; or the keys by such values."""
    if not isinstance(content, dict):
        raise ValueError("id2label must be an object from index to name")
    if content and all(isinstance(value, int) for value in content.values()):
        content = {index: name for name, index in content.items()}
    indices = {int(key): value for key, value in content.items()}
    if missing := [index for index in range(len(content)) if index not in indices]:
        raise ValueError(f"it has {len(content)} entries, but none for index {missing[0]}")
    return [indices[index] for index in range(len(content))]


def _pair(item: Any, index: int) -> tuple[str | None, str]:
    found: tuple[Any, Any]
    if isinstance(item, dict):
        found = item.get("class_id"), item.get("class_name")
    elif isinstance(item, list) and item:
        found = (None, item[0]) if len(item) == 1 else (item[0], item[-1])
    else:
        found = None, item
    class_id, name = (str(part) if isinstance(part, int) else part for part in found)
    if not isinstance(name, str) or not name.strip() or not isinstance(class_id, str | None):
        raise ValueError(f"index {index} has no name: {item!r}")
    return class_id, name


def _of_rows(text: str, suffix: str) -> list[Label]:
    head = text.partition("\n")[0]
    separator = "\t" if suffix == ".tsv" or "\t" in head else ";" if ";" in head and "," not in head else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=separator) if any(row)]
    if rows and {cell.lower() for cell in rows[0]} <= _HEADS:
        rows = rows[1:]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not widths <= {1, 2, 3}:
        raise ValueError(f"each row must have the same one to three columns; they have {sorted(widths)}")
    if all(row[0].isdecimal() for row in rows) and sorted(int(row[0]) for row in rows) == list(range(len(rows))):
        rows = [row[1:] for row in sorted(rows, key=lambda row: int(row[0]))]
    return labels_of([row if len(row) > 1 else row[0] for row in rows])
