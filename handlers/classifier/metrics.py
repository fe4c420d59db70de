"""Metrics of one worker, for Prometheus: its answers, the time of each stage, what its pictures and scores were like.

They are written by prometheus-client's multiprocess mode, into files in a folder that all workers of a server share.
The program that collects them reads the folder, and asks nothing of the workers. Only workers whose environment names
that folder load the library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from classifier.errors import UnusableError
from classifier.problems import Internal
from classifier.slots import reserve

if TYPE_CHECKING:  # what starts a server reads only the names below, and does not wait for the libraries
    import numpy as np
    from numpy.typing import NDArray

    from classifier.baseline import Baseline
    from classifier.identity import Model
    from classifier.labels import Label
    from classifier.record import Record
    from classifier.responses import Response
    from classifier.service import Request

# A worker gets it from its environment, which workers that TorchServe starts again inherit. The name is the library's,
# so the metrics of a model's own code are collected too.
FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

# Upper bounds of the buckets of durations, in seconds: a stage of a light model takes milliseconds, and an answer from
# a full queue takes seconds.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SHARES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)  # of confidence and entropy
_REQUESTS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_MEGAPIXELS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50)
_CLASSES: Final = 100  # that have a time series of their own, for each worker: a model may have 20,000
_OTHER_CLASSES: Final = "other"
LABELS: Final = ("model", "version", "runtime", "precision")  # of every metric of a worker


class Metrics:
    """Counts what one worker does."""

    def __init__(self, folder: Path, model: Model, classes: Sequence[Label], baseline: Baseline | None = None) -> None:
        """Take the first number that no other process has, and go on with the counts in its files.

        Args:
            folder: the folder of the files; it is made if it is missing.
            model: the model that answers.
            classes: the labels of its classes, in the order of the scores.
            baseline: what its answers are compared with.

        Raises:
            OSError: the folder cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        number, self._lock = reserve(folder, "metrics")
        counter, gauge, histogram = _makers(number, model)
        self._answers = counter("answers", "Answers of workers, problems included.", "wants", "status", "code")
        for wants in ("prediction", "explanation"):  # from 0 on, since a rate misses what a series begins with
            self._answers(wants, str(Internal.status), Internal.code)
        self._batch = histogram("batch_seconds", "Time that a worker took for a batch.", SECONDS)()
        self._requests = histogram("batch_requests", "Requests that a worker answered together.", _REQUESTS)()
        self._stages = histogram("stage_seconds", "Time that a stage of a batch took.", SECONDS, "stage")
        self._formats = counter("pictures", "Pictures whose header could be read.", "format")
        self._pixels = histogram("picture_megapixels", "Size of those pictures, in millions of pixels.", _MEGAPIXELS)()
        self._confidence = histogram("confidence", "Probability of the likeliest class of a picture.", SHARES)()
        self._entropy = histogram(
            "entropy", "Entropy of a picture's probabilities, over the largest that so many classes can have.", SHARES
        )()
        self._classes = counter("classes", "Pictures by their likeliest class.", "class")
        self._compared = counter("compared", "Pictures by the bins of the baseline.", "of", "bin")
        self._baseline = baseline
        if baseline is not None:
            share = gauge("baseline_share", "Share of a bin among the baseline's pictures.", "of", "bin")
            for (of, name), value in baseline.shares().items():
                share(of, name).set(value)
                self._compared(of, name).inc(0)  # a bin that stays empty counts as well
            gauge("baseline_pictures", "Pictures that the baseline was made of.")().set(baseline.pictures)
        self._labels = classes
        self._class_names: dict[int, str] = {}
        counter("worker_starts", "Workers that have loaded their model.")().inc()

    def write(self, requests: Sequence[Request], responses: Sequence[Response], record: Record, seconds: float) -> None:
        """Count a batch that took `seconds`."""
        self._batch.observe(seconds)
        self._requests.observe(len(requests))
        for request, response in zip(requests, responses, strict=True):
            self._answers(request.wants, str(response.status), response.code).inc()
        if record.seen or record.scores:  # else there was no picture, and the stages took no time
            for span in record.spans:
                self._stages(span.stage).observe(span.seconds)
        for seen in record.seen:
            self._formats(seen.format).inc()
            self._pixels.observe(seen.pixels / 1e6)
        if record.scores:
            self._count_scores(record.scores)

    def _count_scores(self, rows: Sequence[NDArray[np.float32]]) -> None:
        """Count the scores [classes] of each picture of a batch."""
        import numpy as np

        scores = np.stack(rows)
        best = scores.argmax(axis=1)
        entropies = relative_entropy(scores)
        for index, confidence, entropy in zip(
            best.tolist(), scores.max(axis=1).tolist(), entropies.tolist(), strict=True
        ):
            self._confidence.observe(confidence)
            self._entropy.observe(entropy)
            self._classes(self._class_name(index)).inc()
            if self._baseline is not None:
                self._compared("class", self._baseline.class_bin(self._labels[index].full_name)).inc()
                self._compared("confidence", self._baseline.confidence_bin(confidence)).inc()

    def _class_name(self, index: int) -> str:
        name = self._class_names.get(index)
        if name is None:
            if len(self._class_names) >= _CLASSES:
                return _OTHER_CLASSES
            name = self._class_names[index] = self._labels[index].full_name
        return name


