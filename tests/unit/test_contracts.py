"""The import contracts of pyproject.toml: as they stand the code keeps them, and a planted import breaks them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("handlers", "scripts", "devserver", "gateway", "edge", "monitoring", "benchmarks", "stress")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's Python code with its contracts."""
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=lambda _, names: [n for n in names if not kept(n)])
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def kept(name: str) -> bool:
    return name.endswith(".py") or ("." not in name and name != "__pycache__")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """What `make lint` runs, on the copy."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}:{folder / 'handlers'}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_code_keeps_them(copied: Path) -> None:
    result = lint(copied)
    assert result.returncode == 0, result.stdout
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("scripts/serving/serve.py", "import stress.withstand"),
        ("scripts/serving/serve.py", "from torchserve_grpc import management_pb2"),
        ("scripts/serving/manage.py", "import ts.context"),
        ("handlers/classifier/pipeline.py", "import scripts.console"),
        ("handlers/classifier/service.py", "import flask"),
        ("scripts/archives/store.py", "import scripts.building.build"),
        ("scripts/torchserve/client.py", "import scripts.admission.admit"),
        ("gateway/endpoints.py", "import gateway.__main__"),
    ],
)
def test_a_planted_import_breaks_them(module: str, planted: str, copied: Path) -> None:
    path = copied / module
    before = path.read_text()
    path.write_text(f"{before}\n{planted}\n")
    try:
        result = lint(copied)
    finally:
        path.write_text(before)
    assert result.returncode == 1, result.stdout
    assert " 1 broken" in result.stdout or " 2 broken" in result.stdout, result.stdout
