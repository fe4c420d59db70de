"""The page's plots, as SVG that stands in the page itself: its text is text, its colours are the page's own."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from scripts.card.parity import Difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What Matplotlib draws with, and the page's colour that takes its place, which depends on light or dark.
_INK, _FAINT, _LINE, _ACCENT, _ALARM = "#010101", "#020202", "#030303", "#040404", "#050505"
_COLOURS: Final = {_INK: "ink", _FAINT: "faint", _LINE: "line", _ACCENT: "accent", _ALARM: "alarm"}
_WIDTH: Final = 5.2  # inches; at a phone's width the text is then still as large as it can be read
_ROW: Final = 0.34  # inches of a bar
_BINS: Final = 20
_LEAST: Final = 1e-9  # what a difference of nothing is drawn as on a logarithmic axis


@contextmanager
def _figure(name: str, height: float, found: list[str]) -> "Iterator[Axes]":
    """Axes to draw on; the finished SVG is appended to `found`. The same drawing gives the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # of the ids in it, which differ from those of the page's other plots
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _FAINT,
        "xtick.color": _FAINT,
        "ytick.color": _FAINT,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "grid.color": _LINE,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        yield axes
        stream = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    found.append(_inline(stream.getvalue()))


def _inline(text: str) -> str:
    """What stands in a page, of an SVG file: no prolog, no style of its own, no ids that another plot has too."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r' (?:width|height)="[^"]*pt"', "", text, count=2)
    for drawn, name in _COLOURS.items():
        text = text.replace(drawn, f"var(--{name})")
    return text.replace("<svg ", '<svg aria-hidden="true" ', 1)  # the text beside it says the same


def difference_plot(found: Sequence[Difference], tolerance: float) -> str:
    """The largest difference of a logit of each picture, with what the recipe allows."""
    from matplotlib.ticker import MaxNLocator

    svg: list[str] = []
    with _figure("difference", 2.6, svg) as axes:
        numbers = [item.number for item in found]
        values = [max(item.logit, _LEAST) for item in found]
        axes.vlines(numbers, _LEAST, values, color=_LINE)
        for same, colour, marker, label in ((True, _ACCENT, "o", "same class"), (False, _ALARM, "X", "another class")):
            shown = [(item.number, value) for item, value in zip(found, values, strict=True) if item.same is same]
            if shown:
                axes.plot(*zip(*shown, strict=True), marker, color=colour, label=label)
        if tolerance > 0:
            axes.axhline(tolerance, color=_INK, linestyle="--", linewidth=1, label=f"allowed: {tolerance:g}")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")  # the usual one writes TeX
        axes.yaxis.set_minor_formatter("")
        axes.set_ylim(min(values) / 4, max(*values, tolerance) * 4)
        axes.set_xlabel("picture")
        axes.set_ylabel("largest |Δlogit|")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.figure.legend(loc="outside upper center", ncols=3)
    return svg[0]


def probability_plot(found: Sequence[Difference]) -> str:
    """The probability of each picture's first answer, over the reference's."""
    svg: list[str] = []
    with _figure("probability", 3.4, svg) as axes:
        axes.plot([0, 1], [0, 1], color=_LINE)
        for same, colour, marker, label in ((True, _ACCENT, "o", "same class"), (False, _ALARM, "X", "another class")):
            shown = [(item.expected.probability, item.actual.probability) for item in found if item.same is same]
            if shown:
                axes.plot(*zip(*shown, strict=True), marker, color=colour, alpha=0.8, label=label)
        axes.set_aspect("equal")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set_xlabel("probability by the reference")
        axes.set_ylabel("by this archive")
        axes.grid()
        axes.legend(loc="upper left")
    return svg[0]


def confidence_plot(right: Sequence[float], wrong: Sequence[float]) -> str:
    """How sure the first answers are, the right ones and the wrong ones."""
    from matplotlib.ticker import MaxNLocator

    svg: list[str] = []
    with _figure("confidence", 2.6, svg) as axes:
        axes.hist(
            [list(right), list(wrong)],
            bins=_BINS,
            range=(0, 1),
            stacked=True,
            color=[_ACCENT, _ALARM],
            label=["right", "wrong"],
        )
        axes.set_xlabel("probability of the first answer")
        axes.set_ylabel("pictures")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.figure.legend(loc="outside upper center", ncols=2)
    return svg[0]


def speed_plot(names: Sequence[str], medians: Sequence[float], ranges: Sequence[tuple[float, float]], own: int) -> str:
    """Milliseconds of a lone picture in each archive, with the range of the rounds; `own` is the page's archive."""
    svg: list[str] = []
    with _figure("speed", _ROW * len(names) + 0.7, svg) as axes:
        reach = [
            [middle - low for middle, (low, _) in zip(medians, ranges, strict=True)],
            [high - middle for middle, (_, high) in zip(medians, ranges, strict=True)],
        ]
        places = range(len(names))
        axes.barh(places, medians, height=0.65, color=[_ACCENT if place == own else _LINE for place in places])
        axes.errorbar(medians, places, xerr=reach, fmt="none", ecolor=_INK, elinewidth=1, capsize=3)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("ms a picture, from its bytes to its answer")
    return svg[0]
