"""A page with the panels, without Grafana and without the internet: `make dashboard`. It asks Prometheus."""

import re
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from math import isfinite
from pathlib import Path
from typing import Any, Final

import msgspec
import requests

from monitoring.panels import BOARDS, Panel, Series
from scripts.console import UserError, done, step
from scripts.exporter.listener import Page, listener
from scripts.ports import check_ports

PORT: Final = 8084
_FILES: Final = Path(__file__).with_name("page")
_MINUTES: Final = (15, 60, 360, 1440)  # that the page offers
_NAMED: Final = re.compile(r"\{\{(\w+)\}\}")
_POINTS: Final = 180  # of a line
_TIMEOUT_S: Final = 10


class Line(msgspec.Struct, frozen=True):
    """One line of a chart: a value for each of its times, or none."""

    label: str
    values: list[float | None]


class Prometheus:
    """Asks a Prometheus."""

    def __init__(self, url: str) -> None:
        """Ask nothing yet."""
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # it is on this machine or in the cluster, never behind a proxy

    def lines(self, series: Series, times: list[float], step_s: float) -> list[Line]:
        """What a query gives at these times, which are `step_s` apart.

        Raises:
            UserError: Prometheus does not answer, or does not understand the query.
        """
        asked = {"query": series.query, "start": times[0], "end": times[-1], "step": step_s}
        found = self._ask("query_range", **asked)["result"]
        return sorted((_line(series.legend, entry, times) for entry in found), key=lambda line: line.label)

    def now(self, query: str) -> list[float]:
        """What a query gives at this moment.

        Raises:
            UserError: as `lines`.
        """
        return [float(entry["value"][1]) for entry in self._ask("query", query=query)["result"]]

    def alerts(self) -> list[dict[str, str]]:
        """The alerts that fire."""
        found = self._ask("alerts")["alerts"]
        return [
            {
                "name": alert["labels"]["alertname"],
                "severity": alert["labels"].get("severity", ""),
                "summary": alert["annotations"].get("summary", ""),
            }
            for alert in found
            if alert["state"] == "firing"
        ]

    def _ask(self, path: str, **parameters: Any) -> Any:
        url = f"{self._url}/api/v1/{path}"
        try:
            answer = self._session.get(url, params=parameters, timeout=_TIMEOUT_S).json()
        except requests.RequestException as error:
            raise UserError(f"Prometheus does not answer at {self._url}; `make monitor` starts one") from error
        if answer.get("status") != "success":
            raise UserError(f"Prometheus: {answer.get('error', answer)}")
        return answer["data"]


def _line(legend: str, entry: Any, times: list[float]) -> Line:
    said = {round(float(moment)): float(value) for moment, value in entry["values"]}
    values = {moment: value for moment, value in said.items() if isfinite(value)}  # nothing by nothing is nan
    return Line(_label(legend, entry["metric"]), [values.get(round(moment)) for moment in times])


def _label(legend: str, labels: dict[str, str]) -> str:
    """The legend with the values of its labels."""
    return _NAMED.sub(lambda found: labels.get(found[1], "none"), legend)  # Prometheus drops an empty label


def data(prometheus: Prometheus, minutes: int, now: float) -> dict[str, Any]:
    """What the page shows of the last minutes.

    Raises:
        UserError: Prometheus does not answer.
    """
    step_s = max(5, round(minutes * 60 / _POINTS))
    end = now // step_s * step_s
    times = [end - step_s * number for number in reversed(range(minutes * 60 // step_s))]

    def shown(panel: Panel) -> dict[str, Any]:
        lines = [line for series in panel.series for line in prometheus.lines(series, times, step_s)]
        return {"title": panel.title, "meaning": panel.meaning, "unit": panel.unit, "times": times, "lines": lines}

    boards = [
        {"name": board.name, "title": board.title, "panels": [shown(panel) for panel in board.panels]}
        for board in BOARDS
    ]
    return {"time": now, "alerts": prometheus.alerts(), "boards": boards}


def pages(prometheus: Prometheus) -> dict[str, Callable[[], Page]]:
    """The page, and the data that its script asks for."""
    return {"/": _page} | {f"/data/{minutes}": partial(_data, prometheus, minutes) for minutes in _MINUTES}


def _data(prometheus: Prometheus, minutes: int) -> Page:
    try:
        status, content = HTTPStatus.OK, data(prometheus, minutes, time.time())
    except UserError as error:
        status, content = HTTPStatus.BAD_GATEWAY, {"detail": str(error)}
    return Page(status, "application/json", msgspec.json.encode(content))


def _page() -> Page:
    """The page as one file."""
    text = (_FILES / "page.html").read_text()
    styles = (_FILES / "uplot/uPlot.min.css").read_text() + (_FILES / "page.css").read_text()
    for mark, content in (
        ("/*STYLE*/", styles),
        ("/*UPLOT*/", (_FILES / "uplot/uPlot.iife.min.js").read_text()),
        ("/*SCRIPT*/", (_FILES / "page.js").read_text()),
    ):
        text = text.replace(mark, content)
    return Page(HTTPStatus.OK, "text/html; charset=utf-8", text.encode())


def main(*, prometheus: str = "http://127.0.0.1:9090", listen: str = "127.0.0.1", port: int = PORT) -> None:
    """Show what a server does, in a browser, until it is interrupted.

    Args:
        prometheus: address of the Prometheus to ask, for example that of `make monitor`.
        listen: the address to listen on.
        port: the port to listen on.
    """
    check_ports({"dashboard": port}, "or pass PORT=<another>")
    asked = Prometheus(prometheus)
    asked.alerts()  # so that a wrong address is said here
    with listener("dashboard", pages(asked), listen, port) as server:
        done(f"http://{listen}:{server.server_port}/")
        step(f"it asks Prometheus at {prometheus}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            step("ended")
