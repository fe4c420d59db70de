"""KServe's protocols on the inference port: which paths TorchServe serves, and what the handler answers there."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from scripts.torchserve.server import Server
from tests.integration.contract import LITE0, TIMEOUT_S, assert_problem, post, torchserve


def b64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def infer(server: Server, data: list[str], verb: str = "infer", **fields: object) -> requests.Response:
    body = {"inputs": [{"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}], **fields}
    return requests.post(f"{torchserve(server)}/v2/models/{LITE0}/{verb}", json=body, timeout=TIMEOUT_S)


def tensors(response: requests.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/json"
    return {tensor["name"]: tensor for tensor in response.json()["outputs"]}


def test_a_v2_request_is_answered_with_tensors(server: Server, cat: bytes) -> None:
    response = infer(server, [b64(cat)], id="request-7", parameters={"top_k": 3})
    content = response.json()
    assert (content["model_name"], content["model_version"], content["id"]) == (LITE0, "1.0", "request-7")
    assert content["parameters"]["weights"] == "efficientnet-lite0-57934424"
    found = tensors(response)
    assert [found[name]["shape"] for name in ("class_id", "class_name", "probability", "problem")] == [[1, 3]] * 3 + [
        [1]
    ]
    expected = post(torchserve(server), LITE0, cat).json()["predictions"][:3]
    assert found["class_id"]["data"] == [prediction["class_id"] for prediction in expected]
    assert found["class_name"]["data"] == [prediction["class_name"] for prediction in expected]
    assert found["probability"]["data"] == pytest.approx([prediction["probability"] for prediction in expected])


def test_one_bad_picture_hurts_no_other_of_the_request(server: Server, cat: bytes, coffee: bytes) -> None:
    data = [b64(cat), b64(b"no picture"), b64(coffee), "%%%", b64(cat[:1000])]
    found = tensors(infer(server, data, parameters={"top_k": 1}))
    assert found["class_name"]["data"] == ["Egyptian cat", "", "espresso", "", ""]
    assert [json.loads(text)["code"] if text else None for text in found["problem"]["data"]] == [
        None,
        "not_an_image",
        None,
        "bad_base64",
        "image_broken",
    ]


def test_what_is_wrong_with_the_whole_request_is_a_problem_as_everywhere(server: Server, cat: bytes) -> None:
    assert_problem(infer(server, []), 400, "empty_body")
    assert_problem(infer(server, [b64(cat)], inputs=[]), 400, "bad_json")
    assert_problem(infer(server, [b64(cat)], parameters={"top_k": 0}), 400, "bad_parameter")
    assert_problem(infer(server, ["QUJD"] * 65), 413, "too_many_instances")
    url = f"{torchserve(server)}/v2/models/no_such_model/infer"
    unknown = requests.post(url, json={}, timeout=TIMEOUT_S)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "ModelNotFoundException")


def test_a_picture_is_explained_as_everywhere(server: Server, cat: bytes) -> None:
    answer = infer(server, [b64(cat)], "explain").json()
    assert (answer["class"], answer["method"]) == ("n02124075 Egyptian cat", "grad_cam")


def test_version_1_of_the_protocol_carries_instances_too(server: Server, cat: bytes) -> None:
    url = f"{torchserve(server)}/v1/models/{LITE0}:predict"
    response = requests.post(url, json={"instances": [{"b64": b64(cat)}]}, timeout=TIMEOUT_S)
    assert response.json()["instances"][0]["class"] == "n02124075 Egyptian cat"


# With KServe's own client, whose types are in the environment of the validators.
CLIENT = """
import asyncio, sys
from kserve import InferInput, InferRequest, InferenceRESTClient, RESTConfig

async def main(address, model, picture):
    tensor = InferInput("image", [1], "BYTES", [picture])
    request = InferRequest(model, [tensor], request_id="7", parameters={"top_k": 1})
    answer = await InferenceRESTClient(RESTConfig(protocol="v2")).infer(address, request, model_name=model)
    print(answer.id, answer.model_name, answer.get_output_by_name("class_name").data)

asyncio.run(main(*sys.argv[1:3], sys.stdin.read()))
"""


def test_kserves_own_client_is_answered(server: Server, ship: Path, cat: bytes) -> None:
    result = subprocess.run(
        [str(ship / "python"), "-W", "ignore", "-c", CLIENT, torchserve(server), LITE0],
        input=b64(cat),
        env={"NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"7 {LITE0} ['Egyptian cat']"


@pytest.mark.parametrize(
    "path",
    [
        *("v2", "v2/health/live", "v2/health/ready", f"v2/models/{LITE0}", f"v2/models/{LITE0}/ready"),
        *(f"v2/models/{LITE0}/versions/1.0/infer", f"v1/models/{LITE0}"),
    ],
)
def test_what_torchserve_lacks_of_the_protocol_is_not_found(server: Server, path: str) -> None:
    """kubernetes/kserve/README.md says so: a manifest must not probe these."""
    response = requests.get(f"{torchserve(server)}/{path}", timeout=TIMEOUT_S)
    assert (response.status_code, response.json()["type"]) == (404, "ResourceNotFoundException")
