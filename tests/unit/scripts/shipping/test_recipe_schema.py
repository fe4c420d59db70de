import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from classifier.document import decode
from classifier.errors import UnusableError
from classifier.recipe import PRECISIONS, Precision, Recipe, RuntimeName, Variant, read_recipe
from mktestdocs.__main__ import grab_code_blocks

from scripts.console import UserError
from scripts.shipping.recipe_schema import MODELINE, PAGE, SCHEMA, documented, main, schema, with_types
from tests.conftest import TINY_RECIPE

RECIPES = sorted(PAGE.parent.glob("*.yaml"))
TEXT = PAGE.read_text()
EXAMPLES = grab_code_blocks(TEXT, lang="yaml")
DIGEST = "0" * 64
GOOD: dict[str, Any] = {"name": "good", "architecture": "net", "weights": f"a.pth#sha256={DIGEST}", "labels": ["a"]}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    written = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(written)
    return jsonschema.Draft202012Validator(written)


def test_the_file_is_what_types_and_page_say_now() -> None:
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(schema(TEXT))), (
        "stale; `make recipe-schema` writes it"
    )


def test_the_tables_have_the_defaults_and_allowed_values_of_the_types() -> None:
    assert with_types(TEXT) == TEXT, "stale; `make recipe-schema` writes them"


def test_the_program_writes_both(tmp_path: Path) -> None:
    page, output = tmp_path / "README.md", tmp_path / "schema.json"
    page.write_text(re.sub(r" \| `?bilinear`? \|.*", " | old | old |", TEXT))
    assert page.read_text() != TEXT
    main(page=page, output=output)
    assert (page.read_text(), output.read_text()) == (TEXT, SCHEMA.read_text())


def test_a_field_without_a_row_and_a_row_without_a_field_are_refused() -> None:
    without = re.sub(r"\| `input\.fit` .*\n", "", TEXT)
    with pytest.raises(UserError, match=r"no row that says what `input\.fit` means"):
        documented(without)
    with pytest.raises(UserError, match=r"a row for `input\.fits`, which no recipe has"):
        documented(TEXT.replace("| `input.batch` |", "| `input.fits` | nothing | | |\n| `input.batch` |"))


def test_every_field_of_every_struct_is_described(validator: jsonschema.Draft202012Validator) -> None:
    places = [place for place, _, _ in documented(TEXT)]
    assert {"archives[].tolerance.top1_agreement", "input.normalization.std", "labels[].class_id"} <= {*places}
    for name, struct in validator.schema["$defs"].items():
        for field, described in struct["properties"].items():
            assert described["description"], f"{name}.{field}"


