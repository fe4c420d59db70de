"""YAML, read strictly: no key twice, no tags of other programs, and not more of it than a person would write.

PyYAML keeps the last of two equal keys in silence. Lists that lie thousands deep in each other overflow the stack of
its C reader, and a few aliases of aliases stand for more than memory holds.
"""

import datetime
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_READER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML was built with it, as msgspec does
_MAX_DEPTH: Final = 50  # of lists and mappings in each other; a recipe has five
_TOO_DEEP: Final = f"lists and mappings lie more than {_MAX_DEPTH} deep in each other"
_MAX_NODES: Final = 1_000_000  # values, aliases written out; the labels of 20,000 classes take a tenth
_SHOWN: Final = 60  # characters of a key or value in a message
_PLAIN_KEY: Final = re.compile(rf"[\w<-]{{1,{_SHOWN}}}")  # that a place shows as it is
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"  # of the key `<<`, which takes the pairs of other mappings over
# What PyYAML's constructors raise for a scalar that its tag does not fit, such as `!!bool x` or a 99th of a month.
_MISFIT: Final = (yaml.YAMLError, ValueError, LookupError, AttributeError)

_T = TypeVar("_T")


class Mistake(NamedTuple):
    """What is wrong at one place of a document."""

    line: int  # from 1
    place: str  # such as `archives[2].precision`; empty for the document as a whole
    text: str

    def __str__(self) -> str:
        return f"{self.line}: {self.place}: {self.text}" if self.place else f"{self.line}: {self.text}"


class UnreadableError(msgspec.DecodeError):
    """The content is no YAML that is read here; `mistake` says where and why."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake


def decode(content: bytes, type_: type[_T]) -> _T:
    """Read YAML as a value of a type that msgspec knows.

    Raises:
        msgspec.DecodeError: the content is no YAML, has a key twice, or does not fit the type; only the first mistake.
        UnicodeError: it has half of a surrogate pair.
    """
    root, repeated = read(content)
    if repeated:
        raise UnreadableError(repeated[0])
    value: _T = convert(value_of(root), type_)
    return value


def convert(value: object, type_: Any) -> Any:
    """Convert built-in values to a type, as msgspec does it for YAML.

    Raises:
        msgspec.DecodeError, UnicodeError: the value does not fit the type.
    """
    return msgspec.convert(value, type_, builtin_types=(datetime.datetime, datetime.date))


def read(content: bytes) -> tuple[Node, list[Mistake]]:
    """Read YAML as nodes, which know their lines, and find the keys that stand twice in a mapping.

    Every node can be given to `value_of` and `pairs`.

    Raises:
        UnreadableError: the content is no YAML; or it has several documents, foreign tags, keys that are no scalars,
            aliases of what they stand in, or more than is read here.
    """
    try:
        _refuse_depth(content)
        root = yaml.compose(content, _READER)
    except yaml.YAMLError as error:
        raise UnreadableError(_syntax(error)) from error
    if root is None:
        start = yaml.Mark("", 0, 0, 0, None, 0)
        return ScalarNode(_TAG + "null", "", start, start), []
    survey = _Survey()
    survey.measure(root, "", 0)
    return root, survey.repeated


def value_of(node: Node) -> Any:
    """The value of a node in built-in types."""
    return SafeConstructor().construct_document(node)


def pairs(node: MappingNode) -> Iterator[tuple[ScalarNode, Node]]:
    """The pairs of a mapping, with those that `<<` takes over in front."""
    SafeConstructor().flatten_mapping(node)
    yield from node.value


def line_of(node: Node) -> int:
    """The line on which a node begins, from 1."""
    return _line(node.start_mark)


def _line(mark: Any) -> int:
    return int(mark.line) + 1 if mark is not None else 1


def inside(place: str, key: str) -> str:
    """The place of a key's value in the mapping at a place."""
    name = key if _PLAIN_KEY.fullmatch(key) else shown(key)
    return f"{place}.{name}" if place else name


