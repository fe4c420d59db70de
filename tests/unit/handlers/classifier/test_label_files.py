import codecs
import csv
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from classifier.errors import UnusableError
from classifier.label_files import Class, classes_of, read_label_file
from classifier.labels import Label, load_labels, write_labels
from hypothesis import given
from hypothesis import strategies as st

CAT_AND_DOG = [("0", "cat"), ("1", "dog")]
WITH_IDS = [("n02", "cat"), ("n01", "dog")]


def read(content: str | bytes, name: str) -> list[Class]:
    """What is read from a file of that content and name."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_label_file(path)


@pytest.mark.parametrize(
    ("content", "classes"),
    [
        ([{"class_id": "n02", "class_name": "cat"}, {"class_id": "n01", "class_name": "dog"}], WITH_IDS),
        (["cat", "dog"], CAT_AND_DOG),
        ([["n02", "cat"], ["n01", "dog"]], WITH_IDS),
        ({"0": "cat", "1": "dog"}, CAT_AND_DOG),
        ({"1": "dog", "0": "cat"}, CAT_AND_DOG),
        ({"0": ["n02", "cat"], "1": ["n01", "dog"]}, WITH_IDS),
        ({"0": ["cat"], "1": ["dog"]}, CAT_AND_DOG),
        ({"0": ["n02", "tabby", "cat"], "1": ["n01", "dog"]}, WITH_IDS),
        ({"object_type_names": ["cat", "dog"]}, CAT_AND_DOG),
        ({"object_type_names": {"0": "cat", "1": "dog"}}, CAT_AND_DOG),
        ({"anything": {"0": ["n02", "cat"], "1": ["n01", "dog"]}}, WITH_IDS),
        ({"cat": 0, "dog": 1}, CAT_AND_DOG),
        ({"0": 0, "1": 1}, [("0", "0"), ("1", "1")]),
        ({"0": 0, "1": 1, "10": 2, "2": 3}, [("0", "0"), ("1", "1"), ("2", "10"), ("3", "2")]),  # folders, as sorted
        ({"3": 0, "7": 1}, [("0", "3"), ("1", "7")]),
        ({"1": 0, "0": 1}, [("0", "1"), ("1", "0")]),  # either way
        ({"label2id": {"0": 1, "1": 2, "2": 0}}, [("0", "2"), ("1", "0"), ("2", "1")]),
        ({"id2label": {"0": "cat", "1": "dog"}}, CAT_AND_DOG),
        ({"label2id": {"dog": 1, "cat": 0}}, CAT_AND_DOG),
        ({"architectures": ["X"], "label2id": {"cat": 0, "dog": 1}, "id2label": {"0": "cat", "1": "dog"}}, CAT_AND_DOG),
        ({"id2label": {}, "label2id": {"cat": 0, "dog": 1}, "hidden_size": 3}, CAT_AND_DOG),
    ],
)
def test_each_form_of_json_is_read(content: object, classes: list[Class]) -> None:
    assert read(json.dumps(content), "labels.json") == classes


@pytest.mark.parametrize(
    ("content", "name", "classes"),
    [
        ("cat\ndog\n", "labels.txt", CAT_AND_DOG),
        ("cat\r\ndog", "labels.txt", CAT_AND_DOG),
        (" cat \ndog\n\n \n", "labels", CAT_AND_DOG),
        ("[cat]\ndog\n", "labels.txt", [("0", "[cat]"), ("1", "dog")]),
        ("tench, Tinca tinca\n", "labels.txt", [("0", "tench, Tinca tinca")]),
        ('["cat", "dog"]', "labels", CAT_AND_DOG),
        ("0,cat\n1,dog\n", "labels.csv", CAT_AND_DOG),
        ("id,name\r\n1,dog\r\n0,cat\r\n", "labels.csv", CAT_AND_DOG),
        ("name,index\ncat,0\ndog,1\n", "labels.csv", CAT_AND_DOG),
        ("cat,0\ndog,1\n", "labels.csv", CAT_AND_DOG),
        ("n02,cat\nn01,dog\n", "labels.csv", WITH_IDS),
        ("Class ID;Class Name\nn02;cat\nn01;dog\n", "labels.CSV", WITH_IDS),
        ("n02\tcat\nn01\tdog\n", "labels.tsv", WITH_IDS),
        ('0,"cat, tabby"\n\n1, "a ""dog"""\n', "labels.csv", [("0", "cat, tabby"), ("1", 'a "dog"')]),
        ("0;cat, tabby\n1;dog\n", "labels.csv", [("0", "cat, tabby"), ("1", "dog")]),
        (",name\n0,cat\n1,dog\n", "labels.csv", CAT_AND_DOG),  # as pandas writes an index
        ("id,name\nd1,1\nd0,0\n", "labels.csv", [("d1", "1"), ("d0", "0")]),
        ("cat\ndog\n", "labels.csv", CAT_AND_DOG),
        ("Class Name\r\ncat\r\n\r\ndog\r\n", "labels.csv", CAT_AND_DOG),
        ('"cat"\n"dog"\n', "labels.tsv", CAT_AND_DOG),
        ("label\n0\n1\n", "labels.csv", [("0", "0"), ("1", "1")]),
    ],
)
def test_each_form_of_text_is_read(content: str, name: str, classes: list[Class]) -> None:
    assert read(content, name) == classes


