"""Prometheus' rules for the metrics of the exporter: what dashboards are made of, and the alerts.

README.md beside this module says for each alert what to look at and what to do.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

Severity = Literal["page", "ticket"]  # at once and at night; on the next working day

JOB: Final = "classifier"  # that scrapes the exporters
RUNBOOK: Final = "monitoring/README.md"
# The service's own failures: what a worker answers with 5xx, and what the front end answers in place of a worker: 5xx,
# over gRPC UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE. Refused pictures are their clients',
# and so is 501, for an explanation that an archive cannot give.
_FAILED: Final = (
    'classifier_answers_total{status=~"5..",status!="501"}',
    'classifier_requests_total{by="torchserve",status=~"5..|2|4|8|13|14"}',
)
# For each alert on the error budget: how many times faster than allowed it is used up, over which time and, so that
# the alert ends soon after its cause, over which short time, both in minutes; from Google's SRE workbook, chapter 5.
_BURNS: Final[tuple[tuple[float, int, int, Severity], ...]] = (
    (14.4, 60, 5, "page"),
    (6.0, 360, 30, "page"),
    (1.0, 4320, 360, "ticket"),
)
_HALF: Final = 0.5  # of a queue
_RESTARTS: Final = 3  # in a quarter of an hour, beyond the starts of new workers
_GROWTH: Final = 1.5  # of a worker's memory over the least of the last day
# Of the population stability index, by the usual rule of thumb: below 0.1 nothing has changed, above 0.25 much has.
_DRIFT: Final = 0.25
_DRIFT_ANSWERS: Final = 500  # with fewer answers, chance alone makes a tenth of it
_LEAST_SHARE: Final = 0.001  # of a bin, so that an empty one does not make the index infinite
_DAY: Final = 1440  # minutes
_TOKEN_MINUTES, _CERTIFICATE_DAYS = 10, 14  # before they expire


class Objectives(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised to clients."""

    failures: float = 0.001  # share of all requests that may fail by the service's own fault, over a month
    p99_s: float = 2.0  # within which 99 of 100 answers come


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert."""

    name: str
    when: str  # the query whose every result is an alert
    minutes: float  # that it must last
    severity: Severity
    summary: str


class Rules:
    """The rules, with a length of their minutes: a test lets hours pass in minutes."""

    def __init__(self, objectives: Objectives, minute_s: float = 60.0) -> None:
        """Make none yet.

        Args:
            objectives: what is promised.
            minute_s: how many seconds a minute of the rules has.
        """
        self._objectives, self._minute_s = objectives, minute_s

    def document(self) -> dict[str, Any]:
        """The content of a file of rules."""
        recorded = [{"record": name, "expr": query} for name, query in self._recorded()]
        alerts = [self._alert(alert) for alert in self.alerts()]
        return {"groups": [{"name": "classifier", "rules": recorded}, {"name": "classifier-alerts", "rules": alerts}]}

    def _alert(self, alert: Alert) -> dict[str, Any]:
        return {
            "alert": alert.name,
            "expr": alert.when,
            "for": self._over(alert.minutes),
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "runbook": f"{RUNBOOK}#{alert.name.lower()}"},
        }

    def _over(self, minutes: float) -> str:
        """A time as Prometheus takes it."""
        return f"{round(minutes * self._minute_s)}s"

    def _recorded(self) -> Iterator[tuple[str, str]]:
        """What is computed at every evaluation: name and query."""
        five = self._over(5)
        yield "model_version:requests:rate", f"sum by (model, version) (rate(classifier_requests_total[{five}]))"
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            for what in ("request", "queue"):
                rates = f"sum by (model, version, le) (rate(classifier_{what}_seconds_bucket[{five}]))"
                yield f"model_version:{what}_seconds:{name}", f"histogram_quantile({share}, {rates})"
        for minutes in sorted({minutes for burn in _BURNS for minutes in burn[1:3]}):
            yield self._failures(minutes), self._share_of_failures(minutes)

        yield from self._drift()

    def _drift(self) -> Iterator[tuple[str, str]]:
        """How far an hour's answers are from the baseline: the population stability index, and on how many it rests."""
        of_an_hour = f"increase(classifier_compared_total[{self._over(60)}])"
        answers = f"sum by (model, version, of) ({of_an_hour})"
        yield "model_version_of:compared:1h", answers
        live = (
            f"sum by (model, version, of, bin) ({of_an_hour}) / on (model, version, of) group_left () ({answers} > 0)"
        )
        live = f"clamp_min({live}, {_LEAST_SHARE})"
        then = f"clamp_min(max by (model, version, of, bin) (classifier_baseline_share), {_LEAST_SHARE})"
        yield "model_version_of:drift:psi_1h", f"sum by (model, version, of) (({live} - {then}) * ln({live} / {then}))"

    def _failures(self, minutes: int) -> str:
        return f"model:failures:ratio_{minutes}m"

    def _share_of_failures(self, minutes: int) -> str:
        over = self._over(minutes)
        failed = " or ".join(f"rate({series}[{over}])" for series in _FAILED)
        all_of_them = f"sum by (model) (rate(classifier_requests_total[{over}]))"
        return f"(sum by (model) ({failed}) or 0 * {all_of_them}) / ({all_of_them} > 0)"

    def alerts(self) -> Iterator[Alert]:
        """Every alert."""
        yield from self._of_servers()
        yield from self._of_requests()
        yield from self._of_workers()
        yield from self._of_versions()

    def _of_servers(self) -> Iterator[Alert]:
        yield Alert(
            name="ServerGone",
            when=f'up{{job="{JOB}"}} == 0 or classifier_up == 0',
            minutes=1,
            severity="page",
            summary="{{ $labels.instance }}: the exporter, or the server's management API, does not answer",
        )
        ready, wanted = (f"sum by (model, version) (classifier_workers_{state})" for state in ("ready", "wanted"))
        yield Alert(
            name="NoReadyWorker",
            when=f"{ready} == 0 and {wanted} > 0",
            minutes=1,
            severity="page",
            summary="{{ $labels.model }} {{ $labels.version }}: no worker is READY in any replica",
        )
        yield Alert(
            name="TokenExpires",
            when=f"classifier_token_expires_timestamp_seconds - time() < {60 * _TOKEN_MINUTES}",
            minutes=0,
            severity="page",
            summary="{{ $labels.instance }}: the token of the {{ $labels.api }} API expires within minutes",
        )
        yield Alert(
            name="CertificateExpires",
            when=f"classifier_certificate_expires_timestamp_seconds - time() < {86400 * _CERTIFICATE_DAYS}",
            minutes=0,
            severity="ticket",
            summary="{{ $labels.instance }}: the TLS certificate expires within two weeks",
        )

    def _of_requests(self) -> Iterator[Alert]:
        for factor, long, short, severity in _BURNS:
            limit = round(factor * self._objectives.failures, 9)
            yield Alert(
                name=f"ErrorBudgetBurns{long // 60}h",
                when=f"{self._failures(long)} > {limit} and {self._failures(short)} > {limit}",
                minutes=1,
                severity=severity,
                summary=f"{{{{ $labels.model }}}}: the error budget is used up {factor:g} times too fast",
            )
        yield Alert(
            name="AnswersSlow",
            when=f"model_version:request_seconds:p99 > {self._objectives.p99_s}",
            minutes=10,
            severity="page",
            summary="{{ $labels.model }} {{ $labels.version }}: 1 answer of 100 takes {{ $value | humanizeDuration }}",
        )
        full = "classifier_queue_requests / (classifier_queue_requests + classifier_queue_room)"
        yield Alert(
            name="QueueGrows",
            when=f"{full} > {_HALF}",
            minutes=5,
            severity="page",
            summary="{{ $labels.model }} {{ $labels.version }} of {{ $labels.instance }}: its queue is over half full",
        )

    def _of_workers(self) -> Iterator[Alert]:
        quarter = self._over(15)
        starts = f"sum by (instance, model, version) (increase(classifier_worker_starts_total[{quarter}]))"
        new = "sum by (instance, model, version) "
        new += f"(clamp_min(delta(classifier_workers_wanted[{quarter}]), 0))"
        yield Alert(
            name="WorkersRestart",
            when=f"{starts} - {new} > {_RESTARTS - 0.5}",
            minutes=0,
            severity="page",
            summary="{{ $labels.model }} {{ $labels.version }} of {{ $labels.instance }}: workers die again and again",
        )
        least = f"min_over_time(classifier_worker_memory_bytes[{self._over(_DAY)}])"
        yield Alert(
            name="MemoryGrows",
            when=f"classifier_worker_memory_bytes > {_GROWTH} * {least}",
            minutes=30,
            severity="ticket",
            summary="{{ $labels.model }} {{ $labels.version }} of {{ $labels.instance }}: worker {{ $labels.worker }} "
            "needs half as much memory again as it did",
        )

    def _of_versions(self) -> Iterator[Alert]:
        yield Alert(
            name="Drift",
            when=f"model_version_of:drift:psi_1h > {_DRIFT} and model_version_of:compared:1h > {_DRIFT_ANSWERS}",
            minutes=60,
            severity="ticket",
            summary="{{ $labels.model }} {{ $labels.version }}: by {{ $labels.of }}, an hour's pictures are not "
            "like those of the baseline (population stability index {{ $value | humanize }})",
        )
        defaults = "count by (model) (count by (model, version) (classifier_default == 1))"
        contents = "count by (model, version) (count by (model, version, digest) (classifier_archive_info))"
        yield Alert(
            name="VersionSkew",
            when=f"{defaults} > 1 or max by (model) ({contents}) > 1",
            minutes=30,
            severity="ticket",
            summary="{{ $labels.model }}: replicas differ in their default version, or in what a version is made of",
        )
