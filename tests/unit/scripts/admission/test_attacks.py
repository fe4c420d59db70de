"""Archives that somebody forged, each refused before TorchServe sees it, with the reason."""

import os
import re
import shutil
import socket
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.admission.admit import admit
from scripts.admission.layout import check_layout
from scripts.console import UserError
from tests.unit.conftest import contents
from tests.unit.forgery import (
    Files,
    Forge,
    around,
    commented,
    hidden,
    overlapping,
    patched,
    proven,
    streamed,
    tar,
    with_entry,
    with_file,
    with_tar_entry,
    with_tar_file,
    write_zip,
)

NO_NAME = "is not a valid name for a file"
NO_PLAIN_FILE = "is not a plain, uncompressed file"
TWICE = "is in it twice"
NOT_IN_FRONT = "differs from its entry in the archive's directory"
MORE = "it has more data than its files"
LINK = "is a link, or not a file at all"

ZIP_ATTACKS: dict[str, tuple[Forge, str]] = {
    "zip-slip": (with_file("../escaped.py"), NO_NAME),
    "zip-slip, deeper": (with_file("classifier/../../escaped.py"), NO_NAME),
    "absolute path": (with_file("/tmp/escaped.py"), NO_NAME),  # noqa: S108
    "backslash": (with_file("..\\escaped.py"), NO_NAME),
    "drive letter": (with_file("C:/escaped.py"), NO_NAME),
    "a part that is no part": (with_file("./recipe.yaml"), NO_NAME),
    "an empty part": (with_file("classifier//decode.py"), NO_NAME),
    "hidden file": (with_file(".pth"), NO_NAME),
    "newline": (with_file("a\nb.py"), NO_NAME),
    "a letter that looks like another": (with_file("classifier/d\N{CYRILLIC SMALL LETTER IE}code.py"), NO_NAME),
    "NUL": (patched(b"more.py", b"m\0re.py", 1), NOT_IN_FRONT),
    "not UTF-8": (patched(b"more.py", b"m\xffre.py", 2), NO_NAME),
    "a folder": (with_file("classifier/empty/", b""), NO_NAME),
    "byte code": (with_file("classifier/__pycache__/decode.cpython-311.pyc"), "byte code"),
    "the same name": (lambda path, files: write_zip(path, files, ("recipe.yaml", b"")), TWICE),
    "the same name to some systems": (with_file("Recipe.yaml"), TWICE),
    "symbolic link": (with_entry(external_attr=(stat.S_IFLNK | 0o777) << 16), NO_PLAIN_FILE),
    "device": (with_entry(external_attr=(stat.S_IFCHR | 0o666) << 16), NO_PLAIN_FILE),
    "setuid": (with_entry(external_attr=(stat.S_ISUID | 0o755) << 16), NO_PLAIN_FILE),
    "compressed": (with_entry(compress_type=zipfile.ZIP_DEFLATED), NO_PLAIN_FILE),
    "a time": (with_entry(date_time=(2026, 1, 1, 0, 0, 0)), NO_PLAIN_FILE),
    "a comment on a file": (with_entry(comment=b"PK"), NO_PLAIN_FILE),
    "extra field, a second name say": (with_entry(extra=b"up\x0c\0\x01\0\0\0\0numpy.py"), NO_PLAIN_FILE),
    "a comment": (commented, MORE),
    "data descriptors": (streamed, NO_PLAIN_FILE),
    "something before it": (around(before=b"#!/bin/sh\n"), NOT_IN_FRONT),
    "something behind it": (around(after=b"more"), ".*"),
    "a file that only Java sees": (hidden, NOT_IN_FRONT),
    "a file that Java sees under another name": (patched(b"more.py", b"nump.py", 1), NOT_IN_FRONT),
    "a file that Java sees shorter": (patched(b"\4\0\0\0\4\0\0\0", b"\3\0\0\0\4\0\0\0", 0), NOT_IN_FRONT),
    "overlapping files": (overlapping, NOT_IN_FRONT),
}

