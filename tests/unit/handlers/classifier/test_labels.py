from pathlib import Path

import pytest
from classifier.errors import UnusableError
from classifier.labels import IMAGENET_CLASSES, Label, imagenet1k, load_labels, read_labels, write_labels


@pytest.fixture(scope="module")
def imagenet() -> list[Label]:
    return imagenet1k()


def test_imagenet_has_a_thousand_classes_each_with_an_id_and_a_name(imagenet: list[Label]) -> None:
    assert len(imagenet) == IMAGENET_CLASSES == 1000
    assert len({label.class_id for label in imagenet}) == IMAGENET_CLASSES
    assert all(label.class_name.strip() for label in imagenet)


def test_imagenet_is_in_the_order_of_its_wordnet_ids(imagenet: list[Label]) -> None:
    ids = [label.class_id for label in imagenet]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("index", "label"),
    [
        (0, Label("n01440764", "tench")),
        (285, Label("n02124075", "Egyptian cat")),
        (657, Label("n03773504", "missile")),
        (665, Label("n03785016", "moped")),
        (967, Label("n07920052", "espresso")),
        (999, Label("n15075141", "toilet tissue")),
    ],
)
def test_known_classes_are_where_the_models_were_trained_to_put_them(
    imagenet: list[Label], index: int, label: Label
) -> None:
    assert imagenet[index] == label


def test_a_label_file_reads_as_it_was_written(tmp_path: Path) -> None:
    labels = [Label("b", "Große Katze"), Label("a", "dog")]
    write_labels(labels, tmp_path / "labels.json")
    assert read_labels(tmp_path / "labels.json") == labels


def test_the_path_of_a_label_file_is_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    write_labels([Label("a", "cat")], tmp_path / "names" / "pets.json")
    assert load_labels("names/pets.json", tmp_path) == [Label("a", "cat")]


def test_imagenet1k_names_the_built_in_labels(tmp_path: Path, imagenet: list[Label]) -> None:
    assert load_labels("imagenet1k", tmp_path) == imagenet


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "truncated"),
        (b"cat\ndog\n", "malformed"),
        (b'{"0": "cat"}', "array"),
        (b'["cat"]', "$[0]"),
        (b'[{"class_id": "a", "class_name": "cat"}, {"class_id": "b"}]', "class_name"),
        (b'[{"class_id": 1, "class_name": "cat"}]', "class_id"),
        (b'[{"class_id": "a", "class_name": "\xff"}]', "utf-8"),
    ],
)
def test_an_unusable_label_file_is_named_with_its_fault(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(content)
    with pytest.raises(UnusableError) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)
    assert fault in str(caught.value)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        load_labels("nothing.json", tmp_path)
