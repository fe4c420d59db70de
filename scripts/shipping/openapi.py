"""Writes the HTTP contract as an OpenAPI 3.1 description, made from the types, limits and problems of the code.

TorchServe describes itself at `OPTIONS /`, but not the bodies of requests and responses.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from classifier.answers import Answer, ExplanationAnswer, ExplanationsAnswer, InstancesAnswer, Item, PredictionsAnswer
from classifier.decode import FORMATS
from classifier.explain import METHODS
from classifier.json_body import Instances
from classifier.labels import load_labels
from classifier.problems import MEDIA_TYPE, NotSupported, Problem
from classifier.recipe import VERSION_PATTERN, Recipe, read_recipe
from classifier.responses import JSON
from classifier.service import DEFAULT_TOP_K, PICTURE_FIELDS
from classifier.v2 import OUTPUTS, InferRequest, InferResponse
from PIL import Image

from scripts.console import done
from scripts.torchserve.config import addresses, read_config

PAGE: Final = Path("docs/openapi.json")
RECIPES: Final = Path("recipes")

Schema = dict[str, Any]

# What the front end answers by itself, before or instead of a worker; measured in docs/requests.md.
FRONT_END: Final = {
    400: "the bytes are no HTTP request, or its head has a line of more than 4, or headers of more than 8 kB",
    403: "the path has a broken percent escape",
    404: "no such path, model or version",
    500: "a form that it cannot read; or the worker ended, and another one starts",
    503: "no worker, or its queue is full",
    507: "out of memory",
}
# In lines or not, with or without padding, in either alphabet of RFC 4648, and after `data:<type>;base64,` or not
_BASE64: Final = {"type": "string", "contentEncoding": "base64"}
_TOO_LARGE: Final = "TorchServe itself, without a body: a request over max_request_size."


class FrontEndError(msgspec.Struct, kw_only=True):
    """What TorchServe's front end answers by itself."""

    code: int
    type: str
    message: str


class Ping(msgspec.Struct):
    """Whether the server answers; not whether a model is ready."""

    status: str


def description(recipes: Sequence[Recipe], folder: Path = RECIPES) -> Schema:
    """The OpenAPI description of a TorchServe with these models.

    Args:
        recipes: recipes of the models. Their limits are described; where they differ, the largest.
        folder: folder of the recipes, to which the paths of their label files are relative.
    """
    classes = max(len(load_labels(recipe.labels, folder)) for recipe in recipes)
    pictures = max(recipe.serving.max_instances for recipe in recipes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image classifier on TorchServe",
            "version": "1",
            "description": "The contract of the inference port, with answers in the full form: `answers: stock` of a "
            "recipe or server is another one (docs/migrate.md). Compare a problem's `code`; never its text.",
        },
        "servers": [{"url": addresses(read_config()).inference}],
        "paths": _paths([recipe.name for recipe in recipes], classes),
        "components": {"schemas": _schemas(pictures, classes), "responses": _errors()},
    }


# ---- schemas


def _schemas(pictures: int, classes: int) -> dict[str, Schema]:
    types = [Answer, *get_args(Item), ExplanationAnswer, ExplanationsAnswer, InferResponse, FrontEndError, Ping]
    types += [Instances, InferRequest]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    found: dict[str, Schema] = dict(schemas)
    for schema in found.values():
        schema.pop("title", None)
    found["Problem"] = _problem(found.pop("ProblemAnswer"))
    found["InstancesAnswer"] = _list_of_items(InstancesAnswer, "instances")
    found["PredictionsAnswer"] = _list_of_items(PredictionsAnswer, "predictions")
    _limit(found["Instances"]["properties"]["instances"], pictures)
    tensor = found["InferInput"]["properties"]
    _limit(tensor["data"], pictures)
    tensor["data"]["items"] = found["Encoded"]["properties"]["b64"] = dict(_BASE64)
    found["Instance"]["properties"] |= {"b64": dict(_BASE64), "data": {"oneOf": [dict(_BASE64), _ref("Encoded")]}}
    found["Instance"]["oneOf"] = [{"required": ["b64"]}, {"required": ["data"]}]
    tensor["shape"] |= {"minItems": 1, "maxItems": 2}
    found["InferRequest"]["properties"]["inputs"] |= {"minItems": 1, "maxItems": 1}
    found["InferRequest"]["properties"]["parameters"]["properties"] = {"top_k": _top_k(classes)}
    found["RequestedOutput"]["properties"]["name"]["enum"] = list(OUTPUTS)
    return found