def shown(text: str) -> str:
    """A text in quotes, on one line and not too long."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _refuse_depth(content: bytes) -> None:
    """Refuse what would overflow the stack while nodes are made of it."""
    depth = 0
    for event in yaml.parse(content, _READER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise UnreadableError(Mistake(_line(event.start_mark), "", _TOO_DEEP))


def _syntax(error: yaml.YAMLError) -> Mistake:
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    text = ": ".join(part for part in parts if part) or " ".join(str(error).split())
    return Mistake(_line(getattr(error, "problem_mark", None)), "", f"this is no YAML: {text}")


def _foreign(node: Node) -> str:
    return f"the tag {shown(node.tag)} is not read here"


class _Survey:
    """One way through all nodes, each visited once however many aliases lead to it."""

    def __init__(self) -> None:
        self.repeated: list[Mistake] = []
        self._known: dict[int, tuple[int, int]] = {}  # size and height by a node's id
        self._constructor = SafeConstructor()

    def measure(self, node: Node, place: str, depth: int) -> tuple[int, int]:
        """The number of values in a node, itself included, and how deep they lie in each other.

        A node that stands in itself is never known before it is entered again, so the depth ends the way.
        """
        size, height = self._known.get(id(node)) or (1, 1)
        if id(node) not in self._known and depth <= _MAX_DEPTH:
            for child, where in self._children(node, place):
                inner, below = self.measure(child, where, depth + 1)
                size, height = size + inner, max(height, below + 1)
            self._known[id(node)] = size, height
        if depth + height > _MAX_DEPTH + 1:
            raise UnreadableError(Mistake(line_of(node), "", f"{_TOO_DEEP}, or this stands in itself"))
        if size > _MAX_NODES:
            raise UnreadableError(Mistake(line_of(node), place, f"these are more than {_MAX_NODES} values"))
        return size, height

    def _children(self, node: Node, place: str) -> Iterator[tuple[Node, str]]:
        if isinstance(node, ScalarNode):
            self._read_scalar(node, place)
        elif node.tag not in (_TAG + "map", _TAG + "seq"):
            raise UnreadableError(Mistake(line_of(node), place, _foreign(node)))
        elif isinstance(node, SequenceNode):
            yield from ((item, f"{place}[{index}]") for index, item in enumerate(node.value))
        elif isinstance(node, MappingNode):
            yield from self._values(node, place)

    def _values(self, node: MappingNode, place: str) -> Iterator[tuple[Node, str]]:
        lines: dict[tuple[str, str], int] = {}  # where each key stands first
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise UnreadableError(Mistake(line_of(key), place, "a list or a mapping cannot be a key"))
            where = inside(place, key.value)
            if key.tag == _MERGE:
                self._check_merge(value, where)
            else:
                self._read_scalar(key, where)
            if (first := lines.get((key.tag, key.value))) is not None:
                self.repeated.append(Mistake(line_of(key), where, f"it is there twice, first on line {first}"))
            else:
                lines[key.tag, key.value] = line_of(key)
            yield value, where

    def _check_merge(self, value: Node, where: str) -> None:
        merged = value.value if isinstance(value, SequenceNode) else [value]
        if not all(isinstance(item, MappingNode) for item in merged):
            raise UnreadableError(Mistake(line_of(value), where, "it takes a mapping, or a list of mappings"))

    def _read_scalar(self, node: ScalarNode, place: str) -> None:
        if node.tag not in SafeConstructor.yaml_constructors:
            raise UnreadableError(Mistake(line_of(node), place, _foreign(node)))
        try:
            self._constructor.construct_document(node)
        except _MISFIT as error:
            kind = node.tag.removeprefix(_TAG)
            raise UnreadableError(Mistake(line_of(node), place, f"{shown(node.value)} is no {kind}")) from error
