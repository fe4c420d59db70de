"""Writes the JSON schema of recipes, with which editors complete and check them, from the types that read them.

What a field means stands in the tables of recipes/README.md and nowhere else: the schema takes it from there. The last
two columns of those tables, default and allowed values, are written from the types as well.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import yaml
from classifier.mistakes import allowed
from classifier.recipe import Recipe

from scripts.console import UserError, done

PAGE: Final = Path("recipes/README.md")
SCHEMA: Final = Path("recipes/recipe.schema.json")
MODELINE: Final = f"# yaml-language-server: $schema={SCHEMA.name}"  # the first line of a recipe, for editors
_NO_VALUE: Final = (None, "")  # defaults of fields that may be left out

Schema = dict[str, Any]
Struct = type[msgspec.Struct]
Field = msgspec.structs.FieldInfo


def schema(page: str) -> Schema:
    """The JSON schema of a recipe.

    Args:
        page: content of recipes/README.md, whose tables say what each field means.

    Raises:
        UserError: a field has no row in them, or a row no field.
    """
    found: Schema = msgspec.json.schema(Recipe)
    _spell_patterns(found)
    meanings = {place: meaning for _, place, meaning in _rows(page)}
    for place, struct, field in documented(page):
        described = found["$defs"][struct.__name__]["properties"][field.encode_name]
        described["description"] = meanings[place]
        if described.get("default") in _NO_VALUE:
            described.pop("default", None)  # editors would offer it
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Recipe of an image classifier"} | found


def with_types(page: str) -> str:
    """The page with the defaults and allowed values of its tables as the types have them.

    Raises:
        UserError: a field has no row, or a row no field.
    """
    fields = {place: field for place, _, field in documented(page)}
    lines = page.splitlines()
    for number, place, meaning in _rows(page):
        lines[number] = f"| `{place}` | {meaning} | {_default(fields[place])} | {allowed(fields[place].type)} |"
    return "\n".join(lines) + "\n"


def documented(page: str) -> list[tuple[str, Struct, Field]]:
    """Every field of a recipe with its place, such as `archives[].tolerance`, and the struct that it is in.

    Raises:
        UserError: the page has no row for a field, or one for a field that does not exist.
    """
    found = list(_fields(Recipe, ""))
    places, rows = [place for place, _, _ in found], [place for _, place, _ in _rows(page)]
    if missing := [place for place in places if place not in rows]:
        raise UserError(f"{PAGE} has no row that says what `{missing[0]}` means")
    if unknown := [place for place in rows if place not in places]:
        raise UserError(f"{PAGE} has a row for `{unknown[0]}`, which no recipe has")
    return found


def _fields(struct: Struct, place: str) -> Iterator[tuple[str, Struct, Field]]:
    for field in msgspec.structs.fields(struct):
        where = f"{place}.{field.encode_name}" if place else field.encode_name
        yield where, struct, field
        for inner, step in _structs(field.type):
            yield from _fields(inner, where + step)


def _structs(kind: Any, step: str = "") -> Iterator[tuple[Struct, str]]:
    """The structs in a type, with what stands behind the field's name in their places: `[]` for those in a list."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind, step
    for member in get_args(kind):
        yield from _structs(member, step + "[]" if getattr(kind, "__origin__", None) is list else step)


def _rows(page: str) -> Iterator[tuple[int, str, str]]:
    """The rows of the tables of fields: the number of the line from 0, the field's place, and what it means."""
    within = False
    for number, line in enumerate(page.splitlines()):
        within = line.startswith("| field |") or (within and line.startswith("|"))
        if within and line.startswith("| `"):
            place, meaning, *_ = [cell.strip() for cell in line.removeprefix("|").split("|")]
            yield number, place.strip("`"), meaning


def _default(field: Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value in _NO_VALUE:
        return "none"
    if isinstance(value, msgspec.Struct):
        return "the defaults of its fields"
    return f"`{json.dumps(value) if isinstance(value, list | dict) else yaml.safe_dump(value).splitlines()[0]}`"


def _spell_patterns(found: Any) -> None:
    r"""Write the end of a text as JSON schema does: its regular expressions are JavaScript's, which have no `\Z`."""
    if isinstance(found, dict) and isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].replace(r"\Z", "$")
    for value in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        _spell_patterns(value)


def main(*, page: Path = PAGE, output: Path = SCHEMA) -> None:
    """Write the JSON schema of recipes, and the defaults and allowed values of its page.

    Args:
        page: the page that says what each field means.
        output: the schema to write.
    """
    written = with_types(page.read_text())
    page.write_text(written)
    output.write_text(json.dumps(schema(written), indent=1, ensure_ascii=False) + "\n")
    done(f"{output} and the tables of {page}")
