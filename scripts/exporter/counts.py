"""Counts all requests of a server, those that no worker got among them: Prometheus' counters and histograms."""

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Final

from classifier.metrics import SECONDS
from prometheus_client import CollectorRegistry, Counter, Histogram

from scripts.exporter.answers_log import Answer

_MODEL: Final = ("model", "version")
# Entrance, status and who answered, of what is counted from 0 on. Prometheus' rates miss the first answers of a series
# that begins with them, and a burst of failures must not be missed, nor what it is a share of.
_FROM_ZERO: Final = (
    ("http", "200", "worker"),
    ("http", "500", "worker"),
    *(("http", status, "torchserve") for status in ("500", "503", "507")),
    ("grpc", "0", "worker"),
    *(("grpc", status, "torchserve") for status in ("2", "4", "8", "13", "14")),
)
Registered = Mapping[str, tuple[str, str]]  # name and version of each registered model, by `<model>_<version>`


class Requests:
    """The counts since the exporter was started."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Count nothing yet.

        Args:
            registry: what is read to show the counts.
        """
        self._requests = Counter(
            "classifier_requests",
            "Requests that were answered, by whom: a worker, or TorchServe's front end by itself.",
            ["entrance", "wants", *_MODEL, "status", "by"],
            registry=registry,
        )
        self._seconds = Histogram(
            "classifier_request_seconds",
            "Time from the arrival of a request to its answer by a worker, to a millisecond.",
            ["wants", *_MODEL],
            registry=registry,
            buckets=SECONDS,
        )
        self._queue = Histogram(
            "classifier_queue_seconds",
            "Part of that time that the request waited for a worker.",
            _MODEL,
            registry=registry,
            buckets=SECONDS,
        )

    def begin(self, registered: Registered) -> None:
        """Show versions that nobody has asked yet, with nothing counted."""
        names = {*registered.values(), *((name, "") for name, _ in registered.values()), ("", "")}
        for entrance, status, by in _FROM_ZERO:
            for wants, (name, version) in product(("prediction", "explanation"), names):
                self._requests.labels(entrance, wants, name, version, status, by)

    def count(self, answers: Iterable[Answer], registered: Callable[[], Registered]) -> None:
        """Count answers.

        Args:
            answers: what the log says.
            registered: asked once if there is an answer. Paths of other models are counted without their names: anybody
                can think of any number of them.
        """
        known: Registered | None = None
        for answer in answers:
            known = registered() if known is None else known
            model, version = _model(answer, known)
            by_worker = answer.queue_s is not None
            self._requests.labels(
                answer.entrance,
                answer.wants,
                model,
                version,
                str(answer.status),
                "worker" if by_worker else "torchserve",
            ).inc()
            if answer.queue_s is not None:
                self._seconds.labels(answer.wants, model, version).observe(answer.seconds)
                self._queue.labels(model, version).observe(answer.queue_s)


def _model(answer: Answer, known: Registered) -> tuple[str, str]:
    """The model and version of an answer, empty as far as unknown."""
    if answer.worker in known:
        return known[answer.worker]
    if answer.worker:  # unregistered by now, or not described yet
        name, _, version = answer.worker.rpartition("_")
        return name, version
    name, version = answer.path
    if (name, version) in known.values():
        return name, version
    return (name if any(name == model for model, _ in known.values()) else ""), ""
