"""What the tests of the HTTP contract share: how they ask, and what a problem looks like."""

from typing import Any

import requests

from scripts.torchserve.server import Server

TIMEOUT_S = 60
LITE0 = "efficientnet_lite0"


def torchserve(server: Server) -> str:
    return server.addresses.inference


def post(address: str, model: str, body: bytes | None = None, **options: Any) -> requests.Response:
    return requests.post(f"{address}/predictions/{model}", data=body, timeout=TIMEOUT_S, **options)


def assert_problem(response: requests.Response, status: int, code: str) -> None:
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() == {"type", "title", "status", "code", "detail"}
    assert (problem["status"], problem["code"]) == (status, code)
