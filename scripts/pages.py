"""Writes parts of the documentation's pages, each between two marks."""

from pathlib import Path


def replace_block(page: Path, target: str, text: str) -> None:
    """Put a text between `<!-- <target>: written by `make <target>` -->` and `<!-- /<target> -->`.

    Raises:
        ValueError: the page has no such marks.
    """
    begin_mark, end_mark = f"<!-- {target}: written by `make {target}` -->", f"<!-- /{target} -->"
    before, begin, rest = page.read_text().partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not (begin and end):
        raise ValueError(f"{page} has no marks {begin_mark} … {end_mark}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def markdown(lines: list[list[str]]) -> str:
    """Format lines of cells as a Markdown table; the first line is its head."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])
