"""Traces of requests, as OpenTelemetry has them: a span for each request, and in it one for each stage of its batch.

A client's `traceparent` (W3C Trace Context) makes the span a part of the client's trace. The time in the queue is a
span where a proxy tells when the request arrived (`X-Request-Start`), because TorchServe does not. Only workers whose
environment names a collector load the library. Its own variables, such as `OTEL_TRACES_SAMPLER`, count as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from classifier.deadline import arrival
from classifier.errors import UnusableError

if TYPE_CHECKING:  # what starts a server reads only the names below
    from opentelemetry.sdk.trace.export import SpanExporter

    from classifier.identity import Model
    from classifier.record import Record
    from classifier.responses import Response
    from classifier.service import Request

# The base URL of a collector that takes OTLP over HTTP, usually http://<host>:4318.
COLLECTOR_VARIABLE: Final = "CLASSIFIER_TRACES"
_SERVICE: Final = "image-classifier"


class Traces:
    """Hands the spans of one worker to a collector, from a thread of its own."""

    def __init__(self, exporter: SpanExporter, model: Model) -> None:
        """Begin.

        Args:
            exporter: where spans go.
            model: the model that answers.
        """
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource({SERVICE_NAME: _SERVICE}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=Resource.create().merge(resource))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("classifier")
        self._propagator = TraceContextTextMapPropagator()
        self._model = {
            "classifier.model": model.name,
            "classifier.version": model.version,
            "classifier.runtime": model.runtime,
            "classifier.precision": model.precision,
        }

    def close(self) -> None:
        """Hand over what there is. A worker's spans of its last seconds are lost if it is killed."""
        self._provider.shutdown()

    def write(
        self, requests: Sequence[Request], responses: Sequence[Response], record: Record, begin: float, end: float
    ) -> None:
        """Make the spans of a batch.

        Args:
            requests: its requests.
            responses: their answers.
            record: what is known of the batch.
            begin: when it began, of `time.perf_counter`.
            end: when it was answered, of the same.
        """
        since = time.time() - time.perf_counter()
        stages = [(span.stage, since + span.begin, since + span.begin + span.seconds) for span in record.spans]
        for request, response in zip(requests, responses, strict=True):
            arrived = arrival(request.request_start, since + begin)
            queue = [] if arrived is None else [("queue", arrived, since + begin)]
            computed = stages if request.wants == "prediction" else []
            self._write(request, response, len(requests), [*queue, *computed], since + begin, since + end)

    def _write(
        self,
        request: Request,
        response: Response,
        batch: int,
        stages: Sequence[tuple[str, float, float]],
        begin: float,
        end: float,
    ) -> None:
        from opentelemetry import trace

        first = min([begin, *(start for _, start, _ in stages)])
        span = self._tracer.start_span(
            request.wants,
            self._propagator.extract({"traceparent": request.traceparent, "tracestate": request.tracestate}),
            trace.SpanKind.SERVER,
            self._attributes(request, response, batch),
            start_time=_nanoseconds(first),
        )
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(trace.StatusCode.ERROR)
        inside = trace.set_span_in_context(span)
        for name, start, stop in stages:
            self._tracer.start_span(name, inside, start_time=_nanoseconds(start)).end(_nanoseconds(stop))
        span.end(_nanoseconds(end))

    def _attributes(self, request: Request, response: Response, batch: int) -> dict[str, Any]:
        found = self._model | {
            "http.response.status_code": response.status,
            "classifier.request_id": request.request_id,
            "classifier.batch_requests": batch,
        }
        return found | ({"error.type": response.code} if response.code else {})


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def traces(environment: Mapping[str, str], model: Model) -> Traces | None:
    """The traces that the environment asks for; None if it asks for none.

    Raises:
        UnusableError: OpenTelemetry is not installed.
    """
    collector = environment.get(COLLECTOR_VARIABLE)
    if not collector:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise UnusableError(
            f"{COLLECTOR_VARIABLE}={collector}: {error.name} is not installed; "
            "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        ) from error
    return Traces(OTLPSpanExporter(endpoint=f"{collector.rstrip('/')}/v1/traces"), model)
