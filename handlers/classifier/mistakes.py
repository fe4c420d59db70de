"""All mistakes of a YAML document at once, each with its line, what is allowed there, and the nearest right spelling.

msgspec stops at the first mistake. What a document may contain is told here by the same types that msgspec decodes it
into, and msgspec itself judges every part: a part that it takes has no mistake, one that it refuses has at least one.
"""

import difflib
import re
import types
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import inspect
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from classifier.document import Mistake, UnreadableError, convert, inside, line_of, pairs, read, shown, value_of
from classifier.errors import DECODE_ERRORS

_MOST: Final = 50  # mistakes that are reported; a document with more is of another kind
_NEAR: Final = 0.6  # how similar a name must be to be suggested, of 1
_SHOWN: Final = 60  # characters of a value
_END: Final = r"\Z"  # of Python's regular expressions, which others write as $
_OTHERS: Final[dict[type[inspect.Type], str]] = {
    inspect.AnyType: "anything",
    inspect.BoolType: "true or false",
    inspect.DictType: "a mapping of names to values",
    inspect.NoneType: "nothing",
}


def mistakes(content: bytes, type_: Any) -> list[Mistake]:
    """Everything that is wrong with a YAML document of a type, at most 50 mistakes, in the order of their lines.

    The list is empty if and only if `document.decode` takes the document. Rules across the fields of a struct, which
    its `__post_init__` checks, are reported where its fields are right in themselves.

    Args:
        content: the document; any bytes.
        type_: a msgspec struct, or anything else that msgspec decodes.
    """
    try:
        root, found = read(content)
    except UnreadableError as error:
        return [error.mistake]
    return sorted([*found, *islice(_mistakes(root, type_, ""), _MOST)])[:_MOST]


def _mistakes(node: Node, kind: Any, place: str) -> Iterator[Mistake]:
    """The mistakes in a node whose value should be of a kind, which is a type with or without annotations."""
    fault = _fault(node, kind)
    if fault is None:
        return
    kind = _member(node, kind)
    deeper = _deeper(node, kind, place)
    first = next(deeper, None)
    if first is not None:
        yield first
        yield from deeper
    elif isinstance(fault.__cause__, ValueError):  # from a __post_init__
        yield _across_fields(node, str(fault.__cause__), place)
    else:
        yield Mistake(line_of(node), place, _refusal(node, kind))


def _fault(node: Node, kind: Any) -> Exception | None:
    try:
        convert(value_of(node), kind)
    except DECODE_ERRORS as error:
        return error
    return None


def _member(node: Node, kind: Any) -> Any:
    """Of a union, the member that a mapping or list must be meant as; any other kind as it is."""
    union = _bare(kind)
    if not isinstance(union, types.UnionType) and get_origin(union) is not Union:
        return kind
    fits = [member for member in get_args(union) if _holds(node, _bare(member))]
    return fits[0] if len(fits) == 1 else kind


def _holds(node: Node, kind: Any) -> bool:
    if isinstance(node, MappingNode):
        return _is_struct(kind) or get_origin(kind) is dict
    return isinstance(node, SequenceNode) and get_origin(kind) is list


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _deeper(node: Node, kind: Any, place: str) -> Iterator[Mistake]:
    """The mistakes in the parts of a mapping or list."""
    kind = _bare(kind)
    if not _holds(node, kind):
        return
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _mistakes(item, get_args(kind)[0], f"{place}[{index}]")
    elif isinstance(node, MappingNode) and _is_struct(kind):
        yield from _in_fields(node, kind, place)
    elif isinstance(node, MappingNode):
        key_kind, value_kind = get_args(kind)
        for key, value in pairs(node):
            yield from _mistakes(key, key_kind, inside(place, key.value))
            yield from _mistakes(value, value_kind, inside(place, key.value))


def _in_fields(node: MappingNode, struct: type[msgspec.Struct], place: str) -> Iterator[Mistake]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    given = {key.value: value for key, value in pairs(node)}  # of a name that is there twice, the last, as PyYAML does
    for key, _ in pairs(node):
        if not isinstance(value_of(key), str):
            yield Mistake(line_of(key), inside(place, key.value), "the name of a field must be text")
        elif key.value not in fields and struct.__struct_config__.forbid_unknown_fields:
            near = difflib.get_close_matches(key.value, fields, n=1, cutoff=_NEAR)
            text = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(fields)}"
            yield Mistake(line_of(key), inside(place, key.value), f"there is no such field; {text}")
    for name, field in fields.items():
        if name in given:
            yield from _mistakes(given[name], field.type, inside(place, name))
        elif field.required:
            yield Mistake(line_of(node), inside(place, name), f"it is missing; it must be {allowed(field.type)}")


