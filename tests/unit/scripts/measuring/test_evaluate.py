import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from classifier.labels import Label
from classifier.pipeline import Classifier

from scripts.console import UserError
from scripts.measuring.evaluate import Found, Labelled, Score, evaluate, find_pictures, main, table

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


@pytest.mark.parametrize("name", ["n01", "Egyptian cat", "egyptian_cat", "EGYPTIAN CAT", "N01"])
def test_a_folder_is_a_class_by_id_or_by_name(folder: Callable[..., Path], name: str) -> None:
    data = folder(f"{name}/a.jpg", f"{name}/deep/b.PNG")
    pictures = [Labelled(data / name / "a.jpg", "n01"), Labelled(data / name / "deep/b.PNG", "n01")]
    assert find_pictures(data, LABELS) == Found(pictures, [])


def test_a_folder_that_may_be_two_classes_is_refused_with_both(folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"crane may be class n02 \(crane\) or n03 \(crane\)"):
        find_pictures(folder("crane/a.jpg", "n01/a.jpg"), LABELS)


def test_what_is_left_out_is_counted_and_said(folder: Callable[..., Path]) -> None:
    data = folder("n01/a.jpg", "n01/notes.txt", "expresso/a.jpg", "expresso/b.jpg", "dog/a.jpg", "readme.md")
    found = find_pictures(data, LABELS)
    assert found.pictures == [Labelled(data / "n01/a.jpg", "n01")]
    assert found.left_out == [
        "folder dog with 1 file is no class of this model",
        "folder expresso with 2 files is no class of this model; is it espresso?",
        "2 files not counted as pictures of a class: notes.txt, readme.md",
    ]


def test_a_folder_of_no_class_at_all_is_refused_with_the_reasons(folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"n01 or Egyptian cat.*folder dog with 1 file is no class"):
        find_pictures(folder("dog/a.jpg"), LABELS)


def test_a_folder_without_pictures_is_refused_with_what_is_expected(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"n01 or Egyptian cat"):
        find_pictures(folder("notes.txt"), LABELS)
    with pytest.raises(UserError, match="no such folder"):
        find_pictures(tmp_path / "none", LABELS)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("a.JPEG 0\nb.JPEG 3\n", id="val.txt: names and numbers"),
        pytest.param("ImageId,PredictionString\na,n01 85 1 499 272\nb,n04 1 2 3 4\n", id="LOC_val_solution.csv"),
        pytest.param("a.JPEG\tn01\n\nb.JPEG\tn04\n", id="names and ids"),
        pytest.param("\ufeffa.JPEG,Egyptian cat\nb.JPEG,ESPRESSO\n", id="names of several words"),
    ],
)
def test_pictures_in_one_folder_have_their_labels_in_a_file(
    folder: Callable[..., Path], tmp_path: Path, lines: str
) -> None:
    data = folder("a.JPEG", "b.JPEG")
    (tmp_path / "labels").write_text(lines, encoding="utf-8")
    found = find_pictures(data, LABELS, tmp_path / "labels")
    assert found == Found([Labelled(data / "a.JPEG", "n01"), Labelled(data / "b.JPEG", "n04")], [])


def test_pictures_without_a_line_and_lines_without_a_picture_are_said(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = folder("a.JPEG", "c.JPEG", "labels")
    (data / "labels").write_text("a.JPEG n01\nabsent.JPEG n02\n")
    found = find_pictures(data, LABELS, data / "labels")
    assert [item.path.name for item in found.pictures] == ["a.JPEG"]
    lines, pictures = found.left_out
    assert lines.startswith("1 file of LABELS=")
    assert lines.endswith("absent.JPEG")
    assert pictures.startswith("1 file without a line")
    assert pictures.endswith("c.JPEG")


def test_a_name_that_two_pictures_have_is_refused_and_a_path_is_not(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = folder("x/a.png", "y/a.png")
    (tmp_path / "labels").write_text("a.png n01\n")
    with pytest.raises(UserError, match=r"line 1: a\.png may be .*x/a\.png or .*y/a\.png"):
        find_pictures(data, LABELS, tmp_path / "labels")
    (tmp_path / "labels").write_text("y/a.png n01\n")
    assert find_pictures(data, LABELS, tmp_path / "labels").pictures == [Labelled(data / "y/a.png", "n01")]
    (tmp_path / "labels").write_text("y/a.png n01\ny/a.png n02\n")
    with pytest.raises(UserError, match=r"line 2: another line has .* with another class"):
        find_pictures(data, LABELS, tmp_path / "labels")


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


def test_a_model_of_three_classes_is_right_about_all_it_can_be_and_has_no_top_5(
    few_archive: Callable[..., Path], flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(flowers, tmp_path / "flowers"))
    shutil.copy(data / "rose/0.png", data / "菖蒲/wrong.png")
    (data / "cactus").mkdir()
    (data / "cactus/0.png").touch()
    main(data, archive=(str(few_archive()),), store=tmp_path)
    said = capsys.readouterr()
    assert "85.71%" in said.out  # six of seven
    assert "top-5" not in said.out
    assert "folder cactus with 1 file is no class of this model" in said.err


def test_the_top_5_is_shown_where_it_can_be_wrong() -> None:
    of_ten, of_five = (
        table({"a": Score(pictures=4, top1=1, top5=3, classes=classes, seconds=1)}) for classes in (10, 5)
    )
    assert [column.header for column in of_ten.columns][1:3] == ["top-1", "top-5"]
    assert [column.header for column in of_five.columns][1:3] == ["top-1", "agreement with the first"]
