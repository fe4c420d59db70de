import importlib.util
from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.golden import golden_set, photograph


def test_the_golden_set_is_there_without_asking_for_one() -> None:
    pictures = golden_set()
    assert len(set(pictures)) == len(pictures) >= 20
    assert [path for path in pictures if not path.is_file()] == []


def test_an_own_folder_gives_its_files_in_order_and_no_folders(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "c").mkdir()
    assert golden_set(tmp_path) == [tmp_path / "a.jpg", tmp_path / "b.png"]


@pytest.mark.parametrize("name", ["", "missing", "a file"])
def test_a_folder_without_pictures_is_refused_by_name(name: str, tmp_path: Path) -> None:
    if name == "a file":
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"GOLDEN={tmp_path / name}: no pictures"):
        golden_set(tmp_path / name)


def test_a_missing_scikit_image_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="make setup"):
        photograph("chelsea.png")
