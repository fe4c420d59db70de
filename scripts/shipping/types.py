"""Checks documents of kinds that Kubernetes itself does not know: types of KServe's SDK and of the Prometheus operator.

It is run by the Python of `.ship`, which has those packages, and imports nothing of the project. It prints a line for
each fault.
"""

import functools
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import kserve.models
import kubernetes.client
import yaml
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor
from pydantic import BaseModel, ValidationError

KINDS: Final = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}
_PRIMITIVES: Final[dict[str, type | tuple[type, ...]]] = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def faults(document: dict[str, Any]) -> list[str]:
    """The faults of a document: fields that its type does not have, missing fields, and values of another type."""
    kind = KINDS.get((document["apiVersion"], document["kind"]))
    if kind is not None:
        return list(_openapi(document, kind, document["kind"]))
    if (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor"):
        return list(_pydantic(document, ServiceMonitor, document["kind"]))
    return []


def _openapi(value: Any, kind: str, where: str) -> Iterator[str]:
    """Walk a value of a type of KServe's SDK, which itself ignores unknown fields."""
    if item := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            yield f"{where}: is not a list"
            return
        for index, part in enumerate(value):
            yield from _openapi(part, item[1], f"{where}[{index}]")
    elif item := re.fullmatch(r"dict\(str, (.*)\)", kind):
        for key, part in value.items():
            yield from _openapi(part, item[1], f"{where}.{key}")
    elif kind in _PRIMITIVES:
        if not isinstance(value, _PRIMITIVES[kind]) or (isinstance(value, bool) and kind != "bool"):
            yield f"{where}: {value!r} is not of type {kind}"
    elif model := _model(kind):
        walk = _pydantic if issubclass(model, BaseModel) else _fields
        yield from walk(value, model, where)


def _fields(value: Any, model: Any, where: str) -> Iterator[str]:
    names = {json_name: name for name, json_name in model.attribute_map.items()}
    if not isinstance(value, dict):
        yield f"{where}: is not an object"
        return
    for key in value.keys() - names.keys():
        yield f"{where}: {model.__name__} has no field {key}"
    known = {key: part for key, part in value.items() if key in names}
    try:
        model(**{names[key]: part for key, part in known.items()})
    except ValueError as error:  # a required field is missing, or a value is not allowed
        yield f"{where}: {error}"
    for key, part in known.items():
        yield from _openapi(part, model.openapi_types[names[key]], f"{where}.{key}")


@functools.cache
def _model(kind: str) -> Any:
    """A class of KServe's SDK or of Kubernetes' client; None for quantities and values of any type."""
    return getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind, None)


def _pydantic(value: Any, model: Any, where: str) -> Iterator[str]:
    """Validate, and compare with what the model kept: some models drop unknown fields silently."""
    try:
        understood = model.model_validate(value).model_dump(mode="json", by_alias=True, exclude_unset=True)
    except ValidationError as error:
        for fault in error.errors():
            yield f"{where}.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        return
    yield from _dropped(value, understood, where)


def _dropped(given: Any, understood: Any, where: str) -> Iterator[str]:
    if isinstance(given, dict):
        for key, part in given.items():
            if key not in understood:
                yield f"{where}: has no field {key}"
            else:
                yield from _dropped(part, understood[key], f"{where}.{key}")
    elif isinstance(given, list):
        for index, (part, other) in enumerate(zip(given, understood, strict=True)):
            yield from _dropped(part, other, f"{where}[{index}]")


def main() -> None:
    """Print the faults of the documents of each file."""
    for path in sys.argv[1:]:
        with open(path) as file:  # noqa: PTH123 - the standard library will do
            for document in yaml.safe_load_all(file):
                for fault in faults(document):
                    print(f"{path}: {fault}")  # noqa: T201


if __name__ == "__main__":
    main()
