import contextlib
import logging
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from classifier.recipe import Precision, Recipe, RuntimeName, read_recipe
from classifier.runtimes.eager import load_module
from torch import Tensor, nn

from scripts.building.exports.export import export
from scripts.building.exports.program import Export
from scripts.building.options import TorchScriptMethod
from scripts.console import UserError
from tests.conftest import THIRD_MODEL, TINY_RECIPE

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the tests call torch.jit themselves

METHODS: tuple[TorchScriptMethod, ...] = ("trace", "script")


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(TINY_RECIPE)


@pytest.fixture
def module(tiny_weights: Path) -> nn.Module:
    return load_module(read_recipe(TINY_RECIPE), tiny_weights)


def of(
    module: nn.Module,
    recipe: Recipe,
    runtime: RuntimeName,
    precision: Precision = "float32",
    torchscript: TorchScriptMethod = "trace",
) -> Export:
    """What to export: the module as the recipe's variant of a runtime and a precision."""
    return Export(module=module, recipe=recipe, variant=recipe.variant(runtime, precision), torchscript=torchscript)


def records(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as packed:
        return packed.namelist()


def test_eager_is_the_state_dict(module: nn.Module, recipe: Recipe, tmp_path: Path) -> None:
    assert export(of(module, recipe, "eager"), tmp_path / "tiny.pth") == []
    saved = torch.load(tmp_path / "tiny.pth", weights_only=True)
    assert saved.keys() == module.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in module.state_dict().items())


def test_eager_is_the_same_twice(module: nn.Module, recipe: Recipe, tmp_path: Path) -> None:
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        export(of(module, recipe, "eager"), tmp_path / name / "tiny.pth")
    assert (tmp_path / "one" / "tiny.pth").read_bytes() == (tmp_path / "another" / "tiny.pth").read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_torchscript_computes_what_the_module_does_for_any_batch(
    method: TorchScriptMethod, module: nn.Module, recipe: Recipe, tmp_path: Path
) -> None:
    export(of(module, recipe, "torchscript", torchscript=method), tmp_path / "tiny.pt")
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.jit.load(tmp_path / "tiny.pt")(pixels), module(pixels), atol=1e-6, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.pt"]


def plainly_traced(module: nn.Module) -> torch.jit.ScriptModule:
    traced: torch.jit.ScriptModule = torch.jit.trace(module, torch.zeros(1, 3, 32, 32))
    return traced


def plainly_scripted(module: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.script(module)


@pytest.mark.parametrize(("method", "make"), [("trace", plainly_traced), ("script", plainly_scripted)])
def test_torchscript_has_no_debug_records_and_no_path_of_this_machine(
    method: TorchScriptMethod,
    make: Callable[[nn.Module], torch.jit.ScriptModule],
    module: nn.Module,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    torch.jit.save(make(module), tmp_path / "plain.pt")
    assert any(name.endswith(".debug_pkl") for name in records(tmp_path / "plain.pt"))
    export(of(module, recipe, "torchscript", torchscript=method), tmp_path / "tiny.pt")
    names = records(tmp_path / "tiny.pt")
    assert not any(name.endswith(".debug_pkl") for name in names)
    assert len(names) == len(set(names))
    with zipfile.ZipFile(tmp_path / "tiny.pt") as packed:
        content = b"".join(packed.read(name) for name in names)
    for place in (tmp_path, THIRD_MODEL, Path(torch.__file__).parent):
        assert str(place).encode() not in content


class Unscriptable(nn.Module):
    """Runs, but TorchScript's compiler does not know `sorted` with a key."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.stack(sorted(pixels.flatten(1).unbind(1), key=lambda column: float(column.sum())), dim=1)


def test_a_module_that_cannot_be_scripted_is_said_with_what_to_do(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="TORCHSCRIPT=trace"):
        export(of(Unscriptable(), recipe, "torchscript", torchscript="script"), tmp_path / "tiny.pt")


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_eager_in_a_lower_precision_is_saved_in_it(
    precision: Precision, dtype: torch.dtype, module: nn.Module, recipe: Recipe, tmp_path: Path
) -> None:
    expected = {
        name: value.clone().to(dtype) for name, value in module.state_dict().items() if value.is_floating_point()
    }
    export(of(module, recipe, "eager", precision), tmp_path / "tiny.pth")
    saved = torch.load(tmp_path / "tiny.pth", weights_only=True)
    assert {value.dtype for name, value in saved.items() if name in expected} == {dtype}
    assert all(torch.equal(saved[name], value) for name, value in expected.items())


@pytest.fixture(scope="module")
def onnx_file(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    what = of(load_module(read_recipe(TINY_RECIPE), tiny_weights), read_recipe(TINY_RECIPE), "onnxruntime")
    assert export(what, folder / "tiny.onnx") == [folder / "tiny.onnx.data"]
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.onnx", "tiny.onnx.data"]
    return folder / "tiny.onnx"


@pytest.mark.slow
def test_an_onnx_file_is_valid_and_takes_any_number_of_pictures(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    (pixels,), (logits,) = model.graph.input, model.graph.output
    sides = [pixels.type.tensor_type.shape.dim, logits.type.tensor_type.shape.dim]
    assert [[side.dim_value for side in shape] for shape in sides] == [[0, 32, 32, 3], [0, 10]]
    assert sides[0][0].dim_param == sides[1][0].dim_param != ""
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.slow
def test_an_onnx_file_has_no_stack_traces_and_no_path_of_this_machine(
    onnx_file: Path, module: nn.Module, recipe: Recipe
) -> None:
    model = onnx.load(onnx_file)
    items: tuple[Any, ...] = (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output)
    assert len(model.graph.node) > 5
    assert [item.name for item in items if item.metadata_props or item.doc_string] == []
    content = onnx_file.read_bytes()
    for place in (Path.cwd(), onnx_file.parent, THIRD_MODEL, Path(torch.__file__).parent):
        assert str(place).encode() not in content
    for word in (b"stack_trace", b".py", b'File "'):
        assert word not in content


class Unexportable(nn.Module):
    """Runs, but how often depends on the pixels, which no graph can say."""

    def forward(self, pixels: Tensor) -> Tensor:
        total = pixels.flatten(1).sum(dim=1, keepdim=True)
        while float(total.detach().abs().max()) > 1:
            total = total / 2
        return total


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "aotinductor"])
def test_a_module_that_cannot_be_traced_is_said_with_its_model(
    runtime: RuntimeName, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"torch\.export cannot follow tiny"):
        export(of(Unexportable(), recipe, runtime), tmp_path / "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("works", [True, False])
def test_exporting_leaves_warnings_and_logging_as_they_were(
    works: bool, module: nn.Module, recipe: Recipe, tmp_path: Path
) -> None:
    before = [*warnings.filters], logging.root.manager.disable
    with contextlib.nullcontext() if works else pytest.raises(UserError):
        export(of(module if works else Unexportable(), recipe, "onnxruntime"), tmp_path / "tiny.onnx")
    assert ([*warnings.filters], logging.root.manager.disable) == before
