from pathlib import Path

import msgspec
import pytest
from classifier.errors import UnusableError
from classifier.identity import IDENTITY_FILE, Identity, Model, read_identity, write_identity

IDENTITY = Identity(
    model=Model(name="tiny", version="1.0", runtime="eager", precision="float32", weights="tiny-trained"),
    weights_sha256="0123abcd",
    serialized_file="tiny.pth",
)


def test_an_identity_reads_as_it_was_written(tmp_path: Path) -> None:
    write_identity(IDENTITY, tmp_path)
    assert read_identity(tmp_path) == IDENTITY


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (b'"eager"', b'"abacus"', "$.model.runtime"),
        (b'"float32"', b'"int3"', "$.model.precision"),
        (b'"serialized_file"', b'"file"', "serialized_file"),
        (b"}", b"", "truncated"),
        (b"tiny-trained", b"\xff", "utf-8"),
    ],
)
def test_an_unusable_identity_is_named_with_its_fault(tmp_path: Path, before: bytes, after: bytes, fault: str) -> None:
    content = msgspec.json.encode(IDENTITY)
    assert before in content
    (tmp_path / IDENTITY_FILE).write_bytes(content.replace(before, after))
    with pytest.raises(UnusableError) as caught:
        read_identity(tmp_path)
    assert IDENTITY_FILE in str(caught.value)
    assert fault in str(caught.value)


def test_a_directory_without_an_identity_is_none_of_our_archives(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=IDENTITY_FILE):
        read_identity(tmp_path)
