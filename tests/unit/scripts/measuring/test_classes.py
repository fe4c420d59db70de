import unicodedata

import pytest
from classifier.labels import Label

from scripts.console import UserError
from scripts.measuring.classes import Classes

LABELS = [
    Label("0", "c"), Label("1", "c++"), Label("2", "c#"), Label("3", "Gänseblümchen"), Label("4", "STRASSE"),
    Label("5", "crane"), Label("6", "crane"), Label("7", "Rose"), Label("8", "rose"), Label("9", "apple pie"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "class_id"),
    [
        ("c", "0"),
        ("c++", "1"),
        ("c#", "2"),
        ("C#", "2"),
        ("3", "3"),
        (unicodedata.normalize("NFD", "Gänseblümchen"), "3"),  # as macOS writes it
        ("GÄNSEBLÜMCHEN", "3"),
        ("Straße", "4"),
        ("Rose", "7"),  # exact before alike
        ("rose", "8"),
        ("Apple_Pie", "9"),
        ("Ganseblumchen", None),
        ("c--", None),
        ("", None),
    ],
)
def test_a_name_means_one_class_or_none(name: str, class_id: str | None) -> None:
    assert Classes(LABELS).find(name, "folder") == class_id


@pytest.mark.parametrize(("name", "candidates"), [("crane", ("5", "6")), ("ROSE", ("7", "8"))])
def test_what_may_be_two_classes_is_refused_with_both(name: str, candidates: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=rf"folder: {name} may be class {candidates[0]} .* or {candidates[1]} "):
        Classes(LABELS).find(name, "folder")


def test_an_id_that_is_the_name_of_another_class_is_refused_too() -> None:
    with pytest.raises(UserError, match=r"a \(b\) or b \(c\)"):
        Classes([Label("a", "b"), Label("b", "c")]).find("b", "folder")


def test_the_nearest_spelling_is_named() -> None:
    assert Classes(LABELS).nearest("Ganseblumchen") == "Gänseblümchen"
    assert Classes(LABELS).nearest("lorry") is None
