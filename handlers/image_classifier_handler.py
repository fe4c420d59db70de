"""The TorchServe adapter: turns the rows of a batch into requests for the core, and hands back its responses.

TorchServe asks a handler module for exactly one class, and calls its `initialize` once and its `handle` for each batch.
"""

import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

from classifier.allocator import keep_memory
from classifier.answer_form import answer_form
from classifier.digests import verify
from classifier.hold import wait_while_held
from classifier.metrics import Metrics, metrics
from classifier.pipeline import Classifier
from classifier.recipe import Answers
from classifier.record import Record
from classifier.request_log import RequestLog, request_log
from classifier.service import PARAMETER_HEADERS, PICTURE_FIELDS, SEVERAL_VALUES, Request, Wish, answer
from classifier.traces import Traces, traces

logger = logging.getLogger(__name__)

_PICTURE_KEYS: tuple[str, ...] = ("body", *PICTURE_FIELDS)  # the raw body, or the form field that carries the picture
# For gRPC's StreamPredictions: TorchServe's front end expects "false" in this header of a single answer. It treats an
# answer without the header as the death of the worker, and all other requests of the batch get an error.
_LAST_OF_STREAM = "ts_stream_next"
# What tells gRPC's ModelInfer from Predictions: its body has a type, which the front end gives it. From the answer the
# front end takes the fields of KServe's protocol v2, whatever the status; if one is missing, it drops the worker and
# every request of its batch.
_MODEL_INFER = {"content-type": "application/json"}


class ImageClassifierHandler:
    """Serves one unpacked archive."""

    classifier: Classifier
    answers: Answers | None = None  # the form of the answers; None for the recipe's
    log: RequestLog | None = None  # None: requests are not logged
    metrics: Metrics | None = None  # None: nothing is counted
    traces: Traces | None = None  # None: no spans are made

    def initialize(self, context: Any) -> None:
        """Verify the archive, load the model and warm it up.

        Raises:
            RuntimeError: the archive cannot be served. Any other exception would make TorchServe restart the worker
                for ever.
        """
        directory = Path(context.system_properties["model_dir"])
        device = _device(context.system_properties.get("gpu_id"))
        try:
            keep_memory()  # before the libraries allocate
            _keep_repeated_parts()
            self.classifier = _load(directory, device)
            self.answers = answer_form(self.classifier.recipe, os.environ)
            model = self.classifier.identity.model
            self.log = request_log(os.environ, model)
            self.metrics = metrics(os.environ, model, self.classifier.labels, directory)
            self.traces = traces(os.environ, model)
        except Exception as error:
            raise RuntimeError(f"cannot serve {context.model_name}: {error}") from error
        logger.info("ready on %s: %s", device, model)

    def handle(self, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer one batch. Each row gets a status, a content type and a body of its own.

        TorchServe mixes predictions, explanations and describe calls in one batch; a row's headers tell them apart.
        """
        headers = [context.get_all_request_header(index) for index in range(len(rows))]
        requests = [
            _request(row, row_headers, context.get_request_id(index))
            for index, (row, row_headers) in enumerate(zip(rows, headers, strict=True))
        ]
        if all(request.wants == "description" for request in requests):  # a worker with other requests does not rest
            wait_while_held(Path(tempfile.gettempdir()))
        record, begin = Record(), time.perf_counter()
        responses = answer(self.classifier, requests, self.answers, record)
        end = time.perf_counter()
        if self.log is not None:
            self.log.write(requests, responses, end - begin)
        if self.metrics is not None:
            self.metrics.write(requests, responses, record, end - begin)
        if self.traces is not None:
            self.traces.write(requests, responses, record, begin, end)
        for index, response in enumerate(responses):
            context.set_response_status(response.status, HTTPStatus(response.status).phrase, index)
            context.set_response_content_type(index, response.content_type)
            if "content-length" not in _sent(headers[index]):  # gRPC: the front end gives each HTTP request a length
                context.set_response_header(index, _LAST_OF_STREAM, "false")
        return [response.body for response in responses]


def _device(gpu: int | None) -> str:
    """Where a worker computes: on the GPU that the front end gave it, if torch can use GPUs."""
    if gpu is None:
        return "cpu"
    import torch  # which workers that do not compute with it must not load

    return f"cuda:{gpu}" if torch.cuda.is_available() else "cpu"


def _wish(headers: Mapping[str, Any]) -> Wish:
    """Return what a row asks for, from the markers that TorchServe's front end adds to the client's headers.

    Only the exact names count. On `/predictions` and `/explanations` the front end overwrites a client's header
    `explain`, but keeps a client's `Explain: True` beside its own; that header must not trigger an explanation.
    """
    if headers.get("describe") == "True":
        return "description"
    return "explanation" if headers.get("explain") == "True" else "prediction"


def _sent(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the client's headers with names in lower case: HTTP ignores the case, but TorchServe keeps it.

    TorchServe puts the fields of a form among the headers, under names that the client chooses. Their values are not
    strings, so they are left out.
    """
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}


