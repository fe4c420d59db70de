"""The files for a Prometheus and a Grafana that run elsewhere, written by `python -m monitoring.files`."""

from pathlib import Path
from typing import Final

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from monitoring.panels import BOARDS, Board, Panel, Unit
from monitoring.rules import Objectives, Rules
from scripts.console import done

_RULES: Final = Path("monitoring/rules.yml")
_DASHBOARDS: Final = Path("monitoring/dashboards")
_HEADER: Final = "# Written by `python -m monitoring.files` from rules.py.\n"
_SOURCE: Final = DataSourceRef("prometheus", "prometheus")  # by the uid that docker/grafana/datasources.yml gives it
_UNITS: Final[dict[Unit, str]] = {
    "requests/s": "reqps",
    "seconds": "s",
    "share": "percentunit",
    "bytes": "bytes",
    "number": "short",
    "megapixels": "short",
}
_WIDTH, _HEIGHT = 12, 8  # of a panel; a row has a width of 24


def dashboard_of(board: Board) -> str:
    """The JSON of a dashboard, with the same bytes every time."""
    building = (
        dashboard.Dashboard(f"Image classifier: {board.title.lower()}")
        .uid(f"classifier-{board.name}")
        .tags(["classifier"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for panel in board.panels:
        building = building.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(building.build()) + "\n"


def _panel(panel: Panel) -> timeseries.Panel:
    building = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.meaning)
        .datasource(_SOURCE)
        .unit(_UNITS[panel.unit])
        .min(0)
        .span(_WIDTH)
        .height(_HEIGHT)
        .legend(common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM))
    )
    if panel.stacked:
        building = building.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(30)
    for letter, series in zip("ABCDEFGH", panel.series, strict=False):
        query = prometheus.Dataquery().expr(series.query).legend_format(series.legend).ref_id(letter)
        building = building.with_target(query.datasource(_SOURCE).range())
    return building


def files() -> dict[Path, str]:
    """The content of every file."""
    rules = yaml.safe_dump(Rules(Objectives()).document(), sort_keys=False, width=120)
    dashboards = {_DASHBOARDS / f"{board.name}.json": dashboard_of(board) for board in BOARDS}
    return {_RULES: _HEADER + rules} | dashboards


def main() -> None:
    """Write all files."""
    for path, content in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        done(str(path))


if __name__ == "__main__":
    main()
