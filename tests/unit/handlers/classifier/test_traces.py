import sys
import time

import pytest
from classifier.errors import UnusableError
from classifier.identity import Model
from classifier.record import Record
from classifier.responses import Response
from classifier.service import Request
from classifier.traces import COLLECTOR_VARIABLE, Traces, traces
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

MODEL = Model(name="tiny", version="1.0", runtime="eager", precision="float32", weights="untrained")
GOOD = Response(status=200, content_type="application/json", body=b"{}")
BAD = Response(status=415, content_type="application/problem+json", body=b"{}", code="not_an_image")
FAILED = Response(status=500, content_type="application/problem+json", body=b"{}", code="internal")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def spans(*asked: tuple[Request, Response]) -> dict[str, list[ReadableSpan]]:
    """The spans of a batch that took 30 ms, by name."""
    record, begin = Record(), time.perf_counter()
    for stage in ("decode", "forward", "rank"):
        with record.stage(stage):
            time.sleep(0.01)
    exporter = InMemorySpanExporter()
    made = Traces(exporter, MODEL)
    made.write(
        [request for request, _ in asked], [response for _, response in asked], record, begin, time.perf_counter()
    )
    made.close()
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_request_is_a_span_of_its_clients_trace_with_its_stages_inside() -> None:
    request = Request(body=b"", request_id="a", traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=1")
    found = spans((request, GOOD))
    (span,) = found["prediction"]
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert span.context is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.context.trace_state.get("vendor") == "1"
    assert span.resource.attributes["service.name"] == "image-classifier"
    assert dict(span.attributes or {}) == {
        "http.response.status_code": 200,
        "classifier.request_id": "a",
        "classifier.batch_requests": 1,
        "classifier.model": "tiny",
        "classifier.version": "1.0",
        "classifier.runtime": "eager",
        "classifier.precision": "float32",
    }
    assert found.keys() == {"prediction", "decode", "forward", "rank"}
    for stage in ("decode", "forward", "rank"):
        (inner,) = found[stage]
        assert inner.parent is not None
        assert inner.parent.span_id == span.context.span_id
        assert 0.01 <= seconds(inner) < seconds(span)
    assert abs((span.end_time or 0) / 1e9 - time.time()) < 5


def test_the_time_in_the_queue_is_a_span_where_a_proxy_tells_the_arrival() -> None:
    found = spans((Request(body=b"", request_start=f"t={time.time() - 0.5:.3f}"), GOOD))
    (queue,), (span,) = found["queue"], found["prediction"]
    assert 0.4 < seconds(queue) < seconds(span)
    assert queue.start_time == span.start_time


def test_each_request_of_a_batch_has_its_own_trace_and_outcome() -> None:
    found = spans(
        (Request(body=b"1"), BAD), (Request(body=b"2"), FAILED), (Request(body=None, wants="description"), GOOD)
    )
    refused, failed = found["prediction"]
    assert [(span.attributes or {}).get("error.type") for span in (refused, failed)] == ["not_an_image", "internal"]
    assert (refused.status.is_ok, failed.status.is_ok) == (True, False)
    assert len({span.context.trace_id for span in (refused, failed) if span.context}) == 2
    assert len(found["description"]) == 1
    assert len(found["forward"]) == 2  # a description has no stages


def test_a_trace_that_its_client_does_not_keep_is_not_kept_here() -> None:
    assert spans((Request(body=b"", traceparent=f"00-{TRACE}-{PARENT}-00"), GOOD)) == {}


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-0-0-01", "é" * 1000])
def test_a_request_without_a_trace_begins_one(traceparent: str) -> None:
    (span,) = spans((Request(body=b"", traceparent=traceparent), GOOD))["prediction"]
    assert span.parent is None


def test_nothing_is_loaded_unless_the_environment_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert traces({}, MODEL) is None
    with pytest.raises(UnusableError, match="is not installed; pip install opentelemetry-sdk"):
        traces({COLLECTOR_VARIABLE: "http://localhost:4318"}, MODEL)
