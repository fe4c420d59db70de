import json
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from classifier.digests import members
from classifier.errors import BrokenArchiveError
from classifier.unpack import unpack


def test_an_archive_is_unpacked_as_it_is(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    archive = tiny_archive()
    unpack(archive, tmp_path)
    packed = {name: stream.read() for name, stream in members(archive)}
    assert {name: stream.read() for name, stream in members(tmp_path)} == packed


@pytest.mark.parametrize("name", ["../outside", "/outside", "inside/../../outside"])
def test_a_name_that_points_out_of_the_folder_is_refused_though_its_digest_is_right(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.mar"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(name, b"evil")
        packed.writestr("digests.json", json.dumps({name: sha256(b"evil").hexdigest()}))
    (tmp_path / "folder").mkdir()
    with pytest.raises(BrokenArchiveError, match="points out of the archive"):
        unpack(archive, tmp_path / "folder")
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["evil.mar", "folder"]
