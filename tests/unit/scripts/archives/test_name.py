from itertools import product
from typing import get_args

import pytest
from classifier.recipe import Precision, RuntimeName

from scripts.archives.format import Format
from scripts.archives.name import ArchiveName


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("vgg16-eager-1.0.mar", ArchiveName(model="vgg16", runtime="eager", version="1.0")),
        (
            "a_b-torchscript-2.0.tar.gz",
            ArchiveName(model="a_b", runtime="torchscript", version="2.0", archive_format="tgz"),
        ),
        (
            "vgg16-openvino-int8-5.2.10",
            ArchiveName(
                model="vgg16", runtime="openvino", precision="int8", version="5.2.10", archive_format="no-archive"
            ),
        ),
        ("vgg16-eager-float16.mar", ArchiveName(model="vgg16", runtime="eager", precision="float16")),
    ],
)
def test_the_file_name_says_what_is_in_it(text: str, name: ArchiveName) -> None:
    assert str(name) == text
    assert ArchiveName.parse(text) == name


def test_every_name_is_read_as_it_was_written() -> None:
    kinds = product(get_args(RuntimeName), get_args(Precision), ("1", "1.0.1", None), get_args(Format))
    for runtime, precision, version, packed in kinds:
        name = ArchiveName(model="m_1", runtime=runtime, precision=precision, version=version, archive_format=packed)
        assert ArchiveName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text", ["", "vgg16", "vgg16.mar", "vgg16-lazy-1.0.mar", "vgg16-eager-1.x.mar", "vgg16-eager-1.0.mar.sig", "-eager"]
)
def test_what_is_no_name_of_an_archive_is_none(text: str) -> None:
    assert ArchiveName.parse(text) is None


def test_versions_are_compared_by_their_numbers() -> None:
    names = [f"tiny-eager-{version}.mar" for version in ("1.10", "1.9", "2", "1.9.1")]
    parsed = [name for name in map(ArchiveName.parse, names) if name is not None]
    assert [name.version for name in sorted(parsed, key=lambda name: name.age)] == ["1.9", "1.9.1", "1.10", "2"]