def _problem(schema: Schema) -> Schema:
    """The schema of a problem, with all statuses and codes."""
    kinds = sorted(Problem.__subclasses__(), key=lambda kind: (kind.status, kind.code))
    schema["properties"]["status"] = {"enum": sorted({kind.status for kind in kinds})}
    schema["properties"]["code"] = {"enum": [kind.code for kind in kinds]}
    return schema


def _list_of_items(answer: type[msgspec.Struct], field: str) -> Schema:
    """The schema of an answer to several pictures, by hand because msgspec describes no union of two objects."""
    items = {"oneOf": [_ref("InstanceAnswer"), _ref("Problem")]}
    return {
        "description": answer.__doc__,
        "type": "object",
        "properties": {field: {"type": "array", "minItems": 1, "items": items}, "model": _ref("Model")},
        "required": list(answer.__struct_fields__),
    }


def _limit(schema: Schema, pictures: int) -> None:
    schema |= {"minItems": 1, "maxItems": pictures}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _top_k(classes: int) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": classes, "default": min(DEFAULT_TOP_K, classes)}


# ---- paths


def _paths(models: list[str], classes: int) -> Schema:
    model = _parameter("model_name", "path", {"type": "string", "enum": models})
    version = _parameter(
        "model_version", "path", {"type": "string", "pattern": VERSION_PATTERN.pattern.replace(r"\Z", "$")}
    )
    top_k = _parameter("X-Top-K", "header", _top_k(classes))
    why = [
        _parameter("X-Target", "header", {"type": "string"}, "The class to explain, by id or index."),
        _parameter("X-Method", "header", {"type": "string", "enum": list(METHODS)}),
    ]
    pictures, picture = _bodies(), _bodies(several=False)
    answers = {JSON: _any("Answer", "InstancesAnswer", "PredictionsAnswer")}
    explanation = {JSON: _any("ExplanationAnswer", "ExplanationsAnswer"), **_png()}
    tensors = {"required": True, "content": {JSON: {"schema": _ref("InferRequest")}}}
    several = {"required": True, "content": {JSON: {"schema": _ref("Instances")}}}
    listed = {JSON: _any("InstancesAnswer", "PredictionsAnswer")}

    def ask(name: str, what: str, parameters: list[Schema], body: Schema, content: Schema, **more: Any) -> Schema:
        operation = {"operationId": name, "summary": what, "parameters": [model, *parameters], "requestBody": body}
        return {"post": operation | {"responses": _responses(content, **more)}}

    predict, explain = "Classify pictures.", "Which parts of a picture speak for a class."
    query = _parameter("top_k", "query", _top_k(classes))
    return {
        "/ping": {"get": {"operationId": "ping", "responses": {"200": _response("alive", {JSON: _any("Ping")})}}},
        "/predictions/{model_name}": ask("predict", predict, [top_k], pictures, answers),
        "/predictions/{model_name}/{model_version}": ask(
            "predictVersion", predict, [version, top_k], pictures, answers
        ),
        "/models/{model_name}/invoke": ask("invoke", predict, [query], pictures, answers),
        "/v1/models/{model_name}:predict": ask("predictV1", predict, [top_k], several, listed),
        "/v2/models/{model_name}/infer": ask("infer", predict, [], tensors, {JSON: _any("InferResponse")}),
        "/explanations/{model_name}": ask("explain", explain, why, picture, explanation, explains=True),
        "/explanations/{model_name}/{model_version}": ask(
            "explainVersion", explain, [version, *why], picture, explanation, explains=True
        ),
    }