def _load(directory: Path, device: str) -> Classifier:
    """Load an archive's model and warm it up while a second thread verifies the digests, which takes as long.

    Raises:
        BrokenArchiveError: a file differs from what was built. This error replaces any error of loading it.
        UnusableError, OSError, ValueError: as `Classifier.load` and `warm_up`.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="verify") as executor:
        verified = executor.submit(verify, directory)
        try:
            classifier = Classifier.load(directory, device)
            classifier.warm_up()
        except Exception:
            verified.result()  # if a file is damaged, that explains this error
            raise
        verified.result()
    return classifier


def _keep_repeated_parts() -> None:
    """Have rows keep all pictures and all values of a parameter that a form sends under one name, as a list.

    TorchServe keeps the last one, and no handler hears of the others: a client with two pictures would get the answer
    to one of them, as if it had sent no other.
    """
    from ts.service import Service  # type: ignore[import-untyped] # ships no types

    retrieve = Service.retrieve_data_for_inference
    if getattr(retrieve, "keeps_repeated_parts", False):
        return

    def keeping(batch: Sequence[Mapping[str, Any]]) -> Any:
        headers, rows, ids = retrieve(batch)
        for request, row in zip(batch, rows, strict=True):
            for key in (*_PICTURE_KEYS, *PARAMETER_HEADERS.values()):
                sent = [part["value"] for part in request["parameters"] if part["name"] == key]
                if len(sent) > 1:
                    row[key] = sent
        return headers, rows, ids

    keeping.keeps_repeated_parts = True  # type: ignore[attr-defined] # so that no second call wraps it again
    Service.retrieve_data_for_inference = staticmethod(keeping)


def _pictures(row: Mapping[str, Any]) -> list[Any]:
    """The pictures of a row. An empty part does not count: browsers send one for each file that nobody chose."""
    found: list[Any] = []
    for key in _PICTURE_KEYS:
        if key in row:
            found += row[key] if _is_repeated(row[key]) else [row[key]]
    return [picture for picture in found if not isinstance(picture, bytes | bytearray | str) or picture]


def _is_repeated(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, bytes | bytearray) for part in value)


def _request(row: Mapping[str, Any], headers: Mapping[str, Any], request_id: str) -> Request:
    """Turn a row into a request. It holds the body or the form's fields, and on some paths the query's parameters."""
    sent = _sent(headers)
    pictures = _pictures(row)
    parameters = {key: _text(value) for key, value in row.items() if key not in _PICTURE_KEYS}
    for header, value in headers.items():
        if name := PARAMETER_HEADERS.get(header.lower()):  # a form's field of that name has no text, and is refused
            parameters.setdefault(name, str(value))
    return Request(
        body=pictures[0] if pictures else None,
        pictures=len(pictures),
        tensors="content-length" not in sent and headers.get("body") == _MODEL_INFER,
        wants=_wish(headers),
        content_type=sent.get("content-type", ""),
        accept=sent.get("accept", ""),
        parameters=parameters,
        request_id=request_id,
        client_request_id=sent.get("x-request-id", ""),
        traceparent=sent.get("traceparent", ""),
        tracestate=sent.get("tracestate", ""),
        request_start=sent.get("x-request-start", ""),
        timeout_ms=sent.get("x-timeout-ms", ""),
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return SEVERAL_VALUES
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
