"""A client of TorchServe's REST APIs. gRPC: grpc_client.py."""

import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from scripts.torchserve.config import Addresses
from scripts.torchserve.described import ModelVersion, read_version
from scripts.torchserve.failures import UNTRUSTED, RequestFailedError, failure_in, no_answer
from scripts.torchserve.tokens import REFUSED, Api, Tokens

_CONNECT_TIMEOUT_S: Final = 5
_LOAD_TIMEOUT_S: Final = 320  # outlasts the recipes' startup_timeout_s
_POLL_S: Final = 0.1
FULL_ANSWERS: Final = MappingProxyType({"X-Answers": "full"})  # whatever form the server answers others in

Metrics = Literal["metrics"]  # the API that needs no token
Check = Callable[[], None]  # called while something is waited for; it may raise


class Client:
    """One server's REST APIs. Only a refused connection is retried: no request is ever sent twice."""

    def __init__(
        self,
        addresses: Addresses,
        timeout_s: float = 130,
        connect_retries: int = 3,
        key_file: Path | None = None,
        certificate: str | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            addresses: where the server listens.
            timeout_s: how long to wait for an answer; the default outlasts the recipes' response timeouts.
            connect_retries: how often to try again when a connection is refused.
            key_file: the file of TorchServe's tokens, if it asks for them; tokens in the environment take precedence.
            certificate: the file of the certificate to check the server's with; those of known authorities without it.
        """
        self.addresses = addresses
        self.tokens = Tokens(key_file)
        self.certificate = certificate
        self._timeouts = (_CONNECT_TIMEOUT_S, timeout_s)
        self._session = requests.Session()
        self._session.trust_env = False  # the server is on this machine or in the cluster, never behind a proxy
        retry = Retry(
            total=None, connect=connect_retries, read=False, redirect=0, status=0, other=0, backoff_factor=0.2
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))
        if certificate is not None:
            self._session.verify = certificate

    # ---- inference

    def ping(self) -> dict[str, Any]:
        """TorchServe's own health. It is Healthy even without any worker; `ModelVersion.ready` looks at the workers."""
        content: dict[str, Any] = self._ask("inference", "GET", "/ping")
        return content

    def predict(
        self,
        image: bytes,
        model: str,
        version: str | None = None,
        top_k: int | None = None,
        content_type: str | None = None,
    ) -> dict[str, Any]:
        """Classify one picture; returns the answer as in the contract.

        Args:
            image: the bytes of a file, or any other body of the contract.
            model: name of the model.
            version: version of the model; its default version if None.
            top_k: how many classes to return.
            content_type: the header `Content-Type`; not sent if None.

        Raises:
            RequestFailedError: with the status and code of the contract.
        """
        # TorchServe 0.12 drops the query of /predictions, so the number of classes goes as a header
        headers = dict(FULL_ANSWERS) if top_k is None else {**FULL_ANSWERS, "X-Top-K": str(top_k)}
        if content_type:
            headers["Content-Type"] = content_type
        path = _path("predictions", model, version)
        content: dict[str, Any] = self._ask("inference", "POST", path, data=image, headers=headers)
        return content

    # ---- management

    def versions(self, model: str | None = None) -> list[ModelVersion]:
        """The registered versions of one model or of all."""
        names = [model] if model else self._names()
        return [version for name in names for version in self._describe(name, "all")]

    def version(self, model: str, version: str) -> ModelVersion:
        """One registered version."""
        return self._describe(model, version)[0]

    def defaults(self) -> dict[str, str]:
        """The default version of each model, which answers requests that name no version."""
        return {name: self._describe(name)[0].version for name in self._names()}

    def answering(self, model: str) -> ModelVersion:
        """The default version, which answers requests that name no version."""
        return self._describe(model, None)[0]

    def describe(self, model: str, version: str | None = None) -> dict[str, Any]:
        """The model's description of itself, from a worker: identity, classes, accepted pictures."""
        path = _path("models", model, version)
        described = self._ask("management", "GET", path, params={"customized": "true"})
        content: dict[str, Any] = described[0]
        return content

    # TorchServe is never asked to wait for workers: it would do so in a thread that also serves a part of the clients'
    # connections, which would get no answers meanwhile.

    def register(self, archive: str, model: str, version: str, check: Check = lambda: None) -> None:
        """Register an archive of the model store with its own number of workers, and wait until they are READY.

        Args:
            archive: name of the file.
            model: the model that it holds.
            version: the version that it holds.
            check: see `wait_ready`.

        Raises:
            RequestFailedError: the server refused the archive.
            TimeoutError: the workers are not READY in time.
        """
        parameters = {"url": archive, "initial_workers": "1", "synchronous": "false"}
        self._ask("management", "POST", "/models", params=parameters, timeout=(_CONNECT_TIMEOUT_S, _LOAD_TIMEOUT_S))
        self.wait_ready([(model, version)], _LOAD_TIMEOUT_S, check)

    def scale(self, model: str, workers: int, version: str | None = None, check: Check = lambda: None) -> None:
        """Set the number of workers, and wait until all of them are READY; arguments and errors as of `register`."""
        parameters = {"min_worker": str(workers), "max_worker": str(workers), "synchronous": "false"}
        self._ask("management", "PUT", _path("models", model, version), params=parameters)
        if workers:
            self.wait_ready([(model, version or self.answering(model).version)], _LOAD_TIMEOUT_S, check)

    def set_default(self, model: str, version: str) -> str:
        """Make a version the default, which answers requests that name no version."""
        path = _path("models", model, version, "set-default")
        return str(self._ask("management", "PUT", path)["status"])

    def unregister(self, model: str, version: str | None = None) -> str:
        """Remove a version, or the default version if None."""
        return str(self._ask("management", "DELETE", _path("models", model, version))["status"])

    def wait_ready(self, expected: list[tuple[str, str]], deadline_s: float, check: Check = lambda: None) -> None:
        """Wait until all workers of these (model, version) are READY; `check` is called in between and may raise.

        Raises:
            TimeoutError: they are not READY in time.
            RequestFailedError: the server refuses the environment's token, or its certificate is not trusted.
        """
        deadline = time.monotonic() + deadline_s
        waiting = list(expected)
        while True:
            check()
            waiting = [(model, version) for model, version in waiting if not self._is_ready(model, version)]
            if not waiting:
                return
            if time.monotonic() > deadline:
                names = ", ".join(f"{model} {version}" for model, version in waiting)
                raise TimeoutError(f"{names}: no READY worker after {deadline_s:.0f} s")
            time.sleep(_POLL_S)

    def renew_token(self, api: Api) -> None:
        """Have the server make a new token for an API and write it to its key file. The old one is invalid from now."""
        self._send("management", "GET", "/token", params={"type": api}, headers=self.tokens.renewal_headers())

    # ---- metrics

    def metrics(self) -> str:
        """The metrics page, in Prometheus' text format."""
        return self._send("metrics", "GET", "/metrics").text

    # ---- helpers

    def _is_ready(self, model: str, version: str) -> bool:
        try:
            return self.version(model, version).ready
        except RequestFailedError as error:
            # waiting does not help, unlike with a key file that is not written yet
            if error.code == UNTRUSTED or (error.code == REFUSED and self.tokens.explicit("management")):
                raise
            return False

    def _names(self) -> list[str]:
        names: list[str] = []
        following: str | None = "0"
        while following is not None:
            page = self._ask("management", "GET", "/models", params={"next_page_token": following})
            names += [model["modelName"] for model in page["models"]]
            following = page.get("nextPageToken")
        return names

    def _describe(self, model: str, version: str | None = None) -> list[ModelVersion]:
        return [read_version(entry) for entry in self._ask("management", "GET", _path("models", model, version))]

    def _ask(self, of: Api | Metrics, method: str, path: str, **options: Any) -> Any:
        response = self._send(of, method, path, **options)
        try:
            return response.json()
        except requests.JSONDecodeError as error:
            raise RequestFailedError(response.status_code, "", f"{response.url} did not answer in JSON") from error

    def _send(self, of: Api | Metrics, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to one of the APIs, with the token of that API; requests for metrics carry none."""
        url = {
            "inference": self.addresses.inference,
            "management": self.addresses.management,
            "metrics": self.addresses.metrics,
        }[of] + path
        token = {} if of == "metrics" else self.tokens.headers(of)
        options = {"timeout": self._timeouts} | options
        options["headers"] = token | options.get("headers", {})
        try:
            response = self._session.request(method, url, **options)
        except requests.RequestException as error:
            raise no_answer(error, url, _CONNECT_TIMEOUT_S, self._timeouts[1]) from error
        if response.ok:
            return response
        failure = failure_in(response)
        if failure.code == REFUSED and of != "metrics":
            raise RequestFailedError(failure.status, REFUSED, self.tokens.refusal(of))
        raise failure


def _path(*parts: str | None) -> str:
    return "".join(f"/{quote(part, safe='')}" for part in parts if part)
