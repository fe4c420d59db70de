import json
from pathlib import Path

import pytest
from classifier.labels import Label

from scripts.adopting.labels import labels_of, read_any_labels
from scripts.console import UserError

CATS = [Label("n01", "cat"), Label("n02", "Hündin 🐕")]
NAMES = [Label("cat", "cat"), Label("Hündin 🐕", "Hündin 🐕")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (["cat", "Hündin 🐕"], NAMES),
        ([["n01", "cat"], ["n02", "Hündin 🐕"]], CATS),
        ([{"class_id": "n01", "class_name": "cat"}, {"class_id": "n02", "class_name": "Hündin 🐕"}], CATS),
        ({"1": "Hündin 🐕", "0": "cat"}, NAMES),
        ({"0": ["n01", "cat"], "1": ["n02", "Hündin 🐕"]}, CATS),
        ({"0": ["cat"], "1": ["Hündin 🐕"]}, NAMES),
        ({"cat": 0, "Hündin 🐕": 1}, NAMES),
        ({"id2label": {"0": "cat", "1": "Hündin 🐕"}, "model_type": "vit"}, NAMES),
        (["cat", "cat"], [Label("0", "cat"), Label("1", "cat")]),
        ([["n01", "crane"], ["n02", "crane"]], [Label("n01", "crane"), Label("n02", "crane")]),
        ([7, 8], [Label("7", "7"), Label("8", "8")]),
    ],
)
def test_each_form_of_json_is_read(tmp_path: Path, content: object, expected: list[Label]) -> None:
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps(content))
    assert read_any_labels(path) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("labels.txt", "cat\nHündin 🐕\n\n", NAMES),
        ("labels.txt", "\ufeffcat\r\nHündin 🐕\r\n", NAMES),
        ("labels.csv", 'n01,cat\nn02,"Hündin 🐕"\n', CATS),
        ("labels.csv", "class_id,class_name\nn01,cat\nn02,Hündin 🐕\n", CATS),
        ("labels.csv", "n01;cat\nn02;Hündin 🐕\n", CATS),
        ("labels.csv", "1,Hündin 🐕\n0,cat\n", NAMES),
        ("labels.csv", "id,name\n0,cat\n1,Hündin 🐕\n", NAMES),
        ("labels.csv", "index,wnid,name\n1,n02,Hündin 🐕\n0,n01,cat\n", CATS),
        ("labels.csv", 'n01,"cat, tabby"\nn02,dog\n', [Label("n01", "cat, tabby"), Label("n02", "dog")]),
        ("labels.tsv", "n01\tcat\nn02\tHündin 🐕\n", CATS),
        ("labels.csv", "name\ncat\nHündin 🐕\n", NAMES),
    ],
)
def test_text_and_tables_are_read(tmp_path: Path, name: str, text: str, expected: list[Label]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_any_labels(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "must be a list"),
        ({}, "must be a list"),
        ("cat", "must be a list"),
        ({"0": "cat", "2": "dog"}, "2 entries, but none for index 1"),
        ({"a": "cat"}, "invalid literal"),
        (["cat", ""], "index 1 has no name: ''"),
        (["cat", None], "index 1 has no name"),
        ([{"class_id": "n01"}], "index 0 has no name"),
        ({"id2label": ["cat"]}, "id2label must be an object"),
    ],
)
def test_what_names_no_classes_is_refused(content: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        labels_of(content)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.json", b"{", "is no list of labels"),
        ("x.csv", b"a,b\nc\n", r"same one to three columns; they have \[1, 2\]"),
        ("x.txt", b"\xff\xfe", "is not text in UTF-8"),
        ("x.txt", b"", "must be a list"),
    ],
)
def test_a_file_that_has_none_is_named(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*{why}"):
        read_any_labels(tmp_path / name)
