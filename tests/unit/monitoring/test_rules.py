"""The rules and alerts, each with promtool's own unit tests: when it fires, and that it does not otherwise."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.rules import Objectives, Rules

V1 = 'model="tiny", version="1.0"'
HERE = f'instance="a:8083", job="classifier", {V1}'
LABELS = {"model": "tiny", "version": "1.0"}
OF_REPLICA = {"instance": "a:8083", "job": "classifier"}
RULES = Rules(Objectives(failures=0.01, p99_s=2))


def requests(status: int, values: str, by: str = "worker", entrance: str = "http") -> dict[str, str]:
    labels = f'{HERE}, entrance="{entrance}", wants="prediction", status="{status}", by="{by}"'
    return {"series": f"classifier_requests_total{{{labels}}}", "values": values}


def answers(status: int, values: str) -> dict[str, str]:
    return {"series": f'classifier_answers_total{{{HERE}, status="{status}", code="x"}}', "values": values}


def series(name: str, values: str, labels: str = HERE) -> dict[str, str]:
    return {"series": f"{name}{{{labels}}}", "values": values}


def bucket(bound: str, values: str) -> dict[str, str]:
    return series("classifier_request_seconds_bucket", values, f'{HERE}, wants="prediction", le="{bound}"')


# Of each alert: series, a value a minute; when it has fired; and when, by then, it has not yet or no longer.
CASES: dict[str, tuple[list[dict[str, str]], str, str, dict[str, str]]] = {
    "ServerGone": ([series("up", "1x5 0x20", 'instance="a:8083", job="classifier"')], "8m", "5m", OF_REPLICA),
    "NoReadyWorker": (
        [series("classifier_workers_ready", "1x5 0x20"), series("classifier_workers_wanted", "1x25")],
        "8m",
        "5m",
        LABELS,
    ),
    "TokenExpires": (
        [series("classifier_token_expires_timestamp_seconds", "3600x60", 'instance="a:8083", api="inference"')],
        "51m",
        "49m",
        {"instance": "a:8083", "api": "inference"},
    ),
    "CertificateExpires": (
        [series("classifier_certificate_expires_timestamp_seconds", "1213200x70", 'instance="a:8083"')],
        "62m",
        "59m",
        {"instance": "a:8083"},
    ),
    # 99 good ones a minute, and from the 61st minute on 30 bad ones as well
    "ErrorBudgetBurns1h": (
        [requests(200, "0+99x200"), requests(500, "0x60 0+30x140"), answers(500, "0x60 0+30x140")],
        "130m",
        "65m",
        {"model": "tiny"},
    ),
    "ErrorBudgetBurns6h": (
        [requests(200, "0+99x1000"), requests(503, "0x300 0+9x700", by="torchserve")],
        "900m",
        "320m",
        {"model": "tiny"},
    ),
    "ErrorBudgetBurns72h": (
        [requests(0, "0+990x9000", entrance="grpc"), requests(14, "0x1000 0+20x8000", "torchserve", "grpc")],
        "8000m",
        "1010m",
        {"model": "tiny"},
    ),
    "AnswersSlow": (
        [bucket("1.0", "0+100x20 2000x40"), bucket("5.0", "0+100x20 2100+100x40"), bucket("+Inf", "0+100x60")],
        "50m",
        "25m",
        LABELS,
    ),
    "QueueGrows": (
        [series("classifier_queue_requests", "10x10 60x20"), series("classifier_queue_room", "86x10 36x20")],
        "18m",
        "12m",
        LABELS | OF_REPLICA,
    ),
    "WorkersRestart": (
        [series("classifier_worker_starts_total", "1x20 2 3 4 5x40"), series("classifier_workers_wanted", "1x70")],
        "25m",
        "20m",
        LABELS | {"instance": "a:8083"},
    ),
    "MemoryGrows": (
        [series("classifier_worker_memory_bytes", "100x100 160x100", f'{HERE}, worker="9000"')],
        "140m",
        "110m",
        LABELS | OF_REPLICA | {"worker": "9000"},
    ),
    # of 100 a minute, first half in each bin as in the baseline, then all in one
    "Drift": (
        [
            series("classifier_compared_total", "0+50x120 6000+100x200", f'{HERE}, of="class", bin="a"'),
            series("classifier_compared_total", "0+50x120 6000x200", f'{HERE}, of="class", bin="other"'),
            series("classifier_baseline_share", "0.5x320", f'{HERE}, of="class", bin="a"'),
            series("classifier_baseline_share", "0.5x320", f'{HERE}, of="class", bin="other"'),
        ],
        "250m",
        "120m",
        LABELS | {"of": "class"},
    ),
    "VersionSkew": (
        [
            series("classifier_default", "1x100"),
            series("classifier_default", "1x10 0x90", 'instance="b:8083", model="tiny", version="1.0"'),
            series("classifier_default", "0x10 1x90", 'instance="b:8083", model="tiny", version="2.0"'),
        ],
        "50m",
        "20m",
        {"model": "tiny"},
    ),
}


def check(folder: Path, tests: list[dict[str, Any]], rules: Rules = RULES) -> None:
    """Have promtool run tests."""
    if shutil.which("promtool") is None:
        pytest.skip("prometheus is not installed; `make setup-system` says how")
    document = rules.document()
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    (folder / "rules.yml").write_text(yaml.safe_dump(document))
    (folder / "tests.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": tests[0]["interval"], "tests": tests})
    )
    command = ["promtool", "test", "rules", str(folder / "tests.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def expecting(name: str, when: str, *labels: dict[str, str]) -> dict[str, Any]:
    severity = next(alert.severity for alert in RULES.alerts() if alert.name == name)
    expected = [{"exp_labels": {"severity": severity} | own} for own in labels]
    return {"eval_time": when, "alertname": name, "exp_alerts": expected}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path, name: str) -> None:
    given, fired, quiet, labels = CASES[name]
    expected = [expecting(name, quiet), expecting(name, fired, labels)]
    check(tmp_path, [{"interval": "1m", "input_series": given, "alert_rule_test": expected}])


@pytest.mark.slow
def test_failures_that_are_the_first_answers_of_all_burn_the_budget(tmp_path: Path) -> None:
    """The exporter shows them at 0 before."""
    given = [requests(503, "0x15 200x200", by="torchserve"), requests(200, "0x200")]
    expected = [expecting("ErrorBudgetBurns1h", "15m"), expecting("ErrorBudgetBurns1h", "17m", {"model": "tiny"})]
    check(tmp_path, [{"interval": "1m", "input_series": given, "alert_rule_test": expected}])


@pytest.mark.slow
def test_a_healthy_service_wakes_nobody(tmp_path: Path) -> None:
    """Two replicas for three days, with refused pictures, a new version, more workers, and one restart."""
    given = [
        requests(200, "0+600x4400"),
        requests(415, "0+300x4400"),
        answers(415, "0+300x4400"),
        requests(404, "0+50x4400", by="torchserve"),
        requests(501, "0+50x4400"),
        answers(501, "0+50x4400"),
        bucket("1.0", "0+600x4400"),
        bucket("+Inf", "0+600x4400"),
        series("up", "1x4400", 'instance="a:8083", job="classifier"'),
        series("classifier_up", "1x4400", 'instance="a:8083", job="classifier"'),
        series("classifier_workers_wanted", "1x1000 4x3400"),
        series("classifier_workers_ready", "1x1000 4x3400"),
        series("classifier_worker_starts_total", "1x1000 4x1000 5x2400"),
        series("classifier_queue_requests", "10x4400"),
        series("classifier_queue_room", "86x4400"),
        series("classifier_worker_memory_bytes", "100x10 140x4400", f'{HERE}, worker="9000"'),
        series("classifier_default", "1x2000 0x2400"),
        series("classifier_default", "0x2000 1x2400", 'instance="a:8083", model="tiny", version="2.0"'),
        series("classifier_archive_info", "1x4400", f'{HERE}, digest="abc"'),
        series("classifier_compared_total", "0+420x4400", f'{HERE}, of="class", bin="a"'),
        series("classifier_compared_total", "0+180x4400", f'{HERE}, of="class", bin="other"'),
        series("classifier_baseline_share", "0.6x4400", f'{HERE}, of="class", bin="a"'),
        series("classifier_baseline_share", "0.4x4400", f'{HERE}, of="class", bin="other"'),
    ]
    times = ("30m", "1010m", "2010m", "4390m")
    expected = [expecting(alert.name, when) for alert in RULES.alerts() for when in times]
    check(tmp_path, [{"interval": "1m", "input_series": given, "alert_rule_test": expected}])


@pytest.mark.slow
def test_a_version_of_which_replicas_have_different_archives_is_a_skew(tmp_path: Path) -> None:
    given = [
        series("classifier_archive_info", "1x60", f'{HERE}, digest="abc"'),
        series("classifier_archive_info", "1x60", f'instance="b:8083", {V1}, digest="def"'),
    ]
    expected = [expecting("VersionSkew", "40m", {"model": "tiny"})]
    check(tmp_path, [{"interval": "1m", "input_series": given, "alert_rule_test": expected}])


@pytest.mark.slow
def test_hours_may_be_minutes(tmp_path: Path) -> None:
    """The same as an hour's burn, a sixtieth of the time."""
    given, _, _, labels = CASES["ErrorBudgetBurns1h"]
    expected = [expecting("ErrorBudgetBurns1h", "65s"), expecting("ErrorBudgetBurns1h", "130s", labels)]
    rules = Rules(Objectives(failures=0.01), minute_s=1.0)
    check(tmp_path, [{"interval": "1s", "input_series": given, "alert_rule_test": expected}], rules)


def test_every_alert_has_a_case_and_a_paragraph_that_says_what_to_do() -> None:
    names = [alert.name for alert in RULES.alerts()]
    assert sorted(names) == sorted(CASES)
    text = (Path(__file__).parents[3] / "monitoring/README.md").read_text()
    for name in names:
        assert f"\n### {name}\n" in text