def _across_fields(node: Node, text: str, place: str) -> Mistake:
    """A mistake against a struct's own rule, at the first of its fields that the text names, or at the struct."""
    given = {key.value: key for key, _ in pairs(node)} if isinstance(node, MappingNode) else {}
    line = line_of(next((given[word] for word in re.findall(r"\w+", text) if word in given), node))
    field, colon, rest = text.partition(": ")
    return Mistake(line, inside(place, field), rest) if colon and field in given else Mistake(line, place, text)


# ---- in words


def _refusal(node: Node, kind: Any) -> str:
    if not isinstance(node, ScalarNode):
        given = "a mapping" if isinstance(node, MappingNode) else f"a list of {len(node.value)}"
        return f"{given} is not {allowed(kind)}"
    value = value_of(node)
    if value is None:
        return f"nothing is given; it must be {allowed(kind)}"
    given = shown(value) if isinstance(value, str) else " ".join(node.value.split())[:_SHOWN]
    return f"{given} is not {allowed(kind)}{_hint(node, kind)}"


def _hint(node: ScalarNode, kind: Any) -> str:
    """How a scalar that is not taken may have been meant: a similar word, or the same as text or as a number."""
    words = [str(word) for word in _words(inspect.type_info(kind))]
    if near := difflib.get_close_matches(node.value.lower(), words, n=1, cutoff=_NEAR):
        return f"; did you mean {near[0]}?"
    for read_as in (str, int, float):
        with suppress(ValueError):  # most texts are no numbers
            meant = read_as(node.value)
            if _takes(kind, meant):
                return f"; write {yaml.safe_dump(meant, width=1000).splitlines()[0]}"
    return ""


def _takes(kind: Any, value: object) -> bool:
    try:
        convert(value, kind)
    except DECODE_ERRORS:
        return False
    return True


def _words(kind: inspect.Type) -> list[Any]:
    match kind:
        case inspect.Metadata(type=inner):
            return _words(inner)
        case inspect.LiteralType(values=values):
            return list(values)
        case inspect.UnionType(types=members):
            return [word for member in members for word in _words(member)]
    return []


def allowed(kind: Any) -> str:
    """What a type takes, in words: `a whole number of at least 1 or one of all, share`."""
    return _in_words(inspect.type_info(kind))


def _in_words(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(type=inner):
            return str((kind.extra_json_schema or {}).get("description") or _in_words(inner))
        case inspect.UnionType(types=members):
            return " or ".join(_in_words(member) for member in members if not isinstance(member, inspect.NoneType))
        case inspect.IntType() | inspect.FloatType():
            return ("a whole number" if isinstance(kind, inspect.IntType) else "a number") + _range(kind)
        case inspect.StrType(pattern=pattern):
            return "text" + (f" of the form {pattern.replace(_END, '$')}" if pattern else "")
        case inspect.LiteralType(values=values):
            return ("one of " if len(values) > 1 else "") + ", ".join(map(str, values))
        case inspect.ListType(item_type=item):
            return f"a list{_length(kind)}, each {_in_words(item)}"
        case inspect.StructType(fields=fields):
            return f"a mapping with {', '.join(field.encode_name for field in fields)}"
    return _OTHERS.get(type(kind), f"of the kind {type(kind).__name__}")


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    bounds = (("of at least", kind.ge), ("above", kind.gt), ("of at most", kind.le), ("below", kind.lt))
    found = [f"{word} {bound}" for word, bound in bounds if bound is not None]
    return " " + " and ".join(found) if found else ""


def _length(kind: inspect.ListType) -> str:
    least, most = kind.min_length, kind.max_length
    if least is not None and least == most:
        return f" of {least}"
    found = [f"{word} {bound}" for word, bound in (("at least", least), ("at most", most)) if bound is not None]
    return " of " + " and ".join(found) if found else ""
