"""Reads the classes of a model from the forms in which people have them, as pairs of id and name.

| form | example |
|---|---|
| this project's list | `[{"class_id": "n02124075", "class_name": "Egyptian cat"}, …]` |
| names, or pairs of id and name | `["cat", "dog"]`, `[["n02124075", "Egyptian cat"], …]` |
| TorchServe's `index_to_name.json` | `{"0": "cat"}`, `{"0": ["n02124075", "Egyptian cat"]}` |
| the same below one key | `{"object_type_names": ["cat", "dog"]}` |
| name to index, as torchvision's `class_to_idx` | `{"cat": 0, "dog": 1}` |
| Hugging Face's `config.json` | `{"id2label": {"0": "cat"}}`, `{"label2id": {"cat": 0}}` |
| text | one name a line |
| CSV (`.csv`, `.tsv`) | `0,cat`, `cat,0`, `n02124075,Egyptian cat` or names alone, with or without a head |

The order is that of the model's outputs. Where a form has indices, they must be 0, 1, 2 and so on, in any order; a
missing or a doubled one is refused, because every later class would be named wrongly. Where it has no ids of its own,
the index is the id, so that classes of one name can still be told apart.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from classifier.errors import UnusableError

Class = tuple[str, str]  # id and name
_Row = tuple[list[str], str]  # the cells of a row of CSV, and its place

_INDEX: Final = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_DELIMITERS: Final = (",", ";", "\t")
_PAIR: Final = 2
_TABLES: Final = (".csv", ".tsv")
_HEADS_OF_IDS: Final = frozenset({"", "id", "class_id", "index", "idx", "class_idx", "class_index", "wnid", "synset"})
_HEADS_OF_NAMES: Final = frozenset({"name", "class_name", "label_name", "label", "class", "title", "description"})
_FORMS: Final = "a list of names, {index: name}, {name: index}, or one of these below one key such as id2label"


def read_label_file(path: Path) -> list[Class]:
    """Read a label file of any of the forms above.

    Args:
        path: the file, in UTF-8, or in UTF-16 with a byte order mark.

    Returns:
        Id and name of each class, in the order of the model's outputs; the ids differ.

    Raises:
        UnusableError: the file cannot be used; the message names the file, the place and the fault.
        OSError: the file cannot be read.
    """
    try:
        text = _text(path.read_bytes())
        if path.suffix.lower() in _TABLES:
            return _table(text)
        if path.suffix.lower() == ".json" or (path.suffix.lower() != ".txt" and text.lstrip()[:1] in ("{", "[")):
            return _json(text)
        return _lines(text)
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError too
        raise UnusableError(f"{path}: {error}") from error


def classes_of(listed: Sequence[object]) -> list[Class]:
    """The classes of a list as a recipe or a JSON file has it: names, pairs, or `{class_id, class_name}`.

    Raises:
        ValueError: an element is none of these, or an id occurs twice; the message says where.
    """
    classes = [_class(element, str(index), f"[{index}]") for index, element in enumerate(listed)]
    return _checked(classes, lambda index: f"[{index}]")


def _text(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def _lines(text: str) -> list[Class]:
    names = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")]
    classes = [(str(index), _name(name, f"line {index + 1}")) for index, name in enumerate(names)]
    return _checked(classes, lambda index: f"line {index + 1}")


# ---- JSON


def _json(text: str) -> list[Class]:
    try:
        content = json.loads(text, object_pairs_hook=_without_doubles)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deep") from error
    if isinstance(content, list):
        return classes_of(content)
    if isinstance(content, dict):
        return _object(content, "")
    raise ValueError(f"expected {_FORMS}, not {_shown(content)}")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"the key {doubled!r} is there twice")
    return found


def _object(content: Mapping[str, Any], below: str) -> list[Class]:
    """The classes of an object, `below` a key unless that is empty."""
    for key in () if below else ("id2label", "label2id"):
        if content.get(key):  # Hugging Face's configurations have much beside it
            return _nested(content[key], key)
    if content and all(_INDEX.fullmatch(key) for key in content) and not _names_are_numbers(content, below):
        return _indexed((int(key), value, f"{below}[{key!r}]") for key, value in content.items())
    if content and all(type(value) is int for value in content.values()):
        return _indexed((index, name, f"{below}[{name!r}]") for name, index in content.items())
    if not below and len(content) == 1:
        ((key, value),) = content.items()
        return _nested(value, key)
    where = f"{below}: " if below else ""
    raise ValueError(f"{where}expected {_FORMS}")


def _names_are_numbers(content: Mapping[str, Any], below: str) -> bool:
    """Whether an object with numbers for keys is {name: index}: the folders of its classes are called 0, 1 and so on.

    Raises:
        ValueError: it could as well be {index: name}, and the order would be another one.
    """
    if not all(type(value) is int for value in content.values()):
        return False
    names = sorted(content, key=lambda name: content[name])
    of_folders = names == sorted(content)  # torchvision's order
    either_way = all(content.get(str(index)) == int(name) for name, index in content.items())
    if below == "label2id" or of_folders or either_way:
        return True
    where = f"{below}: " if below else ""
    raise ValueError(f"{where}both sides are numbers, which may be {{index: name}} or {{name: index}}; write a list")


def _nested(content: object, key: str) -> list[Class]:
    if isinstance(content, dict):
        return _object(content, key)
    if isinstance(content, list):
        return classes_of(content)
    raise ValueError(f"{key}: expected {_FORMS}")


def _class(element: object, index: str, place: str) -> Class:
    """One class: a name, `[name]`, `[id, …, name]`, or `{class_id, class_name}`."""
    if isinstance(element, list | tuple) and element:
        first, last = (_name(element[at], place) for at in (0, -1))
        return (first, last) if len(element) >= _PAIR else (index, last)
    if isinstance(element, dict) and element.keys() == {"class_id", "class_name"}:
        return _name(element["class_id"], f"{place}.class_id"), _name(element["class_name"], f"{place}.class_name")
    if isinstance(element, str):
        return index, _name(element, place)
    raise ValueError(f"{place}: expected a name, [id, name] or {{class_id, class_name}}, not {_shown(element)}")


def _name(given: object, place: str) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{place}: expected text, not {_shown(given)}; put it in quotes")
    if not given.strip():
        raise ValueError(f"{place}: the name is empty")
    return given


def _shown(given: object) -> str:
    return repr(given)[:80]


# ---- CSV


def _table(text: str) -> list[Class]:
    rows = _rows(text)
    if len(rows[0][0]) == 1:
        return _column(rows)
    heads = [cell.lower().replace(" ", "_") for cell in rows[0][0]]
    if set(heads) <= _HEADS_OF_IDS | _HEADS_OF_NAMES:
        rows = rows[1:]
        swapped = heads[0] in _HEADS_OF_NAMES and heads[1] in _HEADS_OF_IDS
    else:
        swapped = _all_indices(rows, 1) and not _all_indices(rows, 0)
    pairs = [(cells[::-1] if swapped else cells, place) for cells, place in rows]
    if _all_indices(pairs, 0):
        return _indexed((int(index), name, place) for (index, name), place in pairs)
    classes = [(_name(own, place), _name(name, place)) for (own, name), place in pairs]
    return _checked(classes, lambda index: pairs[index][1])


def _column(rows: list[_Row]) -> list[Class]:
    """The classes of a table of names alone, in the order of the rows."""
    head = rows[0][0][0].lower().replace(" ", "_")
    named = rows[1:] if head in _HEADS_OF_NAMES else rows
    if head in _HEADS_OF_IDS or (_all_indices(named, 0) and [cells[0] for cells, _ in named] != _numbered(named)):
        raise ValueError("the one column has ids or indices, not names; write names alone, or an id and a name a line")
    classes = [(str(index), _name(name, place)) for index, ((name,), place) in enumerate(named)]
    return _checked(classes, lambda index: named[index][1])


def _numbered(rows: Sequence[_Row]) -> list[str]:
    return [str(index) for index in range(len(rows))]


def _all_indices(rows: Sequence[_Row], column: int) -> bool:
    return all(_INDEX.fullmatch(cells[column]) for cells, _ in rows)


def _rows(text: str) -> list[_Row]:
    """The rows that are not empty, each of two cells, and their places; by the delimiter that gives them.

    Where no delimiter stands in any row, the rows have one cell each.
    """
    single: list[list[_Row]] = []
    faults = []  # with the number of rows that have two cells
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
        try:
            rows = [([cell.strip() for cell in cells], f"line {reader.line_num}") for cells in reader if any(cells)]
        except csv.Error as error:
            faults.append((0, f"line {reader.line_num}: {error}"))
            continue
        odd = [(cells, place) for cells, place in rows if len(cells) != _PAIR]
        if rows and not odd:
            return rows
        if rows and all(len(cells) == 1 for cells, _ in rows):
            single.append(rows)
        said = f"{odd[0][1]}: {len(odd[0][0])} cells instead of an id and a name" if odd else "the file is empty"
        faults.append((len(rows) - len(odd), said))
    if len(single) == len(_DELIMITERS):
        return single[0]
    raise ValueError(max(faults, key=lambda fault: fault[0])[1])


# ---- indices and ids


def _indexed(found: Iterable[tuple[int, object, str]]) -> list[Class]:
    """The classes of indices in any order, each with its place."""
    places: dict[int, str] = {}
    classes: dict[int, Class] = {}
    for index, value, place in found:
        if index in places:
            raise ValueError(f"{place}: the index {index} is there already, at {places[index]}")
        if index < 0:
            raise ValueError(f"{place}: the index {index} is below 0")
        places[index] = place
        classes[index] = _class(value, str(index), place)
    if missing := sorted(set(range(len(classes))) - classes.keys()):
        highest = max(classes)
        raise ValueError(
            f"no class has the index {missing[0]}, but {places[highest]} has {highest}; indices are 0, 1, 2 and so on"
        )
    return _checked([classes[index] for index in sorted(classes)], lambda index: places[index])


def _checked(classes: list[Class], place: Callable[[int], str]) -> list[Class]:
    """The classes, if there are any and their ids differ."""
    if not classes:
        raise ValueError("there is no class in it")
    first: dict[str, int] = {}
    for index, (own, _) in enumerate(classes):
        if (other := first.setdefault(own, index)) != index:
            raise ValueError(f"{place(index)}: the id {own!r} is there already, at {place(other)}")
    return classes
