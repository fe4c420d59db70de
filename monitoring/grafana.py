"""Grafana's dashboards, written from the panels: `python -m monitoring.grafana`."""

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from monitoring.panels import BOARDS, Board, Panel, Unit
from scripts.console import done

FOLDER: Final = Path("monitoring/dashboards")
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


def written(board: Board) -> str:
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
        .legend(common.VizLegendOptions().show_legend(True).placement("bottom"))
    )
    if panel.stacked:
        building = building.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(30)
    for letter, series in zip("ABCDEFGH", panel.series, strict=False):
        query = prometheus.Dataquery().expr(series.query).legend_format(series.legend).ref_id(letter)
        building = building.with_target(query.datasource(_SOURCE).range())
    return building


def main() -> None:
    """Write all dashboards."""
    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        path = FOLDER / f"{board.name}.json"
        path.write_text(written(board))
        done(str(path))


if __name__ == "__main__":
    main()
