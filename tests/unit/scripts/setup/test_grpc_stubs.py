import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.setup import grpc_stubs
from scripts.setup.grpc_stubs import PACKAGE, generate

MODULES = [f"{name}_{kind}" for name in ("inference", "management") for kind in ("pb2", "pb2_grpc")]


@pytest.fixture(scope="module")
def jar() -> Path:
    spec = importlib.util.find_spec("ts")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "frontend" / "model-server.jar"


@pytest.fixture(scope="module")
def generated(jar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stubs of the installed TorchServe, generated anew."""
    target = tmp_path_factory.mktemp("stubs")
    generate(jar, target)
    return target


def test_the_stubs_are_a_typed_package(generated: Path) -> None:
    files = {path.name for path in (generated / PACKAGE).iterdir()}
    assert {f"{name}.py" for name in MODULES} <= files
    assert {"__init__.py", "py.typed", "inference_pb2.pyi", "management_pb2.pyi"} <= files
    assert [path.name for path in generated.iterdir()] == [PACKAGE]


def test_the_stubs_can_be_imported_and_know_torchserves_calls(generated: Path) -> None:
    code = f"""
from {PACKAGE} import inference_pb2, inference_pb2_grpc, management_pb2, management_pb2_grpc
print(inference_pb2.__file__)
print(*inference_pb2.DESCRIPTOR.services_by_name["InferenceAPIsService"].methods_by_name)
print(*management_pb2.DESCRIPTOR.services_by_name["ManagementAPIsService"].methods_by_name)
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": str(generated)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    place, inference, management = result.stdout.splitlines()
    assert Path(place).is_relative_to(generated)
    assert {"Ping", "Predictions"} <= set(inference.split())
    assert {"DescribeModel", "RegisterModel", "ScaleWorker", "SetDefault"} <= set(management.split())


@pytest.mark.parametrize("name", MODULES)
def test_the_installed_stubs_are_those_of_the_installed_torchserve(name: str, generated: Path) -> None:
    installed = Path(sysconfig.get_path("purelib")) / PACKAGE / f"{name}.py"
    assert installed.read_bytes() == (generated / PACKAGE / installed.name).read_bytes()


@pytest.mark.parametrize("content", [{}, {"proto/inference.proto": "this is no proto", "proto/management.proto": ""}])
def test_a_jar_without_usable_proto_files_is_refused_by_name(content: dict[str, str], tmp_path: Path) -> None:
    jar, target = tmp_path / "other.jar", tmp_path / "target"
    target.mkdir()
    with zipfile.ZipFile(jar, "w") as packed:
        for name, text in content.items():
            packed.writestr(name, text)
    with pytest.raises(UserError, match=r"other\.jar"):
        generate(jar, target)
    assert list(target.rglob("*.py")) == []


def test_a_missing_torchserve_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="make setup"):
        grpc_stubs.main()
