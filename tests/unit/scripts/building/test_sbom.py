"""The bill of materials beside an archive."""

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from msgspec.structs import replace

from scripts.archives.store import archives_in, archives_of, find_archive, sbom_of, signature_of
from scripts.building.build import build
from scripts.building.options import Options
from scripts.building.overlay import Tuned, repack
from scripts.building.sbom import write_sbom
from tests.unit.conftest import contents

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive(tiny_archive: Callable[..., Path]) -> Path:
    """One whose runtime is a package of its own."""
    return tiny_archive("openvino")


@pytest.fixture(scope="module")
def bill(archive: Path) -> dict[str, Any]:
    """The one that the build wrote."""
    found: dict[str, Any] = json.loads(sbom_of(archive).read_text())
    return found


def components(bill: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in bill["components"] if item["type"] == kind}


def sha256(item: dict[str, Any]) -> str:
    (found,) = item["hashes"]
    assert found["alg"] == "SHA-256"
    content: str = found["content"]
    return content


@pytest.mark.parametrize(
    ("runtime", "archive_format"),
    [("eager", "zip-store"), ("eager", "tgz"), ("eager", "no-archive"), ("openvino", "zip-store")],
)
def test_it_is_cyclonedx(runtime: str, archive_format: str, tiny_archive: Callable[..., Path]) -> None:
    from cyclonedx.validation.json import JsonStrictValidator  # takes seconds to import

    text = sbom_of(tiny_archive(runtime, archive_format)).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text)["specVersion"] == "1.6"


def test_it_is_of_this_very_archive(archive: Path, bill: dict[str, Any]) -> None:
    main = bill["metadata"]["component"]
    assert (main["type"], main["name"], main["version"]) == (
        "application",
        archive.name,
        find_archive(archive.name, archive.parent).identity.model.version,
    )
    assert sha256(main) == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_it_has_every_file_with_its_digest(archive: Path, bill: dict[str, Any]) -> None:
    inside = {name: hashlib.sha256(content).hexdigest() for name, content in contents(archive).items()}
    del inside["digests.json"]
    assert {name: sha256(item) for name, item in components(bill, "file").items()} == inside


def test_it_says_which_weights(bill: dict[str, Any], tiny_weights: Path) -> None:
    weights = components(bill, "machine-learning-model")
    assert {name: sha256(item) for name, item in weights.items()} == {
        "tiny-trained": hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    }


def test_it_has_the_packages_that_its_workers_import_and_what_those_need(bill: dict[str, Any]) -> None:
    packages = components(bill, "library")
    for name in ("torch", "numpy", "pillow", "msgspec", "pyyaml", "openvino", "sympy", "mpmath"):
        assert packages[name]["purl"] == f"pkg:pypi/{name}@{version(name)}"
    assert not {"onnxruntime", "torchserve", "nncf", "pytest"} & packages.keys()
    assert packages["numpy"]["licenses"]
    needed = {item["ref"]: item.get("dependsOn", []) for item in bill["dependencies"]}
    main = needed[bill["metadata"]["component"]["bom-ref"]]
    assert packages["openvino"]["bom-ref"] in main
    assert packages["mpmath"]["bom-ref"] not in main
    assert packages["mpmath"]["bom-ref"] in needed[packages["sympy"]["bom-ref"]]


def test_it_says_which_tools_built_it(bill: dict[str, Any]) -> None:
    tools = {item["name"]: item["version"] for item in bill["metadata"]["tools"]["components"]}
    assert tools["torch-model-archiver"] == version("torch-model-archiver")
    assert tools["nncf"] == version("nncf")
    assert "python" in tools


def test_another_runtime_has_other_packages(tiny_archive: Callable[..., Path]) -> None:
    packages = components(json.loads(sbom_of(tiny_archive("eager")).read_text()), "library")
    assert "torch" in packages
    assert not {"openvino", "onnxruntime"} & packages.keys()


def test_the_same_archive_has_the_same_bill_and_another_one_another(archive: Path, options: Options) -> None:
    before = sbom_of(archive).read_bytes()
    write_sbom(archive)
    assert sbom_of(archive).read_bytes() == before
    one, _ = build(options)
    another, _ = build(replace(options, version="9.0", store=options.store / "another"))
    serials = [json.loads(sbom_of(path).read_text())["serialNumber"] for path in (one, another, archive)]
    assert len(set(serials)) == 3
    assert b"timestamp" not in before


def test_what_lies_beside_archives_is_taken_for_none(options: Options) -> None:
    path, _ = build(options)
    signature_of(path).write_text("{}")
    assert [item.path for item in archives_of("tiny", options.store)] == archives_in(options.store) == [path]
    assert find_archive("tiny", options.store).path == path
    with pytest.raises(Exception, match=r"\(there: tiny-eager-1\.0\.mar\)"):
        find_archive("vgg16", options.store)
    for beside in (sbom_of(path), signature_of(path)):
        with pytest.raises(Exception, match="no archive"):
            find_archive(beside.name, options.store)


@pytest.mark.parametrize("change", ["build", "tune"])
def test_another_build_has_a_bill_of_its_own_and_no_signature(change: str, options: Options) -> None:
    path, _ = build(options)
    signature_of(path).write_text("of the one that was there")
    if change == "build":
        build(replace(options, torchscript="script"))
        assert not signature_of(path).exists()
    else:
        serving = Tuned(workers=2, threads=1, batch_size=3, max_batch_delay_ms=5)
        path = repack(find_archive("tiny", options.store), serving, "1.0.1", options.store)
    main = json.loads(sbom_of(path).read_text())["metadata"]["component"]
    assert sha256(main) == hashlib.sha256(path.read_bytes()).hexdigest()