def test_patterns_are_javascripts() -> None:
    assert re.findall(r'"pattern": ".*\$"', SCHEMA.read_text())
    assert r"\\Z" not in SCHEMA.read_text()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_projects_recipes_name_the_schema_and_fit_it(
    path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    first, _, rest = path.read_text().partition("\n")
    assert first == MODELINE
    validator.validate(yaml.safe_load(rest))


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"labels": [{"class_id": "a", "class_name": "A"}, "b"]}, True),
        ({"labels": "imagenet1k"}, True),
        ({"architecture": "timm:resnet18", "arguments": {"num_classes": 1, "list": [1, {"a": None}]}}, True),
        ({"input": {"crop": [192, 256], "normalization": {"mean": 0, "std": [1, 2, 3], "scale": 1}}}, True),
        ({"input": {"resize": None}}, True),
        ({"archives": [{"runtime": "openvino", "precision": "int8", "version": "1.2.3", "tolerance": None}]}, True),
        ({"serving": {"threads": 3}}, True),
        ({"scores": "sigmoid", "threshold": 0.5}, True),
        ({"requirements": ["einops==0.8.2", "torch[extra] == 2.0 ; python_version > '3'"]}, True),
        ({"name": "a/b"}, False),
        ({"name": None}, False),
        ({"colour": "red"}, False),
        ({"labels": []}, False),
        ({"labels": [{"class_id": "a"}]}, False),
        ({"labels": {}}, False),
        ({"architecture": "../net"}, False),
        ({"arguments": []}, False),
        ({"input": {"crop": [224]}}, False),
        ({"input": {"crop": 4097}}, False),
        ({"input": {"crop_percentage": 0}}, False),
        ({"input": {"interpolation": "cubic"}}, False),
        ({"input": {"normalization": {"mean": []}}}, False),
        ({"input": {"normalization": {"scale": 0}}}, False),
        ({"input": {"batch": 0}}, False),
        ({"input": None}, False),
        ({"archives": [{"runtime": "abacus"}]}, False),
        ({"archives": [{"precision": "int8"}]}, False),
        ({"archives": [{"runtime": "eager", "version": 1.0}]}, False),
        ({"archives": [{"runtime": "eager", "version": "v1"}]}, False),
        ({"archives": [{"runtime": "eager", "tolerance": {}}]}, False),
        ({"archives": [{"runtime": "eager", "tolerance": {"max_abs_logit": -1}}]}, False),
        ({"archives": [{"runtime": "eager", "float32_layers": [1]}]}, False),
        ({"serving": {"threads": "some"}}, False),
        ({"serving": {"batch_size": True}}, False),
        ({"scores": "sigmoid", "threshold": 1.5}, False),
        ({"requirements": ["einops>=0.8"]}, False),
        ({"mobile": {"float32_layers": "stem"}}, False),
    ],
)
def test_schema_and_reader_agree(
    change: dict[str, Any], good: bool, validator: jsonschema.Draft202012Validator, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(GOOD | change))
    assert validator.is_valid(yaml.safe_load(path.read_text())) == good
    if good:
        assert read_recipe(path).name == "good"
    else:
        with pytest.raises(UnusableError):
            read_recipe(path)


def test_a_recipe_of_the_tests_fits_too(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(yaml.safe_load(TINY_RECIPE.read_text()))


# ---- the page


def test_the_examples_are_recipes(validator: jsonschema.Draft202012Validator) -> None:
    short, fuller = (decode(text.encode(), Recipe) for text in EXAMPLES)
    assert len(EXAMPLES[0].strip().splitlines()) == 5
    assert (short.name, fuller.input.size, fuller.threshold) == ("flowers", (192, 256), 0.4)
    for text in EXAMPLES:
        validator.validate(yaml.safe_load(text))


def test_the_mistakes_that_it_shows_are_told_like_that(tmp_path: Path) -> None:
    path = tmp_path / "garden.yaml"
    wrong = (("bicubic", "bicubik"), ("threshold", "treshold"), ("max_abs_logit: 0.8", "max_abs_logit: 8e-1"))
    text = EXAMPLES[1].strip()
    for old, new in wrong:
        text = text.replace(old, new)
    path.write_text(text)
    with pytest.raises(UnusableError) as caught:
        read_recipe(path)
    shown = re.findall(r"^    recipes/garden\.yaml(.*)$", TEXT, re.MULTILINE)
    assert str(caught.value).splitlines() == [f"{path}{line}" for line in shown]


def test_the_usual_archives_are_those_of_the_types() -> None:
    (table,) = re.findall(r"<!-- usual archives -->\n.*\n.*\n((?:.*\n)*?)<!-- /usual archives -->", TEXT)
    built = {(variant.runtime, variant.precision) for variant in decode(yaml.safe_dump(GOOD).encode(), Recipe).archives}
    expected = []
    for runtime in get_args(RuntimeName):
        for precision in (one for one in get_args(Precision) if one in PRECISIONS[runtime]):
            variant = Variant(runtime=runtime, precision=precision)
            limit = variant.allowed(1)  # a share of the largest output
            row = [f"`{runtime}`", f"`{precision}`", f"`{variant.version}`"]
            row.append("built" if (runtime, precision) in built else "")
            row += [str(float(x)) for x in (limit.max_abs_logit, limit.top1_agreement, limit.top5_agreement)]
            expected.append(row)
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] == expected
