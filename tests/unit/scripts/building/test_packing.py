import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from classifier.digests import verify
from msgspec.structs import replace

from scripts.archives.format import SUFFIX, Format
from scripts.building.packing import Content, pack
from scripts.console import UserError
from tests.unit.conftest import contents

FORMATS: tuple[Format, ...] = ("zip-store", "tgz", "no-archive")
FILES = {
    "handler.py": b"class Handler:\n    pass\n",
    "net.py": b"",
    "tiny.pth": b"weights" * 1000,
    "model-config.yaml": b"minWorkers: 1\n",
    "extra/labels.json": b"[]",
    "extra/core/__init__.py": b"",
    "extra/core/inner/rank.py": b"rank = 1\n",
}
PACKED = {name.removeprefix("extra/"): data for name, data in FILES.items()}


def staged(folder: Path) -> Content:
    """Files as a build stages them."""
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Content(
        model_name="tiny",
        version="1.0",
        handler=folder / "handler.py",
        serialized_file=folder / "tiny.pth",
        model_file=folder / "net.py",
        config_file=folder / "model-config.yaml",
        extra_folder=folder / "extra",
    )


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return staged(tmp_path / "staged")


def packed(content: Content, archive_format: Format, folder: Path) -> Path:
    """Pack in a work folder of its own."""
    (folder / "work").mkdir(parents=True)
    target = folder / f"tiny{SUFFIX[archive_format]}"
    pack(content, archive_format, target, folder / "work")
    return target


@pytest.mark.parametrize("archive_format", FORMATS)
def test_an_archive_holds_what_was_staged_with_the_manifest_and_proof_of_it(
    archive_format: Format, content: Content, tmp_path: Path
) -> None:
    target = packed(content, archive_format, tmp_path)
    found = contents(target)
    assert found.keys() == PACKED.keys() | {"MAR-INF/MANIFEST.json", "digests.json"}
    assert {name: found[name] for name in PACKED} == PACKED
    verify(target)


@pytest.mark.parametrize("archive_format", FORMATS)
def test_the_manifest_names_what_torchserve_looks_for_and_no_time(
    archive_format: Format, content: Content, tmp_path: Path
) -> None:
    manifest = json.loads(contents(packed(content, archive_format, tmp_path))["MAR-INF/MANIFEST.json"])
    assert manifest["createdOn"] == "01/01/1980 00:00:00"
    assert manifest["model"] == {
        "modelName": "tiny",
        "serializedFile": "tiny.pth",
        "handler": "handler.py",
        "modelFile": "net.py",
        "modelVersion": "1.0",
        "configFile": "model-config.yaml",
    }


def test_an_archive_without_model_file_names_none(content: Content, tmp_path: Path) -> None:
    found = contents(packed(replace(content, model_file=None), "zip-store", tmp_path))
    assert "net.py" not in found
    assert "modelFile" not in json.loads(found["MAR-INF/MANIFEST.json"])["model"]


def test_zip_entries_are_stored_sorted_and_dated_1980(content: Content, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(content, "zip-store", tmp_path)) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o644}


def test_tar_entries_are_sorted_below_the_models_name_with_no_time_and_nobody_as_owner(
    content: Content, tmp_path: Path
) -> None:
    with tarfile.open(packed(content, "tgz", tmp_path)) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert {entry.name.partition("/")[0] for entry in entries} == {"tiny"}
    assert {(entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries} == {(0, 0, 0, "", "")}
    assert {entry.mode for entry in entries} == {0o644}


def test_the_gzip_header_has_neither_time_nor_file_name(content: Content, tmp_path: Path) -> None:
    header = packed(content, "tgz", tmp_path).read_bytes()[:10]
    assert header[:2] == b"\x1f\x8b"
    assert header[3] == 0  # no flag: no file name, no comment
    assert header[4:8] == bytes(4)


@pytest.mark.slow
@pytest.mark.parametrize("archive_format", FORMATS)
def test_the_same_content_makes_the_same_bytes_wherever_it_lies(archive_format: Format, tmp_path: Path) -> None:
    one, another = (packed(staged(tmp_path / name / "in"), archive_format, tmp_path / name) for name in ("a", "b"))
    assert contents(one) == contents(another)
    if archive_format != "no-archive":
        assert one.read_bytes() == another.read_bytes()


def test_what_torch_model_archiver_refuses_is_said_in_its_words(content: Content, tmp_path: Path) -> None:
    missing = replace(content, serialized_file=tmp_path / "missing.pth")
    with pytest.raises(UserError, match=r"(?s)torch-model-archiver failed:.*missing\.pth"):
        packed(missing, "zip-store", tmp_path)
