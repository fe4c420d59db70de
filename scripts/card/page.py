"""The page to hand over with an archive: `make card ARCHIVE=…`. One HTML file that needs no other, and no script."""

from pathlib import Path
from typing import Final

from classifier.allocator import keep_memory
from classifier.identity import UNTRAINED

from scripts.admission.signing import read_public_keys
from scripts.archives.store import STORE, find_archive
from scripts.card.evaluation import Share
from scripts.card.gather import Card, Row, gather
from scripts.card.plots import confidence_plot, difference_plot, probability_plot, speed_plot
from scripts.console import UserError, done, warn_untrained

_TEMPLATES: Final = Path(__file__).with_name("templates")


def render(card: Card) -> str:
    """The page's HTML. Whatever a label, a file's name or a recipe says is text there, never markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # an optional package

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "size": size, "precise": precise, "interval": interval, "short": short}
    css = (_TEMPLATES / "card.css").read_text()
    return environment.get_template("card.html.jinja").render(card=card, css=css, plots=_plots(card))


def _plots(card: Card) -> dict[str, str]:
    """The SVG of each plot that there is something to draw for."""
    plots = {
        "speed": speed_plot(
            [short(row) for row in card.rows],
            [row.speed.lone_ms for row in card.rows],
            [row.speed.lone_range_ms for row in card.rows],
            own=card.rows.index(card.own),
        )
    }
    found = card.own.differences
    if found and not card.is_reference:
        plots["difference"] = difference_plot(found, card.facts.report.tolerance.max_abs_logit)
        plots["probability"] = probability_plot(found)
    if card.evaluation and card.evaluation.right + card.evaluation.wrong:
        plots["confidence"] = confidence_plot(card.evaluation.right, card.evaluation.wrong)
    return plots


def percent(share: float) -> str:
    """A share, 0…1, as people read it."""
    return f"{share:.1%}"


def interval(share: Share) -> str:
    """The 95 % interval of a share."""
    low, high = share.interval
    return f"{100 * low:.1f}\u2013{high:.1%}"


def size(count: int) -> str:
    """A number of bytes as people read it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} bytes"


def precise(value: float) -> str:
    """A figure of any magnitude, to three digits where it has no more before the point."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def short(row: Row) -> str:
    """What tells an archive from the others of its model."""
    model = row.identity.model
    precision = "" if model.precision == "float32" else f" {model.precision}"
    return f"{model.runtime}{precision} {model.version}"


def main(
    archive: str,
    *,
    data: Path | None = None,
    pictures: Path | None = None,
    output: Path = Path("card.html"),
    public_key: Path | None = None,
    store: Path = STORE,
) -> None:
    """Write a page that says what an archive is, how right and how fast it is, and what it answers.

    Args:
        archive: name or path of the archive.
        data: a folder with one folder of pictures for each class, to evaluate on.
        pictures: a folder of pictures to show with their answers; scikit-image's without it.
        output: the HTML file to write.
        public_key: the key that must have signed every archive that is loaded; a PEM file, or a folder of several.
        store: folder of the archives.
    """
    if output.is_dir():
        raise UserError(f"OUTPUT={output} is a folder; name the file to write, for example card.html")
    keys = None if public_key is None else read_public_keys(public_key)
    keep_memory()  # as a worker does, whose speed the page shows
    found = find_archive(archive, store)
    if found.identity.model.weights == UNTRAINED:
        warn_untrained(found.identity.model.name, "The page says so too.")
    page = render(gather(found, store, data=data, pictures=pictures, keys=keys))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8", errors="replace")  # a file's name need not be Unicode
    done(f"{output} ({size(output.stat().st_size)})")
