"""One model in every home that can run on this machine: the same answers to the same photographs."""

import re
from pathlib import Path

import pytest
from classifier.cpu import computes

from scripts.pages import replace_block
from tests.integration.conftest import CHECKOUT, make
from tests.integration.contract import LITE0

pytestmark = [pytest.mark.timeout(1200), pytest.mark.thorough]  # the first test builds everything
BEST = ["Egyptian cat", "espresso", "missile", "moped"]
HOMES = {
    "Python, eager": ["float32"],
    "Python, torchscript": ["float32"],
    "Python, aotinductor": ["float32"],
    "Python, onnxruntime": ["float32"],
    "Python, openvino": [precision for precision in ("float32", "bfloat16", "int8") if computes(precision)],
    "Python, ncnn": ["float32"],
    "TorchServe, REST": ["float32"],
    "TorchServe, gRPC": ["float32"],
    "Flask, HTTP": ["float32"],
    "C++, LibTorch": ["float32"],
    "ONNX file, ONNX Runtime": ["float32"],
    "phone's program, XNNPACK": ["float32", "int8"],
    "Triton, HTTP": ["float32"],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What `make everywhere` writes into a page, as rows of cells."""
    page = tmp_path_factory.mktemp("docs") / "page.md"
    page.write_text("<!-- everywhere: written by `make everywhere` -->\n<!-- /everywhere -->\n")
    result = make("everywhere", f"MODEL={LITE0}", f"PAGE={page}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{sum(map(len, HOMES.values()))} homes, the same answers" in result.stdout
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("|")]
    return [rows[0], *rows[2:]]


def test_every_home_answers_and_the_answers_are_right(table: list[list[str]]) -> None:
    found: dict[str, list[str]] = {}
    for home, precision, *rest in table[1:]:
        found.setdefault(home, []).append(precision)
        assert [re.sub(r" [0-9.]+%$", "", cell) for cell in rest[:4]] == BEST, home
        assert float(rest[4]) <= (1e-4 if precision == "float32" else 0.15), home
    assert found == HOMES


def test_int8_is_smaller_in_both_homes_that_it_has(table: list[list[str]]) -> None:
    sizes = {(row[0], row[1]): float(row[7]) for row in table[1:]}
    for home in ("Python, openvino", "phone's program, XNNPACK"):
        assert sizes[home, "int8"] < sizes[home, "float32"] / 3


def test_the_documentation_shows_such_a_table(table: list[list[str]], tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text((CHECKOUT / "edge" / "README.md").read_text())
    block = page.read_text().partition("<!-- everywhere")[2].partition("<!-- /everywhere")[0]
    shown = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("|")]
    assert table[0] in shown
    assert {row[0] for row in table[1:]} <= {row[0] for row in shown}
    replace_block(page, "everywhere", "")  # the marks are there


def test_a_phones_programs_are_not_made_again_when_nothing_changed(table: list[list[str]]) -> None:
    programs = sorted((CHECKOUT / "bundles" / f"{LITE0}-mobile").glob("*.pte"))
    assert [path.stem.removeprefix(f"{LITE0}-") for path in programs] == [
        "coreml-float16", "vulkan-float32", "xnnpack-float32", "xnnpack-int8"
    ]  # fmt: skip
    before = [path.stat().st_mtime_ns for path in programs]
    result = make("mobile", f"MODEL={LITE0}")
    assert result.returncode == 0, result.stderr
    assert [path.stat().st_mtime_ns for path in programs] == before
