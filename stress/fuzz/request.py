"""Fuzz target: any request must be answered by the contract, and a good request in the same batch as if it were alone.

An input is two lines, the content type and `top_k`, and then the body. With the content type `decoded` the body is JSON
that the server has already decoded, as TorchServe can.
"""

import json
import sys
from pathlib import Path

import atheris
import numpy as np
from numpy.typing import NDArray

with atheris.instrument_imports(include=["msgspec", "classifier.service", "classifier.v2", "classifier.problems"]):
    import msgspec
    from classifier.forks import Threads
    from classifier.identity import Identity, Model
    from classifier.labels import Label
    from classifier.pipeline import Classifier
    from classifier.problems import MEDIA_TYPE
    from classifier.recipe import read_recipe
    from classifier.responses import JSON, Response
    from classifier.runtimes import Source
    from classifier.service import Request, answer

from stress.hostile.files import png

RECIPE = Path(__file__).parents[2] / "tests" / "third_model" / "tiny.yaml"
GOOD = Request(body=png(1, 1, b"\0\0"))
DECODED = "decoded"


def classifier() -> Classifier:
    """A classifier with the tiny model's contract but no network: the logits are the mean colours of a picture."""

    def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        means = pixels.mean(axis=(1, 2), dtype=np.float32)
        return np.concatenate([means, means, means, means[:, :1]], axis=1)

    recipe = read_recipe(RECIPE)
    model = Model(name=recipe.name, version="1.0", runtime="eager", precision="float32", weights="none")
    return Classifier(
        recipe=recipe,
        identity=Identity(model=model, weights_sha256="", serialized_file="none"),
        labels=[Label(class_id=f"t{index:02}", class_name=str(index)) for index in range(10)],
        source=Source(directory=Path(), serialized_file="none", recipe=recipe, variant=recipe.archives[0], threads=1),
        forward=forward,
        decoders=Threads(2, "decode"),
    )


CLASSIFIER = classifier()
ALONE = answer(CLASSIFIER, [GOOD])


def answer_once(data: bytes) -> None:
    """Answer a request; anything that breaks the contract is a finding."""
    asked, neighbour = answer(CLASSIFIER, [read(data), GOOD])
    assert [neighbour] == ALONE
    content = msgspec.json.decode(asked.body, type=dict)
    assert asked.status < 500
    if asked.status != 200:
        assert asked.content_type == MEDIA_TYPE
        check_problem(content, asked)
        return
    assert asked.content_type == JSON
    for instance in content.get("instances", []):
        if "code" in instance:
            check_problem(instance)
    assert {"predictions", "instances", "outputs"} & content.keys()


def check_problem(content: dict[str, object], response: Response | None = None) -> None:
    """Check that a problem has the fields of RFC 9457 and a status for an error of the client."""
    assert content.keys() == {"type", "title", "status", "code", "detail"}
    status = content["status"]
    assert isinstance(status, int)
    assert 400 <= status < 500
    assert response is None or response.status == status


def read(data: bytes) -> Request:
    """Read an input as a request."""
    content_type, _, rest = data.partition(b"\n")
    top_k, _, text = rest.partition(b"\n")
    body: object = text
    if content_type.decode("latin-1") == DECODED:
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):  # a server cannot have decoded this one
            body = text
    return Request(
        body=body,
        content_type=content_type.decode("latin-1"),
        parameters={"top_k": top_k.decode("utf-8", "replace")} if top_k else {},
    )


if __name__ == "__main__":
    atheris.Setup(sys.argv, answer_once)
    atheris.Fuzz()