@pytest.mark.parametrize(
    ("content", "name"),
    [("Große Katze\n犬\n", "a.txt"), ('["Große Katze", "犬"]', "a.json"), ("0,Große Katze\n1,犬\n", "a.csv")],
)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_a_byte_order_mark_tells_the_encoding_and_is_no_part_of_a_name(content: str, name: str, mark: bytes) -> None:
    encoding = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(mark, "utf-8")
    assert read(mark + content.encode(encoding), name) == [("0", "Große Katze"), ("1", "犬")]


@pytest.mark.parametrize(
    ("content", "name"),
    [('["crane", "crane"]', "a.json"), ("crane\ncrane\n", "a.txt"), ('{"id2label": {"0": "crane", "1": "crane"}}', "")],
)
def test_classes_of_one_name_are_told_apart_by_their_ids(content: str, name: str) -> None:
    assert read(content, name or "config.json") == [("0", "crane"), ("1", "crane")]


@pytest.mark.parametrize(
    ("content", "name", "fault"),
    [
        ("", "a.json", "Expecting value"),
        ('"cat"', "a.json", "not 'cat'"),
        ("[]", "a.json", "no class"),
        ("{}", "a.json", "expected a list of names"),
        ("[" * 100_000, "a.json", "nested too deep"),
        ('["cat"', "a.json", "line 1 column 7"),
        ('["cat", ""]', "a.json", "[1]: the name is empty"),
        ('["cat", null]', "a.json", "[1]: expected a name"),
        ('["cat", []]', "a.json", "[1]: expected a name"),
        ('["cat", ["n01", 7]]', "a.json", "[1]: expected text, not 7"),
        ('[{"class_id": "a", "class_name": "cat"}, {"class_id": "b"}]', "a.json", "[1]: expected a name"),
        ('[["a", "cat"], ["b", "dog"], ["a", "cow"]]', "a.json", "[2]: the id 'a' is there already, at [0]"),
        ('{"0": "cat", "2": "dog"}', "a.json", "no class has the index 1, but ['2'] has 2"),
        ('{"1": "cat", "2": "dog"}', "a.json", "no class has the index 0"),
        ('{"0": "cat", "999999999": "dog"}', "a.json", "no class has the index 1"),
        ('{"0": "cat", "0": "dog"}', "a.json", "the key '0' is there twice"),
        ('{"0": "cat", "00": "dog"}', "a.json", "['00']: the index 0 is there already, at ['0']"),
        ('{"0": "cat", "-1": "dog"}', "a.json", "the index -1 is below 0"),
        ('{"0": 1, "1": 2, "2": 0}', "a.json", "both sides are numbers, which may be {index: name} or {name: index}"),
        ('{"0": 7, "1": 3}', "a.json", "both sides are numbers"),
        ("index\n0\n1\n", "a.csv", "the one column has ids or indices, not names"),
        ("2\n0\n1\n", "a.csv", "the one column has ids or indices, not names"),
        ("cat\ndog, domestic\n", "a.csv", "line 1: 1 cells instead of an id and a name"),
        ('{"0": "cat", "1": 7}', "a.json", "['1']: expected a name"),
        ('{"0": "cat", "one": "dog"}', "a.json", "expected a list of names"),
        ('{"id2label": {"0": "cat", "3": "dog"}}', "a.json", "but id2label['3'] has 3"),
        ('{"label2id": {"cat": 0, "dog": 0}}', "a.json", "label2id['dog']: the index 0 is there already"),
        ('{"id2label": "cat"}', "a.json", "id2label: expected"),
        ('{"a": {"b": {"0": "cat"}}}', "a.json", "a: expected"),
        ("cat\n\ndog\n", "a.txt", "line 2: the name is empty"),
        ("", "a.txt", "line 1: the name is empty"),
        ("", "a.csv", "the file is empty"),
        ("id,name\n", "a.csv", "no class"),
        ("0,cat\n1,dog,puppy\n", "a.csv", "line 2: 3 cells"),
        ("0,cat\n2,dog\n", "a.csv", "no class has the index 1, but line 2 has 2"),
        ("0,cat\n1,dog\n1,cow\n", "a.csv", "line 3: the index 1 is there already, at line 2"),
        ("n02,cat\nn02,dog\n", "a.csv", "line 2: the id 'n02' is there already, at line 1"),
        ("n02,cat\n,dog\n", "a.csv", "line 2: the name is empty"),
        ('0,"cat\n1,dog\n', "a.csv", "unexpected end of data"),
        (b"cat\n\xff\n", "a.txt", "position 4"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(content: str | bytes, name: str, fault: str) -> None:
    with pytest.raises(UnusableError) as caught:
        read(content, name)
    assert f"{name}: " in str(caught.value)
    assert fault in str(caught.value)


def test_a_list_in_the_recipe_has_names_or_ids_and_names(tmp_path: Path) -> None:
    assert load_labels(["cat", "dog"], tmp_path) == [Label("0", "cat"), Label("1", "dog")]
    assert load_labels([{"class_id": "a", "class_name": "cat"}], tmp_path) == [Label("a", "cat")]
    assert load_labels([Label("a", "cat")], tmp_path) == [Label("a", "cat")]


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        (["no", True], "labels: [1]: expected a name, [id, name] or {class_id, class_name}, not True"),
        ([], "labels: there is no class in it"),
        ([["a", "cat"], ["a", "dog"]], "labels: [1]: the id 'a' is there already, at [0]"),
    ],
)
def test_a_list_in_the_recipe_is_checked_like_a_file(tmp_path: Path, listed: list[object], fault: str) -> None:
    with pytest.raises(UnusableError) as caught:
        load_labels(listed, tmp_path)
    assert str(caught.value) == fault


# ---- any names at all

NAMES = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=20)
LINE_ENDS = "\n\r"


