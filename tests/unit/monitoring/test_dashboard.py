"""What the page of `make dashboard` gets, from a stand-in for Prometheus."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboard import Prometheus, data, main, pages
from monitoring.files import dashboard_of, files
from monitoring.panels import BOARDS, Series
from monitoring.rules import JOB
from scripts.console import UserError
from scripts.torchserve.config import EXPORTER, read_config

ROOT = Path(__file__).parents[3]
NOW = 1_700_000_002.0


class Fake(Prometheus):
    """Answers every query with these results, and remembers what it was asked."""

    def __init__(self, *results: dict[str, Any]) -> None:
        super().__init__("http://nowhere.invalid")
        self.results, self.asked = list(results), list[dict[str, Any]]()

    def _ask(self, path: str, **parameters: Any) -> Any:
        self.asked.append(parameters)
        if path == "alerts":
            firing = {"state": "firing", "labels": {"alertname": "QueueGrows", "severity": "page"}}
            return {
                "alerts": [
                    firing | {"annotations": {"summary": "its queue is over half full"}},
                    {"state": "pending", "labels": {"alertname": "Other"}, "annotations": {}},
                ]
            }
        return {"result": self.results}


def test_a_line_has_a_value_for_each_time_and_its_labels_in_its_legend() -> None:
    metric = {"model": "tiny", "version": "1.0"}
    fake = Fake({"metric": metric, "values": [[10, "0.5"], [20, "NaN"], [40, "2"]]})
    (line,) = fake.lines(Series("q", "{{model}} {{version}} {{code}}"), [10, 20, 30, 40], 10)
    assert line.label == "tiny 1.0 none"
    assert line.values == [0.5, None, None, 2]
    assert fake.asked == [{"query": "q", "start": 10, "end": 40, "step": 10}]


@pytest.mark.parametrize(("minutes", "step_s"), [(15, 5), (60, 20), (1440, 480)])
def test_the_page_gets_every_panel_on_one_grid_of_times(minutes: int, step_s: int) -> None:
    found = data(Fake({"metric": {}, "values": []}), minutes, NOW)
    assert [len(board["panels"]) for board in found["boards"]] == [len(board.panels) for board in BOARDS]
    times = found["boards"][0]["panels"][0]["times"]
    assert {later - earlier for earlier, later in pairwise(times)} == {step_s}
    assert NOW - step_s < times[-1] <= NOW
    assert times[-1] - times[0] == pytest.approx(minutes * 60, abs=step_s)
    assert found["alerts"] == [{"name": "QueueGrows", "severity": "page", "summary": "its queue is over half full"}]


def test_a_prometheus_that_does_not_answer_is_said_on_the_page_and_at_the_start(refusing_address: str) -> None:
    page = pages(Prometheus(refusing_address))["/data/60"]()
    assert page.status == 502
    assert json.loads(page.body) == {
        "detail": f"Prometheus does not answer at {refusing_address}; `make monitor` starts one"
    }
    with pytest.raises(UserError, match="`make monitor` starts one"):
        main(prometheus=refusing_address, port=0)


def test_the_page_is_one_file_that_asks_for_nothing_else() -> None:
    text = pages(Fake())["/"]().body.decode()
    assert not re.search(r"(src|href)=|@import|url\(", text.replace('href="data:,"', ""))
    assert "/*STYLE*/" not in text
    assert "/*SCRIPT*/" not in text


@pytest.mark.parametrize("path", files())
def test_the_files_for_others_are_those_of_the_rules_and_panels(path: Path) -> None:
    """`python -m monitoring.files` writes them."""
    assert (ROOT / path).read_text() == files()[path]


def test_the_shipped_prometheus_asks_the_exporter_of_the_shipped_configuration() -> None:
    for folder, config in (("monitoring", ROOT / "config.properties"), ("docker", ROOT / "docker/config.properties")):
        (job,) = yaml.safe_load((ROOT / folder / "prometheus.yml").read_text())["scrape_configs"]
        (target,) = job["static_configs"][0]["targets"]
        assert job["job_name"] == JOB
        assert target.rpartition(":")[2] == read_config(config)[EXPORTER].rpartition(":")[2]


def test_a_dashboard_has_every_query_of_its_board() -> None:
    for board in BOARDS:
        content = json.loads(dashboard_of(board))
        found = [target["expr"] for panel in content["panels"] for target in panel["targets"]]
        assert found == [series.query for panel in board.panels for series in panel.series]
        positions = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in content["panels"]}
        assert len(positions) == len(board.panels)
