"""Programs for phones of a tiny classifier; the real one's are in tests/integration/test_everywhere.py."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from classifier.recipe import Mobile, read_recipe
from msgspec.structs import replace
from torch import nn

from edge import mobile
from edge.mobile import Makers, Measured, Program, load_program, measure, refuse_unlike, table, tensor, write_programs
from scripts.archives.loaded import loaded
from scripts.building.exports.program import quiet
from scripts.console import UserError
from tests.conftest import TINY_RECIPE

pytestmark = pytest.mark.slow
RECIPE = read_recipe(TINY_RECIPE)


@pytest.fixture(scope="module")
def written(tiny_archive: Callable[..., Path], golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny-mobile"
    write_programs("tiny", tiny_archive("eager").parent, folder, golden, golden)
    return folder


def test_every_program_is_written_with_what_an_app_needs_beside_it(written: Path) -> None:
    names = {path.name for path in written.glob("*.pte")}
    assert names == {
        f"tiny-{kind}.pte" for kind in ("xnnpack-float32", "xnnpack-int8", "coreml-float16", "vulkan-float32")
    }
    facts = json.loads((written / "bundle.json").read_text())
    assert len(facts["labels"]) == 10
    golden_files = {path.suffix for path in (written / "golden").iterdir()}
    assert {".npy", ".json"} <= golden_files


def test_a_program_computes_what_the_archive_does(written: Path, tiny_archive: Callable[..., Path]) -> None:
    forward = load_program(written / "tiny-xnnpack-float32.pte", RECIPE)
    assert forward is not None
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with loaded(tiny_archive("eager")) as classifier:
        assert forward(pixels) == pytest.approx(classifier.logits(pixels), abs=1e-5)


def test_the_golden_tensor_is_a_programs_input(written: Path) -> None:
    forward = load_program(written / "tiny-xnnpack-float32.pte", RECIPE)
    assert forward is not None
    answer = json.loads((written / "golden" / "chelsea.json").read_text())
    given = np.load(written / "golden" / "chelsea.npy")
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(written / "tiny-xnnpack-float32.pte").load_method("forward")
    assert method is not None
    (logits,) = method.execute([torch.from_numpy(given[None])])
    assert logits[0].tolist() == pytest.approx(answer["logits"], abs=1e-5)


def test_a_backend_of_phones_is_not_run_here(written: Path) -> None:
    assert load_program(written / "tiny-coreml-float16.pte", RECIPE) is None


def test_a_program_that_is_another_model_is_not_left(
    tiny_archive: Callable[..., Path], golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Makers, "all", lambda self: {"xnnpack-float32": lambda: self._xnnpack(_Other())})
    with pytest.raises(UserError, match=r"tiny-xnnpack-float32\.pte"):
        write_programs("tiny", tiny_archive("eager").parent, tmp_path, golden, golden)
    assert list(tmp_path.glob("*")) == []


class _Other(nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean(dim=(1, 2, 3))[:, None] + torch.arange(10.0)


def test_what_is_refused_and_what_to_do() -> None:
    good = Measured(agreement=1.0, max_abs_logit=1e-6, milliseconds=1)
    refuse_unlike("a.pte", good, "float32")
    refuse_unlike("a.pte", replace(good, agreement=0.985, max_abs_logit=1.0), "int8")
    with pytest.raises(UserError, match=r"96.5%.*97\.0%.*float32_layers"):
        refuse_unlike("a.pte", replace(good, agreement=0.965), "int8")
    with pytest.raises(UserError, match=r"1\.0e-02"):
        refuse_unlike("a.pte", replace(good, max_abs_logit=0.01), "float32")
    with pytest.raises(UserError, match="nan"):
        refuse_unlike("a.pte", replace(good, max_abs_logit=float("nan")), "float32")


def test_logits_of_int8_are_not_rounded_to_its_steps(written: Path) -> None:
    forward = load_program(written / "tiny-xnnpack-int8.pte", RECIPE)
    assert forward is not None
    logits = forward(np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8))
    assert len(np.unique(logits)) > 256


@pytest.mark.thorough
def test_what_the_recipe_names_stays_in_float32(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    path, differences = tmp_path / "tiny-xnnpack-int8.pte", []
    with loaded(tiny_archive("eager")) as classifier:
        for names in ([], ["features"], ["features", "classifier"]):
            recipe = replace(RECIPE, mobile=Mobile(float32_layers=names))
            with quiet():
                path.write_bytes(Makers(replace(classifier, recipe=recipe), lambda: pixels).all()["xnnpack-int8"]())
            forward = load_program(path, recipe)
            assert forward is not None
            differences.append(measure(forward, classifier, pixels).max_abs_logit)
    assert differences[0] > differences[1] > 1e-4
    assert differences[2] < 1e-5


def test_what_the_recipe_says_now_counts_not_what_it_said_when_the_archive_was_built(
    tiny_archive: Callable[..., Path], golden: Path, tmp_path: Path
) -> None:
    store, mobile = tiny_archive("eager").parent, Mobile(float32_layers=["features", "classifier"])
    (float32, int8, *_) = write_programs("tiny", store, tmp_path, golden, golden, mobile)
    assert float32.measured is not None
    assert int8.measured is not None
    assert int8.measured.max_abs_logit == pytest.approx(float32.measured.max_abs_logit, abs=1e-5)


def test_programs_are_made_again_when_the_recipe_says_otherwise_and_not_before(
    tiny_archive: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, made = tmp_path / "tiny.yaml", list[Mobile]()

    def write(*arguments: Any) -> list[Program]:
        made.append(arguments[-1])
        return []

    monkeypatch.setattr(mobile, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(mobile, "recipe_file", lambda _: recipe)
    monkeypatch.setattr(mobile, "write_programs", write)
    for layers in ("[]", "[features]", "[features]"):
        recipe.write_text(f"{TINY_RECIPE.read_text()}\nmobile: {{float32_layers: {layers}}}\n")
        mobile.main(model="tiny", output=tmp_path, store=tiny_archive("eager").parent)
    assert made == [Mobile(), Mobile(float32_layers=["features"])]


def test_a_block_that_there_is_not_is_named(tiny_archive: Callable[..., Path]) -> None:
    recipe = replace(RECIPE, mobile=Mobile(float32_layers=["features.9"]))
    with loaded(tiny_archive("eager")) as classifier:
        make = Makers(replace(classifier, recipe=recipe), lambda: np.zeros((1, 32, 32, 3), np.uint8)).all()[
            "xnnpack-int8"
        ]
        with pytest.raises(UserError, match=r"has no features\.9, which mobile\.float32_layers names"), quiet():
            make()


def test_a_programs_input_is_normalised_float32_in_channels() -> None:
    pixels = np.full((32, 32, 3), 255, np.uint8)
    row = tensor(pixels, RECIPE)
    assert (row.dtype, tuple(row.shape), row.is_contiguous()) == (torch.float32, (1, 3, 32, 32), True)


def test_the_table_says_what_did_not_run(written: Path) -> None:
    from rich.console import Console

    from edge.mobile import Program

    measured = Measured(agreement=0.985, max_abs_logit=0.5, milliseconds=3.5)
    programs = [
        Program(path=written / "tiny-xnnpack-int8.pte", measured=measured),
        Program(path=written / "tiny-coreml-float16.pte", measured=None),
    ]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(programs))
    text = console.export_text()
    assert "98.5%" in text
    assert "on phones only" in text
