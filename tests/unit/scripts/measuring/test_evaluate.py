from collections.abc import Callable
from pathlib import Path

import pytest
from classifier.labels import Label
from classifier.pipeline import Classifier

from scripts.console import UserError
from scripts.measuring.evaluate import Labelled, evaluate, find_pictures

LABELS = [Label("n01", "Egyptian cat"), Label("n02", "crane"), Label("n03", "crane"), Label("n04", "espresso")]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write empty files of these names."""

    def write(*names: str) -> Path:
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "data"

    return write


@pytest.mark.parametrize("name", ["n01", "Egyptian cat", "egyptian_cat", "Egyptian-Cat", "N01"])
def test_a_folder_is_a_class_by_id_or_by_name(folder: Callable[..., Path], name: str) -> None:
    data = folder(f"{name}/a.jpg", f"{name}/deep/b.PNG", f"{name}/notes.txt")
    assert find_pictures(data, LABELS) == [
        Labelled(data / name / "a.jpg", "n01"),
        Labelled(data / name / "deep/b.PNG", "n01"),
    ]


@pytest.mark.parametrize("name", ["crane", "n99", "dog"])
def test_a_folder_that_names_no_class_or_two_is_refused(folder: Callable[..., Path], name: str) -> None:
    with pytest.raises(UserError, match=name):
        find_pictures(folder(f"{name}/a.jpg"), LABELS)


def test_a_folder_without_pictures_is_refused_with_what_is_expected(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="n01 or Egyptian cat"):
        find_pictures(folder("notes.txt"), LABELS)
    with pytest.raises(UserError, match="no such folder"):
        find_pictures(tmp_path / "none", LABELS)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("a.JPEG 0\nb.JPEG 3\n", id="val.txt: names and numbers"),
        pytest.param("ImageId,PredictionString\na,n01 85 1 499 272\nb,n04 1 2 3 4\n", id="LOC_val_solution.csv"),
        pytest.param("a.JPEG\tn01\n\nb.JPEG\tn04\nabsent.JPEG\tn02\n", id="names and ids"),
    ],
)
def test_pictures_in_one_folder_have_their_labels_in_a_file(
    folder: Callable[..., Path], tmp_path: Path, lines: str
) -> None:
    data = folder("a.JPEG", "b.JPEG", "c.JPEG")
    (tmp_path / "labels").write_text(lines)
    found = find_pictures(data, LABELS, tmp_path / "labels")
    assert found == [Labelled(data / "a.JPEG", "n01"), Labelled(data / "b.JPEG", "n04")]


def test_a_line_that_names_no_class_is_refused_with_its_number(folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a n01\nb n99\n")
    with pytest.raises(UserError, match=r"line 2: n99"):
        find_pictures(folder("a.png", "b.png"), LABELS, tmp_path / "labels")


def test_a_score_counts_right_unreadable_and_agreeing_pictures(
    tiny: Classifier, cat: bytes, coffee: bytes, tmp_path: Path
) -> None:
    for name, content in (("cat.png", cat), ("coffee.png", coffee), ("broken.png", cat[:1000])):
        (tmp_path / name).write_bytes(content)
    cat_class, coffee_class = (
        item[0].class_id for item in tiny.classify([cat, coffee], [1, 1]) if isinstance(item, list)
    )
    second = tiny.classify([coffee], [2])[0]
    assert isinstance(second, list)
    pictures = [
        Labelled(tmp_path / "cat.png", cat_class),
        Labelled(tmp_path / "coffee.png", second[1].class_id),  # its second guess: top-5, not top-1
        Labelled(tmp_path / "broken.png", cat_class),
    ]
    score, best = evaluate(tiny, pictures, "tiny", reference=[cat_class, "another", None])
    assert (score.pictures, score.top1, score.top5, score.unreadable, score.agreeing) == (3, 1, 2, 1, 2)
    assert best == [cat_class, coffee_class, None]
    assert score.seconds > 0
