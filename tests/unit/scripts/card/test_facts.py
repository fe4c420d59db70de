import hashlib
import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from classifier.identity import RECIPE_FILE
from msgspec.structs import replace

from scripts.admission.signing import create_keys, read_private_key, read_public_keys, sign
from scripts.archives.store import find_archive, sbom_of
from scripts.card.facts import Signed, read_facts, settings
from scripts.console import UserError
from tests.unit.conftest import contents

A, B = "a" * 64, "b" * 64


@pytest.fixture
def store(pair: Path, tmp_path: Path) -> Path:
    """A store that the test may change."""
    return shutil.copytree(pair, tmp_path / "store")


def test_files_and_digests_are_those_of_the_archive(pair: Path) -> None:
    archive = find_archive("tiny", pair)
    facts = read_facts(archive)
    inside = contents(archive.path)
    assert {file.name: (file.size, file.sha256) for file in facts.files} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in inside.items()
    }
    assert facts.sha256 == hashlib.sha256(archive.path.read_bytes()).hexdigest()
    assert facts.size == archive.path.stat().st_size
    assert facts.recipe_text.encode() == inside[RECIPE_FILE]
    assert len(facts.labels) == 10
    assert dict(facts.settings)["architecture"] == "tiny_net"
    assert dict(facts.settings)["serving.batch_size"] == "4"


@pytest.mark.parametrize(
    ("written", "other"),
    [
        (f"../a.pth#sha256={A}", False),
        (f"../a.pth#sha256={A}&entry=ema", False),
        (f"../a.pth#sha256={B}", True),
        ("torchvision:ResNet18_Weights.IMAGENET1K_V1", False),
    ],
)
def test_weights_that_are_not_the_recipes_are_told_by_their_digest(written: str, other: bool, pair: Path) -> None:
    facts = read_facts(find_archive("tiny", pair))
    assert replace(facts, recipe=replace(facts.recipe, weights=written)).has_other_weights(A) is other


@pytest.mark.parametrize("archive_format", ["tgz", "no-archive"])
def test_other_formats_have_the_same_facts(archive_format: str, tiny_archive: Callable[..., Path], pair: Path) -> None:
    path = tiny_archive("eager", archive_format)
    facts, mar = read_facts(find_archive(str(path), path.parent)), read_facts(find_archive("tiny", pair))
    assert facts.settings == mar.settings
    assert {file.name for file in facts.files} == {file.name for file in mar.files}
    assert facts.is_folder is (archive_format == "no-archive")
    assert facts.packages == mar.packages
    assert facts.size > 0


def test_a_recipe_is_shown_with_dotted_names_and_without_what_is_empty() -> None:
    fields = {
        "name": "x",
        "architecture": "y",
        "input": {"crop": [2, 3], "fit": None},
        "requirements": [],
        "mobile": {},
    }
    assert settings(fields) == [("architecture", "y"), ("input.crop", "[2,3]")]


def test_packages_come_from_the_bill_of_materials(pair: Path) -> None:
    packages = read_facts(find_archive("tiny", pair)).packages
    assert packages is not None
    (numpy,) = [package for package in packages if package.name == "numpy"]
    assert numpy.version == version("numpy")
    assert numpy.licences


def test_a_bill_of_another_file_or_none_is_no_bill(store: Path) -> None:
    eager, torchscript = (find_archive(name, store) for name in ("tiny-eager", "tiny-torchscript"))
    shutil.copy(sbom_of(torchscript.path), sbom_of(eager.path))
    assert read_facts(eager).packages is None
    sbom_of(eager.path).unlink()
    assert read_facts(eager).packages is None


def test_what_is_no_bill_of_materials_is_said(store: Path) -> None:
    archive = find_archive("tiny", store)
    sbom_of(archive.path).write_text(json.dumps({"components": 1}))
    with pytest.raises(UserError, match="no bill of materials"):
        read_facts(archive)


def test_the_state_of_a_signature(store: Path, tmp_path: Path) -> None:
    archive = find_archive("tiny", store)
    keys = read_public_keys(create_keys(tmp_path / "keys", None))
    (name,) = keys
    assert read_facts(archive).signature == Signed("none")
    with pytest.raises(UserError, match="not signed"):
        read_facts(archive, keys)
    signature = sign(archive.path, read_private_key(tmp_path / "keys/private.pem", None))
    assert read_facts(archive).signature == Signed("unverified", name)
    assert read_facts(archive, keys).signature == Signed("verified", name)
    other = find_archive("tiny-torchscript", store)
    shutil.copy(signature, other.path.with_name(other.path.name + ".sig"))
    assert read_facts(other).signature == Signed("other", name)
    with pytest.raises(UserError, match="changed after it was signed"):
        read_facts(other, keys)


def test_a_broken_archive_is_said(store: Path) -> None:
    archive = find_archive("tiny", store)
    archive.path.write_bytes(archive.path.read_bytes()[:-100])
    with pytest.raises(UserError, match="broken"):
        read_facts(archive)
