"""Traces as a collector gets them: OTLP over HTTP, from a worker behind a real TorchServe."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from scripts.archives.store import find_archive
from scripts.torchserve.config import read_config, with_free_ports
from scripts.torchserve.launch import Variables
from scripts.torchserve.server import serving
from tests.integration.conftest import CHECKOUT
from tests.integration.contract import TIMEOUT_S

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ARRIVES_S = 20.0  # spans are sent in batches, every five seconds


class Collector(NamedTuple):
    """A collector, which keeps what it gets, and the address of a server that sends to it."""

    received: list[Span]
    server: str

    def of(self, trace: str) -> dict[str, Span]:
        """The spans of a trace, by name, when they are all there."""
        deadline = time.monotonic() + ARRIVES_S
        while time.monotonic() < deadline:
            found = {span.name: span for span in list(self.received) if span.trace_id.hex() == trace}
            if "prediction" in found:
                return found
            time.sleep(0.2)
        raise AssertionError(f"no span of {trace} within {ARRIVES_S} s")

    def ask(self, body: bytes, **headers: str) -> requests.Response:
        return requests.post(f"{self.server}/predictions/tiny", data=body, headers=headers, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def collector(tiny_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    received: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = ExportTraceServiceRequest.FromString(body)
            assert self.path == "/v1/traces"
            received.extend(
                span for resource in asked.resource_spans for scope in resource.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    archive = tiny_archive()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        config = with_free_ports(read_config(CHECKOUT / "config.properties")) | {"model_store": str(archive.parent)}
        variables = Variables(traces=f"http://127.0.0.1:{listener.server_port}")
        state = tmp_path_factory.mktemp("traces")
        with serving(config, [find_archive(archive.name, archive.parent)], state, variables=variables) as server:
            yield Collector(received, server.addresses.inference)
        listener.shutdown()
        thread.join()


def test_a_clients_trace_goes_on_in_the_worker(collector: Collector, cat: bytes) -> None:
    sent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Start": f"t={time.time():.3f}"}
    answer = collector.ask(cat, **sent)
    assert answer.ok
    found = collector.of(TRACE)
    assert found.keys() == {"prediction", "queue", "decode", "forward", "rank"}
    whole = found["prediction"]
    assert whole.parent_span_id.hex() == PARENT
    attributes = {item.key: item.value.string_value or item.value.int_value for item in whole.attributes}
    assert attributes["classifier.request_id"] == answer.headers["x-request-id"]
    assert attributes["http.response.status_code"] == 200
    for name in ("queue", "decode", "forward", "rank"):
        assert found[name].parent_span_id == whole.span_id
        assert whole.start_time_unix_nano <= found[name].start_time_unix_nano <= found[name].end_time_unix_nano
        assert found[name].end_time_unix_nano <= whole.end_time_unix_nano


def test_a_refused_picture_has_its_code_in_its_trace(collector: Collector) -> None:
    trace = TRACE.replace("0af7", "1111")
    assert collector.ask(b"no picture", traceparent=f"00-{trace}-{PARENT}-01").status_code == 415
    attributes = {item.key: item.value.string_value for item in collector.of(trace)["prediction"].attributes}
    assert attributes["error.type"] == "not_an_image"


def test_an_answer_does_not_wait_for_a_collector_that_is_gone(
    tiny_archive: Callable[..., Path], cat: bytes, tmp_path: Path
) -> None:
    archive = tiny_archive()
    config = with_free_ports(read_config(CHECKOUT / "config.properties")) | {"model_store": str(archive.parent)}
    with socket.socket() as taken:  # and nobody listens there
        taken.bind(("127.0.0.1", 0))
        variables = Variables(traces=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with serving(config, [find_archive(archive.name, archive.parent)], tmp_path, variables=variables) as server:
            address = f"{server.addresses.inference}/predictions/tiny"
            answers = [requests.post(address, data=cat, timeout=TIMEOUT_S) for _ in range(20)]
    assert all(answer.ok for answer in answers)
    assert max(answer.elapsed.total_seconds() for answer in answers) < TIMEOUT_S / 10
