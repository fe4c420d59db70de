"""Which packages an image has: those of its programs, of the workers of every runtime, and of its archives."""

from collections.abc import Callable
from pathlib import Path

import pytest
from classifier.identity import Identity, read_identity
from msgspec.structs import replace
from packaging.requirements import Requirement

from scripts.console import UserError
from scripts.shipping import image
from scripts.shipping.image import requirements, write_context

Archives = Callable[..., list[Path]]


@pytest.fixture
def archives(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Archives:
    """Archives that declare these requirements each."""
    found: dict[Path, Identity] = {}
    monkeypatch.setattr(image, "read_archive_identity", lambda path: found[path])

    def declaring(*declared: list[str]) -> list[Path]:
        identity = read_identity(tiny_folder)
        for index, lines in enumerate(declared):
            path = tmp_path / f"own{index}-eager-1.0.mar"
            path.touch()
            found[path] = replace(identity, requirements=lines)
        return list(found)

    return declaring


def versions(lines: list[str]) -> dict[str, str]:
    return {Requirement(line).name: str(Requirement(line).specifier) for line in lines}


def test_without_archives_it_has_what_every_worker_needs() -> None:
    found = versions(requirements())
    assert {"torch", "pillow", "torchserve", "onnxruntime", "openvino", "ncnn", "captum"} <= found.keys()
    assert not {"timm", "torchvision", "transformers", "pytest", "nncf", "onnx"} & found.keys()


def test_it_has_what_its_archives_declare_once(archives: Archives) -> None:
    found = requirements(archives(["einops==0.8.2", "timm==1.0.31"], ["einops==0.8.2"], []))
    assert sorted({*found} - {*requirements()}) == ["einops==0.8.2", "timm==1.0.31"]
    assert len(found) == len({*found})


def test_the_same_version_in_other_words_is_no_conflict(archives: Archives) -> None:
    found = requirements(archives(["Einops==0.8.2"], ["einops == 0.8.2"], ["einops[all]==0.8.2"]))
    assert {"Einops==0.8.2", "einops == 0.8.2", "einops[all]==0.8.2"} <= {*found}


def test_two_versions_of_a_package_need_two_images(archives: Archives) -> None:
    with pytest.raises(UserError, match=r"one version of einops, not einops==0\.8\.1 and einops==0\.8\.2; build two"):
        requirements(archives(["einops==0.8.2"], ["einops==0.8.1"]))


def test_an_archive_cannot_change_what_the_project_pins(archives: Archives) -> None:
    with pytest.raises(UserError, match=r"an image has one version of torch, not torch==1\.0 and torch==\d"):
        requirements(archives(["torch==1.0"]))


def test_the_context_carries_the_list_to_the_dockerfile(archives: Archives, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    write_context(tmp_path / "context", archives(["einops==0.8.2"]))
    lines = (tmp_path / "context" / "requirements.txt").read_text().splitlines()
    assert lines == requirements(archives(["einops==0.8.2"]))
    assert "einops==0.8.2" in lines
