"""Exports to ncnn. That they compute what the model does is in tests/unit/handlers/classifier/runtimes/test_ncnn.py."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from classifier.input import Input
from classifier.recipe import Recipe, read_recipe
from classifier.runtimes.eager import load_module
from torch import Tensor, nn

from scripts.building.exports.export import export
from scripts.building.exports.program import Export
from scripts.console import UserError
from tests.conftest import THIRD_MODEL, TINY_RECIPE

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the tests call torch.jit themselves


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(TINY_RECIPE)


@pytest.fixture
def tiny(tiny_weights: Path) -> nn.Module:
    return load_module(read_recipe(TINY_RECIPE), tiny_weights)


def write(module: Any, recipe: Recipe, folder: Path) -> tuple[str, bytes]:
    """Export; the graph, and the weights."""
    what = Export(module=module, recipe=recipe, variant=recipe.variant("ncnn", "float32"))
    folder.mkdir(exist_ok=True)
    assert export(what, folder / "tiny.param") == [folder / "tiny.bin"]
    assert {path.name for path in folder.iterdir()} == {"tiny.param", "tiny.bin"}  # pnnx writes seven
    return (folder / "tiny.param").read_text(), (folder / "tiny.bin").read_bytes()


def layers(graph: str) -> list[str]:
    return [line.split()[0] for line in graph.splitlines()[2:]]


TINY_LAYERS = ["Input", "Convolution", "Pooling", "Flatten", "InnerProduct"]  # the batch norm is in the convolution


def test_a_graph_has_all_weights_in_float32(tiny: nn.Module, recipe: Recipe, tmp_path: Path) -> None:
    graph, weights = write(tiny, recipe, tmp_path / "graph")
    assert layers(graph) == TINY_LAYERS
    numbers = 3 * 3 * 3 * 8 + 8 + 128 * 10 + 10
    assert len(weights) == 4 * (numbers + 2)  # and a word before the weights of each of the two layers


def test_a_graph_holds_no_path_of_this_machine_and_is_the_same_twice(
    tiny: nn.Module, recipe: Recipe, tmp_path: Path
) -> None:
    graph, weights = write(tiny, recipe, tmp_path / "one")
    assert write(tiny, recipe, tmp_path / "another") == (graph, weights)
    for place in (tmp_path, Path.cwd(), THIRD_MODEL, Path(sys.prefix), Path.home()):
        assert len(place.parts) < 3 or str(place) not in graph


def test_exporting_into_a_folder_named_from_here_works_too(
    tiny: nn.Module, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert layers(write(tiny, recipe, Path("graph"))[0]) == TINY_LAYERS


class Several(nn.Module):
    """Logits, and what some models give beside them."""

    def __init__(self, module: nn.Module, named: bool) -> None:
        super().__init__()
        self.module, self.named = module, named

    def forward(self, floats: Tensor) -> Any:
        logits = self.module(floats)
        features = floats.flatten(1)
        return {"features": features, "logits": logits} if self.named else (logits, features)


@pytest.mark.parametrize("named", [True, False])
def test_of_several_outputs_the_logits_are_left(named: bool, tiny: nn.Module, recipe: Recipe, tmp_path: Path) -> None:
    graph, _ = write(Several(tiny, named).eval(), recipe, tmp_path / "graph")
    assert layers(graph) == TINY_LAYERS


def of_program(kind: str, **fields: Any) -> Recipe:
    recipe = read_recipe(TINY_RECIPE)
    program = {"architecture": None, "weights": None, "program": f"{kind}:tiny.bin#sha256={'0' * 64}"}
    variants = [recipe.variant("ncnn", "float32")]
    return msgspec.structs.replace(recipe, **program, archives=variants, input=Input(crop=32, **fields))


def traced(module: nn.Module) -> Any:
    return torch.jit.trace(module, torch.zeros(2, 3, 32, 32))


def frozen(module: nn.Module) -> Any:
    return torch.jit.freeze(torch.jit.script(module).eval())


def exported(module: nn.Module) -> Any:
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    return torch.export.export(module, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=shapes).module()


@pytest.mark.parametrize(
    ("kind", "make"),
    [("torchscript", traced), ("torchscript", torch.jit.script), ("torchscript", frozen), ("export", exported)],
)
def test_programs_are_converted(kind: str, make: Any, tiny: nn.Module, tmp_path: Path) -> None:
    graph, weights = write(make(tiny), of_program(kind), tmp_path / "graph")
    assert layers(graph) == TINY_LAYERS
    assert len(weights) > 4 * 128 * 10


def test_a_program_for_batches_of_one_size_is_refused(tiny: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ncnn computes one picture at a time, and tiny takes 4; build it for another"):
        write(exported(tiny), of_program("export", batch=4), tmp_path)


class Odd(nn.Module):
    """Computes what ncnn has no layer for."""

    def forward(self, floats: Tensor) -> Tensor:
        logits: Tensor = torch.fft.fft(floats.flatten(1)[:, :10]).real.sort(-1)[0]
        return logits


def test_an_operator_that_ncnn_lacks_is_named(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ncnn has no .*torch\.fft\.fft.*, which tiny computes with; build it for ano"):
        write(Odd(), recipe, tmp_path)


class Failing(nn.Module):
    """Has a constant that pnnx computes, by a library that it was built without."""

    def forward(self, floats: Tensor) -> Tensor:
        logits: Tensor = floats.flatten(1)[:, :10] + torch.linalg.svdvals(torch.ones(10, 10))
        return logits


def test_what_pnnx_fails_on_is_said_with_its_reason(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pnnx cannot convert tiny: .*svd.*; build it for another runtime"):
        write(Failing(), recipe, tmp_path)


class Untraceable(nn.Module):
    """Fails."""

    def forward(self, floats: Tensor) -> Tensor:
        raise ValueError("not today")


def test_a_module_that_cannot_be_traced_is_said_with_its_reason(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"torch\.jit cannot trace tiny.*: not today"):
        write(Untraceable(), recipe, tmp_path)