def relative_entropy(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """How undecided a model is about each picture: 0, one class has everything, to 1, all classes have the same.

    Args:
        scores: [N,classes]. Scores that are no distribution over the classes (`scores: sigmoid`) are made into one.

    Returns:
        [N].
    """
    import numpy as np

    shares = scores / np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    nats = -(shares * np.log(np.maximum(shares, np.finfo(np.float32).tiny))).sum(axis=1)
    found: NDArray[np.float32] = nats / np.float32(np.log(max(scores.shape[1], 2)))
    return found


_Child = Callable[..., Any]  # of the values of a metric's own labels: what is counted or observed


def _makers(number: int, model: Model) -> tuple[Callable[..., _Child], Callable[..., _Child], Callable[..., _Child]]:
    """Functions that make a counter, a gauge and a histogram, in the files of that number, with the model's labels."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

    # Files are named after the number, not after the process: workers that die again and again would leave ever more.
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()  # which nobody reads: it refuses two metrics of one name
    common = (model.name, model.version, model.runtime, model.precision)

    def children(metric: Counter | Gauge | Histogram) -> _Child:
        known: dict[tuple[str, ...], Any] = {}

        def child(*own: str) -> Any:
            found = known.get(own)
            if found is None:
                found = known[own] = metric.labels(*common, *own)
            return found

        return child

    def counter(name: str, text: str, *own: str) -> _Child:
        return children(Counter(f"classifier_{name}", text, [*LABELS, *own], registry=registry))

    def gauge(name: str, text: str, *own: str) -> _Child:
        mode: Literal["mostrecent"] = "mostrecent"  # all workers of a version say the same
        names = [*LABELS, *own]
        return children(Gauge(f"classifier_{name}", text, names, registry=registry, multiprocess_mode=mode))

    def histogram(name: str, text: str, buckets: Sequence[float], *own: str) -> _Child:
        names = [*LABELS, *own]
        return children(Histogram(f"classifier_{name}", text, names, registry=registry, buckets=buckets))

    return counter, gauge, histogram


def metrics(
    environment: Mapping[str, str], model: Model, classes: Sequence[Label], archive: Path | None = None
) -> Metrics | None:
    """The metrics that the environment asks for; None if it asks for none.

    Args:
        environment: the worker's.
        model: the model that answers.
        classes: the labels of its classes, in the order of the scores.
        archive: the unpacked archive, which may have a baseline.

    Raises:
        UnusableError: their folder cannot be written to, or the baseline is none.
    """
    folder = environment.get(FOLDER_VARIABLE)
    if not folder:
        return None
    from classifier.baseline import BASELINE_FILE, read_baseline

    path = None if archive is None else archive / BASELINE_FILE
    baseline = read_baseline(path, classes) if path is not None and path.exists() else None
    try:
        return Metrics(Path(folder), model, classes, baseline)
    except OSError as error:
        raise UnusableError(f"{FOLDER_VARIABLE}={folder}: {error}") from error
