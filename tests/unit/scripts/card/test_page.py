import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from scripts.admission.signing import create_keys, read_private_key, sign
from scripts.archives.store import find_archive
from scripts.building.build import build
from scripts.building.options import Options
from scripts.card.gather import gather, siblings
from scripts.card.page import main, precise, render, size
from scripts.console import UserError
from tests.unit.scripts.card.conftest import HOSTILE, LABELS


class Reader(HTMLParser):
    """The text of a page, its tags, and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self._words: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self._words.append(data)


def classes(folder: Path, picture: bytes) -> Path:
    """A folder of labelled pictures of the three classes, by their ids."""
    for label in LABELS:
        (folder / label["class_id"]).mkdir(parents=True)
        (folder / label["class_id"] / f"{HOSTILE[:8]}.png").write_bytes(picture)
    return folder


@pytest.fixture
def pictures(tmp_path: Path, cat: bytes, coffee: bytes) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, content in (("a <b>cat.png", cat), ("coffee.png", coffee), ("wrong.png", cat[:1000])):
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def of_three(three: Path, tmp_path: Path, cat: bytes, pictures: Path) -> Reader:
    data = classes(tmp_path / "data", cat)
    archive = find_archive(str(three), three.parent)
    return Reader(render(gather(archive, three.parent, data=data, pictures=pictures)))


def test_hostile_labels_and_names_are_text(of_three: Reader) -> None:
    assert "script" not in of_three.tags
    assert "b" not in of_three.tags
    assert HOSTILE in of_three.text
    assert '" onload="alert(2)' in of_three.text
    assert "猫 кошка" in of_three.text
    assert "a <b>cat.png" in of_three.text


def test_a_page_refers_to_nothing_outside_it(of_three: Reader) -> None:
    inside = [address for address in of_three.addresses if address.startswith(("#", "data:"))]
    assert inside == of_three.addresses
    assert {address[1:] for address in inside if address.startswith("#")} <= set(of_three.ids)
    assert len(of_three.ids) == len(set(of_three.ids))


def test_what_is_missing_is_said(of_three: Reader) -> None:
    assert "The archive is not signed" in of_three.text
    assert "no float32 eager archive with these weights" in of_three.text
    assert "no bill of materials of this very file" in of_three.text
    assert "no other archive of this model" in of_three.text
    assert "Top-5 says nothing of a model with 3 classes" in of_three.text
    assert "The picture is broken: the header of the picture is truncated or corrupt" in of_three.text


def test_an_evaluation_has_its_shares_confusions_and_classes(of_three: Reader) -> None:
    assert "33.3% 6.1\u201379.2%" in of_three.text
    assert of_three.text.count("taken for") == 2


def test_a_store_with_a_reference_gives_plots_and_a_comparison(pair: Path, pictures: Path, tmp_path: Path) -> None:
    card = gather(find_archive("tiny-torchscript", pair), pair, pictures=pictures)
    assert card.reference == find_archive("tiny-eager", pair).path.name
    assert not card.is_reference
    assert {row.identity.model.runtime for row in card.rows} == {"eager", "torchscript"}
    assert card.own.identity.model.runtime == "torchscript"
    assert card.own.differences is not None
    assert max(item.logit for item in card.own.differences) < 1e-5
    read = Reader(render(card))
    assert "the first class is the same on 2 of 2" in read.text
    assert "largest |Δlogit|" in read.text
    assert "the reference" in read.text
    assert "There were no labelled pictures" in read.text
    assert "numpy" in read.text


def test_the_reference_itself_says_so(pair: Path, pictures: Path) -> None:
    card = gather(find_archive("tiny-eager", pair), pair, pictures=pictures)
    assert card.is_reference
    assert "itself the one in float32" in Reader(render(card)).text


def test_untrained_weights_and_a_busy_machine_are_said(options: Options, pictures: Path) -> None:
    path, _ = build(replace(options, weights="auto"))
    card = gather(find_archive(str(path), options.store), options.store, pictures=pictures)
    text = Reader(render(replace(card, others=0.5))).text
    assert "Untrained weights." in text
    assert "Other programs took 50.0% of the processors" in text
    assert "Other programs" not in Reader(render(replace(card, others=0.01))).text


def test_with_a_key_only_what_it_signed_is_loaded(pair: Path, pictures: Path, tmp_path: Path) -> None:
    store = shutil.copytree(pair, tmp_path / "store")
    public = create_keys(tmp_path / "keys", None)
    output = tmp_path / "card.html"
    with pytest.raises(UserError, match="not signed"):
        main("tiny-torchscript", pictures=pictures, output=output, public_key=public, store=store)
    assert not output.exists()
    signed = find_archive("tiny-torchscript", store)
    sign(signed.path, read_private_key(tmp_path / "keys/private.pem", None))
    main("tiny-torchscript", pictures=pictures, output=output, public_key=public, store=store)
    text = Reader(output.read_text()).text
    assert "Verified: made by key" in text
    assert re.search(r"Left out: \S*tiny-eager\S* : \S+: not signed", text)


def test_broken_siblings_are_left_out_and_other_models_are_no_siblings(pair: Path, three: Path, tmp_path: Path) -> None:
    store = shutil.copytree(pair, tmp_path / "store")
    shutil.copy(three, store)
    eager = find_archive("tiny-eager", store)
    broken = find_archive("tiny-torchscript", store).path
    broken.write_bytes(broken.read_bytes()[:-100])
    found, left_out = siblings(eager, store)
    assert found == []
    assert [item.name for item in left_out] == [broken.name]


def test_an_archive_from_elsewhere_is_compared_with_those_of_the_store(
    pair: Path, pictures: Path, tmp_path: Path, tiny_archive: Callable[..., Path]
) -> None:
    folder = tiny_archive("eager", "no-archive")
    card = gather(find_archive(str(folder), pair), pair, pictures=pictures)
    assert len(card.rows) == 3
    assert card.facts.is_folder
    assert "its digests.json, because it is a folder" in Reader(render(card)).text


def test_the_page_is_written_where_it_is_wanted(three: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "coffee.png").rename(pictures / b"\xff.png".decode("utf-8", "surrogateescape"))
    output = tmp_path / "new" / "page.html"
    main(str(three), pictures=pictures, output=output, store=three.parent)
    assert output.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(UserError, match="is a folder"):
        main(str(three), pictures=pictures, output=tmp_path, store=three.parent)
    (pictures / "only").mkdir()
    (pictures / "only" / "x.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="none of the first 1 files there is a picture"):
        main(str(three), pictures=pictures / "only", output=output, store=three.parent)


def test_figures_are_readable() -> None:
    assert [precise(value) for value in (0, 1.234e-5, 0.0512, 12.34, 999, 1039.6)] == [
        "0", "1.2e-05", "0.0512", "12.3", "999", "1,040",
    ]  # fmt: skip
    assert [size(count) for count in (12, 1500, 5_340_000, 2_000_000_000)] == ["12 bytes", "1.5 kB", "5.34 MB", "2 GB"]