TAR_ATTACKS: dict[str, tuple[Forge, str]] = {
    "out of the folder": (with_tar_file("tiny/../../escaped.py"), NO_NAME),
    "absolute path": (with_tar_file("/tiny/escaped.py"), "not in the folder of the others"),
    "no folder": (with_tar_file("escaped.py"), NO_NAME),
    "the folder above": (with_tar_file("../escaped.py"), "not in the folder of the others"),
    "another folder": (with_tar_file("other/escaped.py"), "not in the folder of the others"),
    "the same name": (lambda path, files: tar(path, files, (tarfile.TarInfo("tiny/recipe.yaml"), b"")), TWICE),
    "symbolic link": (with_tar_entry(type=tarfile.SYMTYPE, linkname="/etc/passwd"), LINK),
    "hard link": (with_tar_entry(type=tarfile.LNKTYPE, linkname="/etc/passwd"), LINK),
    "pipe": (with_tar_entry(type=tarfile.FIFOTYPE), LINK),
    "device": (with_tar_entry(type=tarfile.CHRTYPE, devmajor=1, devminor=3), LINK),
    "folder": (with_tar_entry(type=tarfile.DIRTYPE), LINK),
    "sparse": (with_tar_entry(type=tarfile.GNUTYPE_SPARSE), ".*"),
    "setuid": (with_tar_entry(mode=0o4755), "does not consist of plain files"),
    "an owner": (with_tar_entry(uid=0, uname="root"), "does not consist of plain files"),
    "a second name in an extended header": (
        with_tar_entry(pax_headers={"path": "tiny/numpy.py", "comment": "x"}),
        "does not consist of plain files",
    ),
    "a bomb": (with_tar_file("tiny/zeros", bytes(100_000_000)), "over 100 times as large"),
    "a bomb of names": (with_tar_entry(pax_headers={"comment": "0" * 100_000_000}), "over 100 times as large"),
    "something behind it": (lambda path, files: tar(path, files, tail=bytes(512)), MORE),
}


@pytest.fixture(scope="module")
def files(tiny_archive: Callable[..., Path]) -> Files:
    """The files of an archive as it was built."""
    return contents(tiny_archive())


def refused(path: Path) -> str:
    """Why an archive is not registered; nor may it be served, though its worker would be the one to check digests."""
    with pytest.raises(UserError) as of_registering:
        admit(path.name, path.parent, None, "registered")
    with pytest.raises(UserError) as of_serving:
        admit(path.name, path.parent, None, "served")
    assert "it is not registered" in str(of_registering.value)
    assert "it is not served" in str(of_serving.value)
    return str(of_registering.value)


@pytest.mark.parametrize("attack", ZIP_ATTACKS)
def test_a_forged_mar_is_refused_though_its_digests_are_right(attack: str, files: Files, tmp_path: Path) -> None:
    forge, reason = ZIP_ATTACKS[attack]
    forge(tmp_path / "evil.mar", files)
    assert re.search(rf"evil\.mar: .*{reason}", refused(tmp_path / "evil.mar"))
    assert [path.name for path in tmp_path.iterdir()] == ["evil.mar"]


@pytest.mark.slow
@pytest.mark.parametrize("attack", TAR_ATTACKS)
def test_a_forged_tar_is_refused_though_its_digests_are_right(attack: str, files: Files, tmp_path: Path) -> None:
    forge, reason = TAR_ATTACKS[attack]
    forge(tmp_path / "evil.tar.gz", files)
    assert re.search(rf"evil\.tar\.gz: .*{reason}", refused(tmp_path / "evil.tar.gz"))


def test_the_forger_is_refused_for_what_he_changed_and_for_nothing_else(files: Files, tmp_path: Path) -> None:
    write_zip(tmp_path / "good.mar", proven(files | {"more.py": b"good"}))
    tar(tmp_path / "good.tar.gz", proven(files | {"more.py": b"good"}))
    for name in ("good.mar", "good.tar.gz"):
        assert admit(name, tmp_path, None, "registered").identity.model.name == "tiny"


def link(folder: Path) -> None:
    (folder / "numpy.py").symlink_to("/etc/passwd")


def link_to_a_folder(folder: Path) -> None:
    (folder / "numpy").symlink_to("/etc")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "numpy.py")


def endpoint(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "numpy.py"))


@pytest.mark.parametrize("attack", [link, link_to_a_folder, pipe, endpoint])
def test_a_folder_has_nothing_but_files(attack: Callable[[Path], None], tiny_folder: Path) -> None:
    folder = Path("/tmp") / f"attack-{os.getpid()}" / "evil"  # noqa: S108 - the path of a socket must be short
    try:
        shutil.copytree(tiny_folder, folder)
        attack(folder)
        assert LINK in refused(folder)
    finally:
        shutil.rmtree(folder.parent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "archive_format"),
    [
        *(("eager", archive_format) for archive_format in ("zip-store", "tgz", "no-archive")),
        *((runtime, "zip-store") for runtime in ("torchscript", "onnxruntime", "openvino", "ncnn")),
    ],
)
def test_what_make_archive_writes_is_let_in(
    runtime: str, archive_format: str, tiny_archive: Callable[..., Path]
) -> None:
    path = tiny_archive(runtime, archive_format)
    assert admit(path.name, path.parent, None, "registered").identity.model.runtime == runtime


def test_archives_that_need_zip64_are_let_in(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of over 2 GB do; here it begins earlier."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 3000)
    write_zip(tmp_path / "large.mar", proven(files))
    assert max(len(content) for content in files.values()) > 3000
    check_layout(tmp_path / "large.mar")
    monkeypatch.undo()
    with pytest.raises(Exception, match="large"):  # so that much was in it
        check_layout(tmp_path / "large.mar")
