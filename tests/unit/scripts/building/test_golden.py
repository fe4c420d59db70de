import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.building.golden import golden_set, photograph, pictures_in, views
from scripts.console import UserError


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


@pytest.mark.parametrize("variable", ["GOLDEN", "CALIBRATION"])
def test_pictures_of_a_folder_are_its_files_in_order(variable: str, tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "c").mkdir()
    assert pictures_in(tmp_path, variable) == [tmp_path / "a.jpg", tmp_path / "b.png"]


@pytest.mark.parametrize("name", ["", "missing", "a file"])
@pytest.mark.parametrize("variable", ["GOLDEN", "CALIBRATION"])
def test_a_folder_without_pictures_is_refused_by_the_variable_that_names_it(
    variable: str, name: str, tmp_path: Path
) -> None:
    if name == "a file":
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"^{variable}={tmp_path / name}: no pictures"):
        pictures_in(tmp_path / name, variable)


@pytest.fixture
def plane() -> Image.Image:
    """80 x 60, whose red says the column and whose green says the row of each pixel."""
    rows, columns = np.mgrid[:60, :80].astype(np.uint8)
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=-1))


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_there_are_as_many_views_as_asked_for(plane: Image.Image, count: int) -> None:
    assert len(views(plane, count, 0)) == count


def test_a_view_is_a_crop_of_half_to_all_of_each_side_and_every_other_is_mirrored(plane: Image.Image) -> None:
    found = views(plane, 40, 0)
    for index, view in enumerate(found):
        assert 40 <= view.width <= 80
        assert 30 <= view.height <= 60
        pixels = np.asarray(view).astype(int)
        columns, rows = pixels[0, :, 0], pixels[:, 0, 1]
        assert set(np.diff(columns)) == {-1 if index % 2 else 1}
        assert set(np.diff(rows)) == {1}
        assert (pixels[..., 0] == columns).all()
        assert (pixels[..., 1] == rows[:, None]).all()


def test_views_differ_in_size_and_place(plane: Image.Image) -> None:
    found = views(plane, 40, 0)
    assert len({view.size for view in found}) > 20
    corners = {view.getpixel((0, 0)) for view in found[::2]}
    assert len(corners) > 10
    # both sides by themselves, so that the shapes differ, too
    assert len({view.width / view.height > 80 / 60 for view in found}) == 2


def test_the_same_seed_gives_the_same_views_and_another_others(plane: Image.Image) -> None:
    one, again, another = ([(view.size, view.tobytes()) for view in views(plane, 5, seed)] for seed in (3, 3, 4))
    assert one == again
    assert not set(one) & set(another)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 200)])
def test_a_view_of_a_tiny_picture_has_pixels(size: tuple[int, int]) -> None:
    for view in views(Image.new("RGB", size), 20, 0):
        assert min(view.size) >= 1