def _parameter(name: str, place: str, schema: Schema, what: str = "") -> Schema:
    described = {"description": what} if what else {}
    return {"name": name, "in": place, "required": place == "path", "schema": schema, **described}


def _bodies(*, several: bool = True) -> Schema:
    """The request bodies: a picture as the body or in a form, or pictures in JSON.

    Only the description says that a form's fields may be parameters, because a schema cannot express that a field and a
    header or query parameter mean the same.
    """
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "description": "Parameters may be fields too: `top_k`, `target`, `method`. A field wins.",
        "properties": dict.fromkeys(PICTURE_FIELDS, binary),
        "oneOf": [{"required": [field]} for field in PICTURE_FIELDS],
    }
    Image.init()
    types = [Image.MIME[name] for name in FORMATS]
    content: Schema = {name: {"schema": binary} for name in [*types, "application/octet-stream"]}
    content["multipart/form-data"] = {"schema": form}
    one = {"properties": {"instances": {"maxItems": 1}}}
    listed = _ref("Instances") if several else {"allOf": [_ref("Instances"), one]}
    content[JSON] = {"schema": {"oneOf": [_ref("Instance"), listed]}}
    content["text/plain"] = {"schema": dict(_BASE64)}
    return {"required": True, "content": content}


def _any(*names: str) -> Schema:
    return {"schema": _ref(names[0]) if len(names) == 1 else {"oneOf": [_ref(name) for name in names]}}


def _png() -> Schema:
    return {"image/png": {"schema": {"type": "string", "format": "binary"}}}


def _responses(content: Schema, *, explains: bool = False) -> Schema:
    """The responses: the answer, and the errors that can be returned instead."""
    errors = {
        str(status): {"$ref": f"#/components/responses/Error{status}"}
        for status in _statuses()
        if explains or status != NotSupported.status
    }
    return {"200": _response("the answer", content)} | errors


def _statuses() -> list[int]:
    return sorted({kind.status for kind in Problem.__subclasses__()} | FRONT_END.keys())


def _errors() -> Schema:
    """The error responses by status: the handler's problems, and the front end's own errors."""
    responses = {}
    for status in _statuses():
        own = [kind for kind in Problem.__subclasses__() if kind.status == status]
        said = [f"`{kind.code}`: {(kind.__doc__ or '').splitlines()[0]}" for kind in own]
        bodies: Schema = {MEDIA_TYPE: {"schema": {"allOf": [_ref("Problem"), _only(status, own)]}}} if own else {}
        if status in FRONT_END:
            said.append(f"TorchServe itself: {FRONT_END[status]}.")
            bodies[JSON] = _any("FrontEndError")
        responses[f"Error{status}"] = _response(" ".join([*said, *([_TOO_LARGE] if status == 413 else [])]), bodies)
    return responses


def _only(status: int, kinds: list[type[Problem]]) -> Schema:
    return {"properties": {"status": {"const": status}, "code": {"enum": [kind.code for kind in kinds]}}}


def _response(what: str, content: Schema) -> Schema:
    ids = {"x-request-id": {"schema": {"type": "string", "format": "uuid"}, "description": "as in the server's logs"}}
    return {"description": what, "headers": ids, "content": content}


def main(*, recipes: Path = RECIPES, output: Path = PAGE) -> None:
    """Write the HTTP contract to docs/openapi.json.

    Args:
        recipes: folder of the recipes.
        output: the file to write.
    """
    found = [read_recipe(path) for path in sorted(recipes.glob("*.yaml"))]
    output.write_text(json.dumps(description(found, recipes), indent=1, ensure_ascii=False) + "\n")
    done(f"{output}: {', '.join(recipe.name for recipe in found)}")
