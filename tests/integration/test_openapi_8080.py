"""Requests by the hundred, made from the OpenAPI description, right and wrong ones: every answer is one that it names.

`EXAMPLES=1000` tries more of them. What is left out of Schemathesis' checks, and why, is in `LEFT_OUT`.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from classifier.recipe import read_recipe
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case

from scripts.shipping.openapi import RECIPES, description
from scripts.torchserve.server import Server
from tests.conftest import encode
from tests.integration.contract import LITE0, TIMEOUT_S, post, torchserve

EXAMPLES = int(os.environ.get("EXAMPLES", "12"))  # of each operation, besides those that probe its limits

LEFT_OUT = {
    "unsupported_method": "TorchServe takes any method for POST",
    "allow_header_conformance": "TorchServe's 405 names no method",
    "not_a_server_error": "the check of the test itself knows the one that there is",
}
# What a broken picture gets is not what a wrong request gets; and an unknown version is 404 though it is well formed.
REFUSALS = ["400", "403", "404", "413", "415", "422"]

PICTURES = [
    encode(Image.new(mode, (9, 7)), kind)
    for mode, kind in (("RGB", "PNG"), ("L", "JPEG"), ("RGBA", "WEBP"), ("P", "GIF"), ("CMYK", "TIFF"), ("RGB", "BMP"))
]
# The first is likelier to be drawn: a picture of any type may be called any of them.
schemathesis.openapi.media_type("image/png", st.sampled_from(PICTURES))
for other in ("jpeg", "webp", "gif", "bmp", "tiff", "avif"):
    schemathesis.openapi.media_type(f"image/{other}", st.sampled_from(PICTURES) | st.binary(max_size=100))


def closed(schema: Any) -> Any:
    """The description with every object limited to the fields that it names: the server sends no others."""
    for part in schema["components"]["schemas"].values():
        if part.get("type") == "object" and "parameters" not in part["properties"]:
            part["additionalProperties"] = False
    return schema


def contract() -> Any:
    config = SchemathesisConfig.from_dict(
        {
            "checks": {
                **{name: {"enabled": False} for name in LEFT_OUT},
                "negative_data_rejection": {"expected-statuses": REFUSALS},
                "positive_data_acceptance": {"expected-statuses": ["2xx", *REFUSALS]},
            },
        }
    )
    return schemathesis.openapi.from_dict(description([read_recipe(RECIPES / f"{LITE0}.yaml")]), config=config)


schema = contract()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as shared:
        shared.trust_env = False
        yield shared


def assert_no_error_of_ours(response: Response, case: Case[Any]) -> None:
    """The only 500 is the front end's, for a form that it cannot read: without a name, say. No worker hears of it."""
    if response.status_code >= 500:
        assert case.media_type == "multipart/form-data", response.text
        assert response.json().get("type", "").endswith("DecoderException"), response.text


examples = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@schema.parametrize()  # type: ignore[untyped-decorator]
@examples
def test_every_answer_of_torchserve_is_one_that_is_described(
    case: Case[Any], server: Server, session: requests.Session
) -> None:
    response = case.call(base_url=torchserve(server), session=session, timeout=TIMEOUT_S)
    assert_no_error_of_ours(response, case)
    if response.status_code < 500:
        case.validate_response(response)


def test_after_all_of_them_a_photograph_is_what_it_was(server: Server, cat: bytes) -> None:
    assert post(torchserve(server), LITE0, cat).json()["class"] == "n02124075 Egyptian cat"


@schema.include(path_regex="^/(predictions|explanations|ping)").parametrize()  # type: ignore[untyped-decorator]
@examples
def test_flask_answers_the_same(case: Case[Any], devserver: str, session: requests.Session) -> None:
    response = case.call(base_url=devserver, session=session, timeout=TIMEOUT_S)
    if response.status_code in (404, 405, 413):  # its own problems: devserver/README.md
        assert response.json()["type"] == "about:blank"
        return
    assert response.status_code < 500 or response.status_code == 501, response.text
    case.validate_response(response)
