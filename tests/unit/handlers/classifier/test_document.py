import datetime
from typing import Any

import msgspec
import pytest
import yaml
from classifier.document import Mistake, UnreadableError, decode, inside, read, value_of
from hypothesis import example, given
from hypothesis import strategies as st

LAUGHS = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter + 1, letter + 1, b", ".join([b"*%c" % letter] * 10)) for letter in range(97, 110)
)


def mistake(content: bytes) -> Mistake:
    """The mistake for which content cannot be read."""
    with pytest.raises(UnreadableError) as caught:
        read(content)
    assert str(caught.value) == str(caught.value.mistake)
    return caught.value.mistake


@pytest.mark.parametrize(
    ("content", "line", "place", "named"),
    [
        pytest.param(b"a: 1\nb: [1, 2\nc: 3\n", 3, "", "expected ',' or ']'", id="syntax"),
        pytest.param(b"a: 1\n---\nb: 2\n", 2, "", "another document", id="two-documents"),
        pytest.param(b"a: *b\n", 1, "", "undefined alias", id="alias-of-nothing"),
        pytest.param(b"\x00", 1, "", "control characters", id="null"),
        pytest.param(b"\x89PNG\r\n\x1a\n", 1, "", "no YAML", id="a-picture"),
        pytest.param(b"\xff\xfe\x00\xd8", 1, "", "surrogate", id="half-a-pair"),
        pytest.param(b"a:\n  b: !!bool x\n", 2, "a.b", "'x' is no bool", id="no-bool"),
        pytest.param(b"a: [1, !!int '']\n", 1, "a[1]", "'' is no int", id="no-int"),
        pytest.param(b"a: 2001-99-99\n", 1, "a", "'2001-99-99' is no timestamp", id="no-day"),
        pytest.param(b"!!timestamp x: 1\n", 1, "x", "is no timestamp", id="no-time"),
        pytest.param(b"a: " + b"9" * 5000, 1, "a", "is no int", id="digits"),
        pytest.param(b"!!map x\n", 1, "", "is no map", id="a-word-for-a-mapping"),
        pytest.param(b"a: !!python/name:os.getcwd ''\n", 1, "a", "tag", id="tag-of-python"),
        pytest.param(b"a: !!python/object/apply:os.getcwd []\n", 1, "a", "tag", id="call-of-python"),
        pytest.param(b"a: !mine {}\n", 1, "a", "'!mine' is not read", id="own-tag"),
        pytest.param(b"a: 1\n? [b]\n: 2\n", 2, "", "cannot be a key", id="list-as-key"),
        pytest.param(b"a: {<<: 3}\n", 1, "a.<<", "takes a mapping", id="merged-number"),
        pytest.param(b"a: {<<: [{b: 1}, 3]}\n", 1, "a.<<", "takes a mapping", id="merged-list"),
        pytest.param(b"[" * 100_000, 1, "", "deep", id="deep"),
        pytest.param(b"? " * 20_000, 1, "", "deep", id="deep-keys"),
        pytest.param(b"a: &a [1, *a]\n", 1, "", "stands in itself", id="list-in-itself"),
        pytest.param(b"&a {<<: *a}", 1, "", "stands in itself", id="mapping-merged-into-itself"),
        pytest.param(
            b"a: &a " + b"[" * 40 + b"]" * 40 + b"\nb: " + b"[" * 20 + b"*a" + b"]" * 20, 1, "", "deep", id="deep-alias"
        ),
        pytest.param(LAUGHS, 6, "f", "more than 1000000 values", id="billion-laughs"),
    ],
)
def test_what_is_not_read_is_refused_with_its_line_and_place(content: bytes, line: int, place: str, named: str) -> None:
    found = mistake(content)
    assert (found.line, found.place) == (line, place)
    assert named in found.text
    with pytest.raises(msgspec.DecodeError):
        decode(content, object)


@pytest.mark.parametrize(
    ("content", "repeated"),
    [
        (b"a: 1\nb: 2\na: 3\n", ["3: a: it is there twice, first on line 1"]),
        (b'a:\n  - {b: 1, "b": 2}\n', ["2: a[0].b: it is there twice, first on line 2"]),
        (b"1: 1\n'1': 2\n", []),
        (b"a: &a {b: 1}\nc:\n  <<: *a\n  b: 2\n", []),
        (b"a: &a {b: 1}\nc: &c {<<: *a, b: 2}\nd: {<<: [*c, *a], b: 3}\n", []),
        (b"a: &a {b: 1}\nc:\n  <<: *a\n  <<: {d: 1}\n", ["4: c.<<: it is there twice, first on line 3"]),
        (b"a: 1\na: 2\na: 3", ["2: a: it is there twice, first on line 1", "3: a: it is there twice, first on line 1"]),
    ],
)
def test_a_key_that_is_there_twice_is_found(content: bytes, repeated: list[str]) -> None:
    assert [str(found) for found in read(content)[1]] == repeated
    if repeated:
        with pytest.raises(UnreadableError, match="it is there twice"):
            decode(content, object)
    else:
        assert decode(content, object) == yaml.safe_load(content)


def test_a_document_that_repeats_itself_by_alias_is_read() -> None:
    content = b"two: &two {workers: 2}\nlist: [{serving: *two}, {serving: *two}]\n"
    assert decode(content, dict) == {"two": {"workers": 2}, "list": [{"serving": {"workers": 2}}] * 2}


def test_nothing_is_read_as_nothing() -> None:
    assert decode(b"# only a comment\n", object) is None


def test_a_date_is_a_date() -> None:
    assert decode(b"2001-12-14", datetime.date) == datetime.date(2001, 12, 14)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_was_written_as_yaml_is_read_as_msgspec_reads_it(value: object) -> None:
    content = yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
    try:
        expected = msgspec.yaml.decode(content)
    except msgspec.DecodeError:  # such as half of a surrogate pair
        mistake(content)
    else:
        root, repeated = read(content)
        assert (value_of(root), repeated) == (expected, [])


@given(st.text("[]{}:,-?&*!<>|'\"#% \nab10.~=e").map(str.encode) | st.binary())
@example(b"=")
@example(b"a: &a !!binary b")
@example(b"!!set {a: 1}")
@example(b"!!omap x")
@example(b"{=: 1}")
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        root, _ = read(content)
    except UnreadableError:
        return
    assert value_of(root) == msgspec.yaml.decode(content)


def test_a_strange_key_does_not_break_the_line() -> None:
    assert inside("a", "b\nc") == r"a.'b\nc'"
    assert inside("a", "b.c") == "a.'b.c'"
    assert inside("a", "b-c") == "a.b-c"
    assert len(inside("", "x" * 1000)) < 70
