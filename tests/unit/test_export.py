import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from classifier.recipe import Recipe, read_recipe
from classifier.runtimes.eager import load_module
from torch import Tensor, nn

from scripts.console import UserError
from scripts.export import TorchScriptMethod, export
from tests.conftest import THIRD_MODEL, TINY_RECIPE

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the tests call torch.jit themselves

METHODS: tuple[TorchScriptMethod, ...] = ("trace", "script")


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(TINY_RECIPE)


@pytest.fixture
def module(tiny_weights: Path) -> nn.Module:
    return load_module("tiny_net", tiny_weights)


def records(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as packed:
        return packed.namelist()


def test_eager_is_the_state_dict(module: nn.Module, recipe: Recipe, tmp_path: Path) -> None:
    export("eager", module, recipe, tmp_path / "tiny.pth", "trace")
    saved = torch.load(tmp_path / "tiny.pth", weights_only=True)
    assert saved.keys() == module.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in module.state_dict().items())


def test_eager_is_the_same_twice(module: nn.Module, recipe: Recipe, tmp_path: Path) -> None:
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        export("eager", module, recipe, tmp_path / name / "tiny.pth", "trace")
    assert (tmp_path / "one" / "tiny.pth").read_bytes() == (tmp_path / "another" / "tiny.pth").read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_torchscript_computes_what_the_module_does_for_any_batch(
    method: TorchScriptMethod, module: nn.Module, recipe: Recipe, tmp_path: Path
) -> None:
    export("torchscript", module, recipe, tmp_path / "tiny.pt", method)
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
    export("torchscript", module, recipe, tmp_path / "tiny.pt", method)
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
        export("torchscript", Unscriptable(), recipe, tmp_path / "tiny.pt", "script")
