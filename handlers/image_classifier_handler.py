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
from classifier.service import PARAMETER_HEADERS, PICTURE_FIELDS, Request, Wish, answer

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
        headers = [context.get_all_request_header(index) for index in range(len(rows))]
        requests = [
            _request(row, row_headers, context.get_request_id(index))
            for index, (row, row_headers) in enumerate(zip(rows, headers, strict=True))
        ]
        responses = answer(self.classifier, requests)
        for index, response in enumerate(responses):
            context.set_response_status(response.status, HTTPStatus(response.status).phrase, index)
            context.set_response_content_type(index, response.content_type)
            if "content-length" not in _sent(headers[index]):  # gRPC: the front end gives each HTTP request a length
                context.set_response_header(index, _LAST_OF_STREAM, "false")
        return [response.body for response in responses]


def _wish(headers: Mapping[str, Any]) -> Wish:
    """What a row asks for, by the marks that TorchServe's front end adds to the client's headers.

    Only the exact names count. On `/predictions` and `/explanations` the front end writes `explain` over what a client
    sent under that name, but a client's `Explain: True` stays beside it, and must buy no explanation.
    """
    if headers.get("describe") == "True":
        return "description"
    return "explanation" if headers.get("explain") == "True" else "prediction"


def _sent(headers: Mapping[str, Any]) -> dict[str, str]:
    """The client's headers, named in lower case, because HTTP gives case no meaning and TorchServe keeps it.

    Beside them TorchServe puts a form's fields under their own names, which are the client's to choose: those values
    are no strings.
    """
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}


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
    sent = _sent(headers)
    body = next((row[key] for key in _PICTURE_KEYS if key in row), None)
    parameters = {key: _text(value) for key, value in row.items() if key not in _PICTURE_KEYS}
    for header, name in PARAMETER_HEADERS.items():
        if header in sent:
            parameters.setdefault(name, sent[header])
    return Request(
        body=body,
        wants=_wish(headers),
        content_type=sent.get("content-type", ""),
        accept=sent.get("accept", ""),
        parameters=parameters,
        request_id=request_id,
    )


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
