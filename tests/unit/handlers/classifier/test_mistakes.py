import copy
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import yaml
from classifier.document import decode
from classifier.mistakes import allowed, mistakes
from classifier.recipe import Recipe
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta

from tests.conftest import TINY_RECIPE

RECIPES = Path(__file__).parents[4] / "recipes"
GOOD = [path.read_bytes() for path in (TINY_RECIPE, *sorted(RECIPES.glob("*.yaml")))]


class Wheel(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A part with a rule across its fields."""

    inner: Annotated[float, Meta(gt=0)] = 1.0
    outer: Annotated[int, Meta(ge=1, le=30)]
    spokes: list[Annotated[int, Meta(ge=0)]] = []

    def __post_init__(self) -> None:
        if self.inner > self.outer:
            raise ValueError(f"inner ({self.inner}) must not be above outer ({self.outer})")


class Cart(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A whole with every kind of field that a recipe could have."""

    name: Annotated[str, Meta(pattern=r"^[a-z]+\Z")]
    colour: Literal["red", "green", "blue"] = "red"
    shape: Literal["round", "square"] | Wheel | None = None
    size: Annotated[int, Meta(ge=1)] | Annotated[list[int], Meta(min_length=2, max_length=2)] = 1
    wheels: Annotated[list[Wheel], Meta(min_length=1)]
    extras: dict[str, Any] = {}
    prices: dict[str, float] = {}
    owner: Annotated[str, Meta(pattern=r"^\w+@\w+\Z", description="a name, @ and a place")] | None = None
    old: bool = False


def of(text: str, type_: Any = Cart) -> list[str]:
    """The mistakes of a document, in words."""
    return [str(mistake) for mistake in mistakes(text.encode(), type_)]


def test_all_mistakes_are_told_at_once_each_with_its_line_and_place() -> None:
    text = """\
nmae: cart
colour: gren
size: "3"
wheels:
  - {outer: 3, inner: 4}
  - outer: 31
    spokes: [1, -1, two]
  - inner: 1e-4
    outer: 3
    outer: 4
extras: {1: a}
prices: {oats: cheap}
old: 1
"""
    assert of(text) == [
        "1: name: it is missing; it must be text of the form ^[a-z]+$",
        "1: nmae: there is no such field; did you mean name?",
        "2: colour: 'gren' is not one of blue, green, red; did you mean green?",
        "3: size: '3' is not a whole number of at least 1 or a list of 2, each a whole number; write 3",
        "5: wheels[0]: inner (4.0) must not be above outer (3)",
        "6: wheels[1].outer: 31 is not a whole number from 1 to 30",
        "7: wheels[1].spokes[1]: -1 is not a whole number of at least 0",
        "7: wheels[1].spokes[2]: 'two' is not a whole number of at least 0",
        "8: wheels[2].inner: '1e-4' is not a number above 0; write 0.0001",
        "10: wheels[2].outer: it is there twice, first on line 9",
        "11: extras.1: 1 is not text; write '1'",
        "12: prices.oats: 'cheap' is not a number",
        "13: old: 1 is not true or false",
    ]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("name: no", "name: no is not text of the form ^[a-z]+$; write 'no'"),
        ("name: 2.0", "name: 2.0 is not text of the form ^[a-z]+$"),
        ('name: !!int "1\\n"', "name: 1 is not text of the form ^[a-z]+$"),
        ("name: [a]", "name: a list of 1 is not text of the form ^[a-z]+$"),
        ("name:", "name: nothing is given; it must be text of the form ^[a-z]+$"),
        ('name: "a\\n"', r"name: 'a\n' is not text of the form ^[a-z]+$"),
        ("colour: Green", "colour: 'Green' is not one of blue, green, red; did you mean green?"),
        ("colour: {}", "colour: a mapping is not one of blue, green, red"),
        ("shape: rund", "shape: 'rund' is not one of round, square or a mapping with inner, outer, spokes; did you "),
        ("shape: {outer: 0}", "shape.outer: 0 is not a whole number from 1 to 30"),
        ("shape: {outer: 1, inner: 2}", "shape: inner (2.0) must not be above outer (1)"),
        ("size: [1]", "size: a list of 1 is not a list of 2, each a whole number"),
        ("size: [1, a]", "size[1]: 'a' is not a whole number"),
        ("size: 1.5", "size: 1.5 is not a whole number of at least 1 or"),
        ("wheels: []", "wheels: a list of 0 is not a list of at least 1, each a mapping with inner, outer, spokes"),
        ("wheels: {outer: 1}", "wheels: a mapping is not a list"),
        ("wheels: [3]", "wheels[0]: 3 is not a mapping with inner, outer, spokes"),
        ("extras: 3", "extras: 3 is not a mapping of names to values"),
        ("owner: me", "owner: 'me' is not a name, @ and a place"),
        ("old: maybe", "old: 'maybe' is not true or false"),
        ("on: 1", "on: the name of a field must be text"),
        ("doors: 1", "doors: there is no such field; the fields are name, colour, shape, size, wheels, extras"),
    ],
)
def test_a_mistake_says_what_is_allowed_and_what_may_be_meant(field: str, said: str) -> None:
    good = {"name": "name: cart", "wheels": "wheels: [{outer: 1}]"}
    text = "\n".join((good | {field.partition(":")[0]: field}).values())
    (mistake,) = of(text)
    assert mistake.partition(": ")[2].startswith(said)


