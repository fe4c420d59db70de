from pathlib import Path

import pytest

from scripts.pages import replace_block


def test_a_page_keeps_what_is_around_the_block(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench: written by `make bench` -->\nold\n<!-- /bench -->\nafter\n")
    replace_block(page, "bench", "new")
    assert page.read_text() == "before\n<!-- bench: written by `make bench` -->\nnew\n<!-- /bench -->\nafter\n"


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- other: written by `make other` -->\n<!-- /other -->\n")
    with pytest.raises(ValueError, match="marks"):
        replace_block(page, "bench", "new")
    assert "new" not in page.read_text()
