"""What people look at: panels with their queries. Grafana's dashboards and the page of `make dashboard` show them."""

from typing import Final, Literal

import msgspec

Unit = Literal["requests/s", "seconds", "share", "bytes", "number", "megapixels"]


class Series(msgspec.Struct, frozen=True):
    """Lines of a panel: one for each result of the query."""

    query: str
    legend: str  # `{{label}}` stands for the value of a label


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One chart over time."""

    title: str
    meaning: str  # for who reads it for the first time
    unit: Unit
    series: list[Series]
    stacked: bool = False


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """Panels that answer one question."""

    name: str
    title: str
    panels: list[Panel]


_OF: Final = "model, version"
_VERSION: Final = "{{model}} {{version}}"


def _median(histogram: str, share: float = 0.5, by: str = _OF) -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({histogram}_bucket[5m])))"


def _mean(histogram: str, by: str) -> str:
    return f"sum by ({by}) (rate({histogram}_sum[5m])) / sum by ({by}) (rate({histogram}_count[5m]))"


SERVICE: Final = Board(
    name="service",
    title="Service",
    panels=[
        Panel(
            title="Requests",
            meaning="answers a second, by status; over gRPC 0 is OK",
            unit="requests/s",
            series=[Series("sum by (status) (rate(classifier_requests_total[5m]))", "{{status}}")],
            stacked=True,
        ),
        Panel(
            title="Refused and failed",
            meaning="problems a second, by code; those that no worker saw by their status",
            unit="requests/s",
            series=[
                Series('sum by (code) (rate(classifier_answers_total{code!=""}[5m]))', "{{code}}"),
                Series(
                    'sum by (status) (rate(classifier_requests_total{by="torchserve"}[5m]))',
                    "{{status}} of the front end",
                ),
            ],
            stacked=True,
        ),
        Panel(
            title="Failures",
            meaning="share of requests that failed by the service's own fault",
            unit="share",
            series=[Series('model:failures:ratio_5m{model!=""}', "{{model}}")],
        ),
        Panel(
            title="Time to answer",
            meaning="half of the answers came within p50, 99 of 100 within p99",
            unit="seconds",
            series=[
                Series("model_version:request_seconds:p50", f"{_VERSION} p50"),
                Series("model_version:request_seconds:p99", f"{_VERSION} p99"),
            ],
        ),
        Panel(
            title="Time in the queue",
            meaning="the part of it that a request waited for a worker",
            unit="seconds",
            series=[
                Series("model_version:queue_seconds:p50", f"{_VERSION} p50"),
                Series("model_version:queue_seconds:p99", f"{_VERSION} p99"),
            ],
        ),
        Panel(
            title="Queue",
            meaning="requests that wait; beyond its room they get 503",
            unit="number",
            series=[
                Series(f"sum by ({_OF}) (classifier_queue_requests)", _VERSION),
            ],
        ),
        Panel(
            title="Workers",
            meaning="READY and alive; starts of the last quarter of an hour",
            unit="number",
            series=[
                Series(f"sum by ({_OF}) (classifier_workers_ready)", f"{_VERSION} ready"),
                Series(f"sum by ({_OF}) (increase(classifier_worker_starts_total[15m]))", f"{_VERSION} starts"),
            ],
        ),
        Panel(
            title="Memory",
            meaning="proportional set size of each worker, and of the front end",
            unit="bytes",
            series=[
                Series("classifier_worker_memory_bytes", f"{_VERSION} worker {{{{worker}}}}"),
                Series("classifier_frontend_memory_bytes", "front end"),
            ],
        ),
    ],
)

VERSIONS: Final = Board(
    name="versions",
    title="Versions side by side",
    panels=[
        Panel(
            title="Requests by version",
            meaning="which version answers; after a switch, the new one alone",
            unit="requests/s",
            series=[Series('model_version:requests:rate{version!=""}', _VERSION)],
            stacked=True,
        ),
        Panel(
            title="Problems by version",
            meaning="problems a second, by code",
            unit="requests/s",
            series=[
                Series(
                    f'sum by ({_OF}, code) (rate(classifier_answers_total{{code!=""}}[5m]))', f"{_VERSION} {{{{code}}}}"
                )
            ],
        ),
        Panel(
            title="p99 by version",
            meaning="99 of 100 answers came within this time",
            unit="seconds",
            series=[Series("model_version:request_seconds:p99", _VERSION)],
        ),
        Panel(
            title="Stages of a batch",
            meaning="mean time of decoding, of the forward pass, and of ranking",
            unit="seconds",
            series=[Series(_mean("classifier_stage_seconds", f"{_OF}, stage"), f"{_VERSION} {{{{stage}}}}")],
        ),
        Panel(
            title="Size of batches",
            meaning="requests that were computed together, on average: under load, as many as the recipe allows",
            unit="number",
            series=[Series(_mean("classifier_batch_requests", _OF), _VERSION)],
        ),
        Panel(
            title="Probability of the likeliest class",
            meaning="the median; a version that is much less sure than the last one was trained or prepared otherwise",
            unit="share",
            series=[Series(_median("classifier_confidence"), _VERSION)],
        ),
    ],
)

HEALTH: Final = Board(
    name="health",
    title="Health of the model",
    panels=[
        Panel(
            title="Likeliest classes",
            meaning="the ten most frequent ones, share of all",
            unit="share",
            series=[
                Series(
                    f"topk(10, sum by ({_OF}, class) (rate(classifier_classes_total[5m]))"
                    f" / on ({_OF}) group_left () sum by ({_OF}) (rate(classifier_classes_total[5m])))",
                    f"{{{{class}}}} ({_VERSION})",
                )
            ],
        ),
        Panel(
            title="How sure",
            meaning="probability of the likeliest class: a tenth of the pictures is below p10, half below p50",
            unit="share",
            series=[
                Series(_median("classifier_confidence", 0.1), f"{_VERSION} p10"),
                Series(_median("classifier_confidence"), f"{_VERSION} p50"),
                Series(_median("classifier_confidence", 0.9), f"{_VERSION} p90"),
            ],
        ),
        Panel(
            title="How undecided",
            meaning="median of the relative entropy: 0, one class has everything; 1, all classes have the same",
            unit="share",
            series=[Series(_median("classifier_entropy"), _VERSION)],
        ),
        Panel(
            title="Drift",
            meaning="population stability index of the last hour against the baseline: above 0.25 much has changed",
            unit="number",
            series=[Series("model_version_of:drift:psi_1h", f"{_VERSION} by {{{{of}}}}")],
        ),
        Panel(
            title="Answers compared",
            meaning="on how many answers the index rests",
            unit="number",
            series=[Series('model_version_of:compared:1h{of="class"}', _VERSION)],
        ),
        Panel(
            title="Formats",
            meaning="pictures a second, by format",
            unit="requests/s",
            series=[Series("sum by (format) (rate(classifier_pictures_total[5m]))", "{{format}}")],
            stacked=True,
        ),
        Panel(
            title="Size of pictures",
            meaning="half of the pictures have fewer pixels, and one of ten has more than p90",
            unit="megapixels",
            series=[
                Series(_median("classifier_picture_megapixels"), f"{_VERSION} p50"),
                Series(_median("classifier_picture_megapixels", 0.9), f"{_VERSION} p90"),
            ],
        ),
    ],
)

BOARDS: Final = (SERVICE, VERSIONS, HEALTH)
