import io
import json
import random
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from classifier.digests import DIGESTS_FILE, members, verify, write_digests
from classifier.errors import BrokenArchiveError

from scripts.archives.format import Format

BuildArchive = Callable[[str, Format], Path]
Files = dict[str, bytes]

every_format = pytest.mark.parametrize("archive_format", ["zip-store", "tgz", "no-archive"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of an archive much smaller than a real one, digests included."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "classifier").mkdir()
    for name in ("recipe.yaml", "classifier/decode.py"):
        (folder / name).write_bytes(name.encode() * 200)
    (folder / "weights.pth").write_bytes(random.Random(0).randbytes(3000))  # noqa: S311 - as hard to compress as weights
    write_digests(folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def packed(files: Files, archive_format: Format, tmp_path: Path) -> Path:
    """These files as an archive."""
    target = tmp_path / {"zip-store": "small.mar", "tgz": "small.tar.gz", "no-archive": "small"}[archive_format]
    if archive_format == "zip-store":
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif archive_format == "tgz":
        with tarfile.open(target, "w:gz") as archive_of_tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"small/{name}")
                entry.size = len(content)
                archive_of_tar.addfile(entry, io.BytesIO(content))
    else:
        for name, content in files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return target


def assert_is_broken(archive: Path, *words: str) -> None:
    with pytest.raises(BrokenArchiveError) as caught:
        verify(archive)
    for word in (archive.name, *words):
        assert word in str(caught.value)


@pytest.mark.slow
@every_format
def test_an_archive_as_it_was_built_proves_its_content(tiny_archive: BuildArchive, archive_format: Format) -> None:
    verify(tiny_archive("eager", archive_format))


@every_format
def test_all_formats_have_the_same_members(tiny_archive: BuildArchive, archive_format: Format) -> None:
    names = [name for name, _ in members(tiny_archive("eager", archive_format))]
    assert len(names) == len(set(names))
    assert {DIGESTS_FILE, "classifier/decode.py", "tiny_net.py", "MAR-INF/MANIFEST.json"} <= set(names)
    assert set(names) == {name for name, _ in members(tiny_archive("eager", "zip-store"))}


@every_format
def test_the_digests_list_every_other_file(tiny_archive: BuildArchive, archive_format: Format) -> None:
    contents = {name: stream.read() for name, stream in members(tiny_archive("eager", archive_format))}
    assert set(json.loads(contents.pop(DIGESTS_FILE))) == set(contents)


@every_format
def test_one_changed_byte_is_found(small: Files, archive_format: Format, tmp_path: Path) -> None:
    changed = bytes([small["weights.pth"][0] ^ 1]) + small["weights.pth"][1:]
    assert_is_broken(packed(small | {"weights.pth": changed}, archive_format, tmp_path), "weights.pth", "changed")


@every_format
@pytest.mark.parametrize("name", ["recipe.yaml", "classifier/decode.py"])
def test_a_missing_file_is_found(small: Files, archive_format: Format, name: str, tmp_path: Path) -> None:
    files = {other: content for other, content in small.items() if other != name}
    assert_is_broken(packed(files, archive_format, tmp_path), name, "missing")


@every_format
@pytest.mark.parametrize("name", ["numpy.py", "classifier/extra.py"])
def test_an_added_file_is_found(small: Files, archive_format: Format, name: str, tmp_path: Path) -> None:
    assert_is_broken(packed(small | {name: b""}, archive_format, tmp_path), name)


@every_format
def test_an_archive_without_digests_proves_nothing(small: Files, archive_format: Format, tmp_path: Path) -> None:
    files = {name: content for name, content in small.items() if name != DIGESTS_FILE}
    assert_is_broken(packed(files, archive_format, tmp_path), DIGESTS_FILE)


@every_format
@pytest.mark.parametrize("content", [b"", b"[]", b'{"recipe.yaml": 1}', b'{"recipe.yaml": "\xff"}', b"\x80"])
def test_digests_that_cannot_be_read_prove_nothing(
    small: Files, archive_format: Format, content: bytes, tmp_path: Path
) -> None:
    assert_is_broken(packed(small | {DIGESTS_FILE: content}, archive_format, tmp_path))


@pytest.mark.parametrize("name", ["recipe.yaml", DIGESTS_FILE])
@pytest.mark.parametrize("first", [True, False], ids=["first-is-false", "last-is-false"])
def test_a_file_that_is_there_twice_is_found(small: Files, name: str, first: bool, tmp_path: Path) -> None:
    # which of the two a program unpacks is up to the program
    true, false = (name, small[name]), (name, b"{}")
    others = [(other, content) for other, content in small.items() if other != name]
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "small.mar", "w") as archive:
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)  # it is the point
        for member, content in [*((false, true) if first else (true, false)), *others]:
            archive.writestr(member, content)
    assert_is_broken(tmp_path / "small.mar", name, "twice")


@pytest.mark.parametrize("archive_format", ["zip-store", "tgz"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_a_truncated_archive_is_found(small: Files, archive_format: Format, share: float, tmp_path: Path) -> None:
    archive = packed(small, archive_format, tmp_path)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    assert_is_broken(archive)


@pytest.mark.slow
@pytest.mark.parametrize("archive_format", ["zip-store", "tgz"])
def test_whatever_bits_are_flipped_an_archive_is_whole_or_broken(
    small: Files, archive_format: Format, tmp_path: Path
) -> None:
    archive = packed(small, archive_format, tmp_path)
    content, chance = archive.read_bytes(), random.Random(archive_format)  # noqa: S311 - the same flips every time
    broken = 0
    for _ in range(400):
        flipped = bytearray(content)
        for _ in range(chance.choice((1, 2))):
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        archive.write_bytes(flipped)
        broken += is_broken(archive)
    assert broken > 350  # the others changed what nobody reads, a time say


def is_broken(archive: Path) -> bool:
    try:
        verify(archive)
    except BrokenArchiveError:
        return True
    return False


@pytest.mark.parametrize("name", ["nothing.mar", "nothing.tar.gz", "nothing"])
def test_an_archive_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    assert_is_broken(tmp_path / name)


def test_byte_code_that_python_wrote_does_not_count(tiny_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    (copy / "classifier" / "__pycache__").mkdir(exist_ok=True)
    (copy / "classifier" / "__pycache__" / "decode.cpython-311.pyc").write_bytes(b"byte code")
    assert not [name for name, _ in members(copy) if "__pycache__" in name]
    verify(copy)


def test_a_folder_above_the_archive_may_be_called_as_it_likes(small: Files, tmp_path: Path) -> None:
    verify(packed(small, "no-archive", tmp_path / "__pycache__"))


def test_links_are_no_files_of_an_archive(small: Files, tmp_path: Path) -> None:
    elsewhere = packed({"__init__.py": b""}, "no-archive", tmp_path / "elsewhere")
    folder = packed(small, "no-archive", tmp_path)
    (folder / "numpy").symlink_to(elsewhere)
    assert_is_broken(folder, "numpy")


@pytest.mark.parametrize("target", ["recipe.yaml", "/nowhere", ".."])
def test_links_are_no_members_of_a_tar(small: Files, target: str, tmp_path: Path) -> None:
    archive = packed(small, "tgz", tmp_path)
    with tarfile.open(archive) as old, tarfile.open(tmp_path / "linked.tar.gz", "w:gz") as new:
        for entry in old:
            new.addfile(entry, old.extractfile(entry))
        link = tarfile.TarInfo("small/numpy.py")
        link.type, link.linkname = tarfile.SYMTYPE, target
        new.addfile(link)
    assert_is_broken(tmp_path / "linked.tar.gz", "numpy.py")