def test_a_rule_across_fields_stands_at_the_line_of_the_field_that_it_names() -> None:
    assert of("outer: 1\nspokes: []\ninner: 2", Wheel) == ["3: inner (2.0) must not be above outer (1)"]


def test_a_long_value_is_cut() -> None:
    (mistake,) = of(f"name: cart\nwheels: [{{outer: 1}}]\ncolour: {'x' * 10_000}")
    assert len(mistake) < 150


def test_a_document_of_mistakes_is_not_reported_to_its_end() -> None:
    assert len(of("\n".join(f"field{number}: 1" for number in range(10_000)))) == 50


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Annotated[int, Meta(gt=1, le=3)], "a whole number above 1 and of at most 3"),
        (Annotated[float, Meta(lt=3)], "a number below 3"),
        (Annotated[list[str], Meta(min_length=1, max_length=3)], "a list of at least 1 and at most 3, each text"),
        (list[Any], "a list, each anything"),
        (Literal["one"], "one"),
        (bytes, "of the kind BytesType"),
    ],
)
def test_what_is_allowed_is_said_in_words(kind: Any, words: str) -> None:
    assert allowed(kind) == words


# ---- what holds for every document

scalars = st.none() | st.booleans() | st.integers(-5, 40) | st.floats(allow_nan=False) | st.text(max_size=5)
words = st.sampled_from(["red", "round", "a", "eager", "openvino", "int8", "float32", "1.0", "bilinear", "all", "half"])
names = st.sampled_from([*Cart.__struct_fields__, *Wheel.__struct_fields__]) | st.text(max_size=3)
values = st.recursive(
    scalars | words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4)
)
carts = st.builds(
    lambda fields, wheels: {"name": "cart", "wheels": wheels} | fields,
    st.dictionaries(names, values, max_size=3),
    st.lists(st.fixed_dictionaries({"outer": st.integers(0, 32)}, optional={"inner": values}), max_size=2) | values,
)


def containers(value: Any) -> list[Any]:
    """All lists and mappings in a value that are not empty."""
    if not isinstance(value, dict | list) or not value:
        return []
    children = value.values() if isinstance(value, dict) else value
    return [value, *(inner for child in children for inner in containers(child))]


@st.composite
def altered_recipes(draw: st.DrawFn) -> Any:
    """A recipe in which up to three values are others, are gone, or have another name."""
    recipe = copy.deepcopy(yaml.safe_load(draw(st.sampled_from(GOOD))))
    for _ in range(draw(st.integers(0, 3))):
        container = draw(st.sampled_from(containers(recipe)))
        key = draw(st.sampled_from(sorted(container) if isinstance(container, dict) else range(len(container))))
        old = container.pop(key)
        match draw(st.sampled_from(["other", "gone", "renamed"])):
            case "other" if isinstance(container, dict):
                container[key] = draw(values)
            case "other":
                container.insert(key, draw(values))
            case "renamed" if isinstance(container, dict):
                container[draw(names)] = old
    return recipe


def agree(content: bytes, type_: Any) -> None:
    """Hold the mistakes to what msgspec takes."""
    found = mistakes(content, type_)
    try:
        msgspec.yaml.decode(content, type=type_)
    except (msgspec.DecodeError, UnicodeError):
        assert found
    else:
        assert found == []
        assert decode(content, type_) == msgspec.yaml.decode(content, type=type_)
    assert all(mistake.text and "\n" not in str(mistake) for mistake in found)
    assert all(1 <= mistake.line <= content.count(b"\n") + 1 for mistake in found)


@given(carts)
def test_a_document_has_mistakes_if_and_only_if_msgspec_refuses_it(value: object) -> None:
    agree(yaml.safe_dump(value).encode(), Cart)


@given(altered_recipes())
def test_a_recipe_has_mistakes_if_and_only_if_msgspec_refuses_it(value: object) -> None:
    agree(yaml.safe_dump(value).encode(), Recipe)


@given(altered_recipes())
def test_every_place_is_in_the_document_or_misses_from_it(value: object) -> None:
    for mistake in mistakes(yaml.safe_dump(value).encode(), Recipe):
        if set("'\"") & set(mistake.place):  # a key that is no word
            continue
        found, steps = value, re.findall(r"\[(\d+)\]|([\w-]+)", mistake.place)
        for index, name in steps[:-1]:
            found = found[int(index)] if index else found[name]  # type: ignore[index]
        assert isinstance(found, dict | list)


@given(
    st.binary(max_size=100)
    | st.lists(
        st.sampled_from(["name", "archives", "input", ": ", "\n", "  ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a"])
        | st.sampled_from(["<<: ", "? ", "!!int ", "!!set ", "!x ", "'", '"', "|", "1", "~", ".inf", "2001-01-01", "="])
    ).map(lambda parts: "".join(parts).encode())
)
@example(b"[" * 100_000)
@example(b"archives: &a [*a]")
@example(b"archives: &a\n- {<<: *a}")
@example(b"{[a]: 1, ? {b: 1} : 2, 3: 4, ~: 5}")
@example(b"!!python/object/apply:os.getcwd []")
@example(b'name: "\\ud800"')
@example(b"input: {<<: {crop: a}, <<: {resize: b}}")
def test_any_bytes_have_mistakes(content: bytes) -> None:
    assert mistakes(content, Recipe)
