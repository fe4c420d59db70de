import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from classifier.pipeline import Classifier
from classifier.problems import Internal, Problem
from classifier.recipe import read_recipe
from classifier.service import Request, answer, answer_explanation

from scripts.shipping.openapi import PAGE, RECIPES, description
from tests.conftest import TINY_RECIPE
from tests.unit.handlers.classifier.test_service import as_json
from tests.unit.handlers.classifier.test_v2 import b64, infer


@pytest.fixture(scope="module")
def described() -> Any:
    return description([read_recipe(path) for path in sorted(RECIPES.glob("*.yaml"))])


@pytest.fixture(scope="module")
def tiny_described() -> Any:
    return description([read_recipe(TINY_RECIPE)], TINY_RECIPE.parent)


def validate(content: object, name: str, described: Any) -> None:
    """Hold JSON to one of the described schemas."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    schema = {"$schema": dialect, "$ref": f"#/components/schemas/{name}", "components": described["components"]}
    jsonschema_rs.validate(schema, content)


def test_the_page_is_what_the_types_say_now(described: Any) -> None:
    assert json.loads(PAGE.read_text()) == json.loads(json.dumps(described)), "stale; `make openapi` writes it"


@pytest.mark.slow
def test_it_is_valid_openapi(described: Any) -> None:
    import schemathesis  # takes seconds

    loaded = schemathesis.openapi.from_dict(json.loads(json.dumps(described)))
    loaded.validate()
    assert {f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods} >= {
        "POST /predictions/{model_name}",
        "POST /explanations/{model_name}/{model_version}",
        "POST /v2/models/{model_name}/infer",
    }
    for schema in described["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_limits_are_the_recipes(tiny_described: Any) -> None:
    recipe = read_recipe(TINY_RECIPE)
    schemas, paths = tiny_described["components"]["schemas"], tiny_described["paths"]
    assert schemas["Instances"]["properties"]["instances"]["maxItems"] == recipe.serving.max_instances
    model, top_k = paths["/predictions/{model_name}"]["post"]["parameters"]
    assert model["schema"]["enum"] == ["tiny"]
    assert (top_k["schema"]["minimum"], top_k["schema"]["maximum"]) == (1, 10)


def test_every_problem_is_described_under_its_status(described: Any) -> None:
    responses = described["components"]["responses"]
    for kind in Problem.__subclasses__():
        _, only = responses[f"Error{kind.status}"]["content"]["application/problem+json"]["schema"]["allOf"]
        assert kind.code in only["properties"]["code"]["enum"]
        validate(msgspec.to_builtins(kind("why").answer()), "Problem", described)
    with pytest.raises(jsonschema_rs.ValidationError):
        validate(msgspec.to_builtins(Internal("why").answer()) | {"code": "another"}, "Problem", described)


def test_what_the_core_answers_is_what_is_described(tiny: Classifier, cat: bytes, tiny_described: Any) -> None:
    bodies = {
        "Answer": cat,
        "InstancesAnswer": as_json(cat, b"no picture"),
        "PredictionsAnswer": as_json(cat, b"no picture").replace(b'"b64"', b'"data"'),
        "InferResponse": infer(b64(cat, b"no picture"), id="7"),
        "Problem": b"no picture",
    }
    answers = answer(tiny, [Request(body=body) for body in bodies.values()])
    for name, response in zip(bodies, answers, strict=True):
        validate(json.loads(response.body), name, tiny_described)
    explanation = answer_explanation(tiny, Request(body=cat))
    validate(json.loads(explanation.body), "ExplanationAnswer", tiny_described)
    listed = answer_explanation(tiny, Request(body=as_json(cat).replace(b'"b64"', b'"data"')))
    validate(json.loads(listed.body), "ExplanationsAnswer", tiny_described)
    with pytest.raises(jsonschema_rs.ValidationError):
        validate(json.loads(answers[0].body), "InstancesAnswer", tiny_described)


def test_the_program_writes_the_page(tmp_path: Path) -> None:
    from scripts.shipping import openapi

    openapi.main(output=tmp_path / "page.json")
    assert (tmp_path / "page.json").read_text() == PAGE.read_text()
