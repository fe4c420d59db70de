from pathlib import Path

import pytest

from benchmarks.result import Result, Variant
from tests.unit.benchmarks.figures import a_result, a_variant


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture"
    path.write_bytes(b"a picture")
    return path


@pytest.fixture
def variant() -> Variant:
    return a_variant()


@pytest.fixture
def result(variant: Variant) -> Result:
    return a_result(variant)