@given(NAMES)
def test_any_names_come_back_from_json(names: list[str]) -> None:
    by_index = {str(index): name for index, name in enumerate(names)}
    expected = list(by_index.items())
    for content in (names, by_index, {"id2label": by_index}, dict(reversed(expected))):
        assert read(json.dumps(content), "labels.json") == expected


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=20, unique=True))
def test_any_ids_come_back_from_every_form_that_has_them(texts: list[str]) -> None:
    classes = [(text, text[::-1]) for text in texts]
    assert classes_of(classes) == classes
    by_index = {str(index): pair for index, pair in enumerate(classes)}
    assert read(json.dumps(by_index), "index_to_name.json") == classes


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), min_size=1))
def test_an_archives_own_labels_can_be_read_as_any_label_file(names: list[str]) -> None:
    labels = [Label(str(index), name) for index, name in enumerate(names)]
    with TemporaryDirectory() as folder:
        write_labels(labels, Path(folder) / "labels.json")
        assert load_labels("labels.json", Path(folder)) == labels


LINES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters=LINE_ENDS), min_size=1).map(str.strip).filter(bool),
    min_size=1,
    max_size=20,
)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_any_names_come_back_from_lines(names: list[str], end: str, marked: bool) -> None:
    text = end.join(names) + end
    content = (codecs.BOM_UTF8 if marked or text.startswith("\ufeff") else b"") + text.encode()
    assert read(content, "labels.txt") == [(str(index), name) for index, name in enumerate(names)]


@given(LINES, st.sampled_from([",", ";", "\t"]), st.booleans())
def test_any_names_come_back_from_csv(names: list[str], delimiter: str, head: bool) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["index", "name"]] if head else [])
    writer.writerows(enumerate(names))
    assert read(stream.getvalue(), "labels.csv") == [(str(index), name) for index, name in enumerate(names)]
