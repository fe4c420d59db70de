"""The TorchServe adapter: rows of a batch to the core's requests, the core's responses to TorchServe's.

TorchServe asks a handler module for exactly one class, and calls its `initialize` once and its `handle` for each batch.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch
from classifier.allocator import keep_memory
from classifier.digests import verify
from classifier.pipeline import Classifier
from classifier.service import (
    PARAMETER_HEADERS,
    PICTURE_FIELDS,
    Request,
    Response,
    answer,
    answer_explanation,
    describe,
)

logger = logging.getLogger(__name__)

_PICTURE_KEYS = ("body", *PICTURE_FIELDS)  # the raw body, or the form field that carries the picture
# TorchServe's front end wants to read "false" here in the only answer to gRPC's StreamPredictions. It takes an answer
# without it for the death of the worker, and all other requests of the batch get an error.
_LAST_OF_STREAM = "ts_stream_next"


class ImageClassifierHandler:
    """Serves one unpacked archive."""

    classifier: Classifier

    def initialize(self, context: Any) -> None:
        """Verify the archive, load the model and warm it up.

        Raises:
            RuntimeError: it cannot be served. TorchServe knows no other exception here: any other one makes it restart
                the worker for ever.
        """
        directory = Path(context.system_properties["model_dir"])
        gpu = context.system_properties.get("gpu_id")
        device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
        try:
            keep_memory()  # before the libraries allocate
            self.classifier = _load(directory, device)
        except Exception as error:
            raise RuntimeError(f"cannot serve {context.model_name}: {error}") from error
        logger.info("ready on %s: %s", device, self.classifier.identity.model)

    def handle(self, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer one batch. Each row gets a status, a content type and a body of its own.

        TorchServe mixes predictions, explanations and describe calls in one batch; a row's headers tell them apart.
        """
        headers = [_lower_case(context.get_all_request_header(index)) for index in range(len(rows))]
        requests = [_request(row, headers[index], context.get_request_id(index)) for index, row in enumerate(rows)]
        kinds = [_kind(row_headers) for row_headers in headers]
        predictions = [request for request, kind in zip(requests, kinds, strict=True) if kind == "predict"]
        answers = iter(answer(self.classifier, predictions))  # before the explanations, which take longer
        responses = [
            next(answers) if kind == "predict" else self._answer_special(kind, request)
            for request, kind in zip(requests, kinds, strict=True)
        ]
        for index, response in enumerate(responses):
            context.set_response_status(response.status, HTTPStatus(response.status).phrase, index)
            context.set_response_content_type(index, response.content_type)
            if not _is_http(headers[index]):
                context.set_response_header(index, _LAST_OF_STREAM, "false")
        return [response.body for response in responses]

    def _answer_special(self, kind: str, request: Request) -> Response:
        return describe(self.classifier) if kind == "describe" else answer_explanation(self.classifier, request)


def _kind(headers: Mapping[str, str]) -> str:
    """What a row asks for; its headers say so."""
    return next((kind for kind in ("describe", "explain") if headers.get(kind) == "True"), "predict")


def _is_http(headers: Mapping[str, Any]) -> bool:
    """Whether a row came over HTTP, whose requests have a length, set by the front end if not by the client."""
    return "content-length" in headers


def _load(directory: Path, device: str) -> Classifier:
    """Load and warm up the model of an archive while its digests are computed, which takes as long.

    Raises:
        BrokenArchiveError: a file is not what was built, whatever came of loading it.
        UnusableError, OSError, ValueError: as `Classifier.load` and `warm_up`.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="verify") as executor:
        verified = executor.submit(verify, directory)
        try:
            classifier = Classifier.load(directory, device)
            classifier.warm_up()
        except Exception:
            verified.result()  # a damaged file is the better explanation
            raise
        verified.result()
    return classifier


def _request(row: Mapping[str, Any], headers: Mapping[str, Any], request_id: str) -> Request:
    """A row holds the body, or the form fields, and on some paths the query's parameters, all by name."""
    body = next((row[key] for key in _PICTURE_KEYS if key in row), None)
    parameters = {key: _text(value) for key, value in row.items() if key not in _PICTURE_KEYS}
    for header, name in PARAMETER_HEADERS.items():
        if header in headers:
            parameters.setdefault(name, str(headers[header]))
    return Request(
        body=body,
        content_type=str(headers.get("content-type", "")),
        accept=str(headers.get("accept", "")),
        parameters=parameters,
        request_id=request_id,
    )


def _lower_case(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Header names as HTTP means them; TorchServe passes them on as the client wrote them."""
    return {name.lower(): value for name, value in headers.items()}


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
