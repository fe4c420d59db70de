"""What is ncnn's own among the runtimes; what all of them do is in test_every_runtime.py."""

from pathlib import Path
from typing import Any

import msgspec
import ncnn
import numpy as np
import pytest
import torch
from classifier.errors import UnusableError
from classifier.input import Input, Normalization
from classifier.normalization import laid_out, normalize
from classifier.recipe import Recipe, read_recipe
from classifier.runtimes import Forward, Source, load_runtime
from classifier.runtimes.tensors import logits_of
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.building.exports.export import export
from scripts.building.exports.program import Export
from tests.conftest import TINY_RECIPE

NEAR = 1e-5
SIZE = (10, 12)


class Layers(nn.Module):
    """Float32 [N,C,10,12], or [N,10,12,C], to logits [N,5], by linear layers with and without a bias and a ReLU."""

    def __init__(self, depth: int = 3, last: bool = False, factor: int = 1) -> None:
        super().__init__()
        self.last, self.factor = last, factor
        self.convolution = nn.Conv2d(depth, 4, 3)
        self.linear = nn.Sequential(
            nn.Linear(4 * 8 * 10, 30), nn.ReLU(), nn.Dropout(), nn.Linear(30, 7, bias=False), nn.Linear(7, 5)
        )

    def forward(self, floats: Tensor) -> Tensor:
        hidden = self.convolution(floats.permute(0, 3, 1, 2) if self.last else floats).relu()
        logits: Tensor = self.linear(hidden.flatten(1))
        return logits * self.factor if self.factor != 1 else logits


def pictures(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (number, *SIZE, 3), dtype=np.uint8)


def recipe_of(**fields: Any) -> Recipe:
    """A recipe whose input has these fields; of a program, because only these have every kind of input."""
    program = {"architecture": None, "weights": None, "program": f"export:layers.pt2#sha256={'0' * 64}"}
    recipe = read_recipe(TINY_RECIPE)
    variants = [recipe.variant("ncnn", "float32")]
    return msgspec.structs.replace(recipe, **program, archives=variants, input=Input(crop=list(SIZE), **fields))


def written(folder: Path, module: nn.Module, recipe: Recipe, threads: int = 2) -> Source:
    variant = recipe.variant("ncnn", "float32")
    export(Export(module=module.eval(), recipe=recipe, variant=variant), folder / "layers.param")
    return Source(directory=folder, serialized_file="layers.param", recipe=recipe, variant=variant, threads=threads)


def expected(module: nn.Module, recipe: Recipe, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        floats = laid_out(normalize(torch.from_numpy(pixels), recipe.input), recipe.input.layout)
        logits: NDArray[np.float32] = logits_of(module(floats)).numpy()
    return logits


def layers(**given: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Layers(**given).eval()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return written(tmp_path, layers(), recipe_of())


LEVELS = Normalization(scale=1, mean=[1, 20, 3], std=[70, 80, 9])
INPUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "imagenet": ({}, {}),
    "half": ({}, {"normalization": "half"}),
    "levels": ({}, {"normalization": LEVELS}),
    "bgr": ({}, {"channels": "bgr", "normalization": LEVELS}),
    "grey": ({"depth": 1}, {"channels": "grey", "normalization": Normalization(mean=0.4, std=0.3)}),
    "channels last": ({"last": True}, {"layout": "nhwc"}),
    "grey, channels last": (
        {"depth": 1, "last": True},
        {"channels": "grey", "layout": "nhwc", "normalization": "half"},
    ),
    "one picture at a time": ({}, {"batch": 1}),
}


@pytest.mark.parametrize("name", INPUTS)
def test_pixels_are_normalised_as_torch_does_it(name: str, tmp_path: Path) -> None:
    of_module, of_input = INPUTS[name]
    module, recipe, pixels = layers(**of_module), recipe_of(**of_input), pictures(3)
    logits = load_runtime(written(tmp_path, module, recipe))(pixels)
    np.testing.assert_allclose(logits, expected(module, recipe, pixels), atol=NEAR, rtol=NEAR)


@pytest.mark.parametrize("threads", [1, 2, 9])  # more than some layer has outputs
@pytest.mark.parametrize("factor", [1, 3])  # with another number the graph does not end with a linear layer
def test_logits_are_the_modules_wherever_linear_layers_are_computed(threads: int, factor: int, tmp_path: Path) -> None:
    module, recipe = layers(factor=factor), recipe_of()
    forward = load_runtime(written(tmp_path, module, recipe, threads))
    for number in (1, 2, 9):
        logits = forward(pictures(number))
        assert logits.flags.c_contiguous
        np.testing.assert_allclose(logits, expected(module, recipe, pictures(number)), atol=NEAR)


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_the_weights_of_the_last_linear_layers_stay_in_their_file(source: Source) -> None:
    weights = source.path.with_suffix(".bin")
    assert not is_mapped(weights)
    forward = load_runtime(source)
    assert is_mapped(weights)
    assert forward(pictures(1)).shape == (1, 5)


@pytest.mark.parametrize(
    ("threads", "largest", "of_each"),
    [(1, 1 << 20, [1]), (3, 1 << 20, [3, 1]), (3, 0, [3])],
    ids=["one", "all-and-one", "too-large-for-two"],
)
def test_ncnn_computes_in_float32_with_the_threads_it_is_given(
    threads: int, largest: int, of_each: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifier.runtimes.parts._TWICE", largest)
    source = written(tmp_path, layers(), recipe_of(), threads)
    nets: list[Any] = []

    class Net(ncnn.Net):  # type: ignore[misc] # has no types
        def __init__(self) -> None:
            super().__init__()
            nets.append(self)

    monkeypatch.setattr(ncnn, "Net", Net)
    load_runtime(source)
    assert [net.opt.num_threads for net in nets] == of_each
    for net in nets:
        lower = [name for name in dir(net.opt) if name.startswith(("use_fp16", "use_bf16"))]
        assert len(lower) >= 5
        assert not any(getattr(net.opt, name) for name in lower)


def cut(content: bytes, source: Source) -> bytes:
    return content[:-100]


def shifted(content: bytes, source: Source) -> bytes:
    return content[:-8] + content[-4:]


def of_half_precision(content: bytes, source: Source) -> bytes:
    """With the mark that ncnn puts before weights of 16 bits, in front of the last layer's."""
    begin = len(content) - 4 * (1 + 7 * 5 + 5)
    return content[:begin] + (0x01306B47).to_bytes(4, "little") + content[begin + 4 :]


def no_words(content: bytes, source: Source) -> bytes:
    return content[:-1]


@pytest.mark.parametrize("damage", [cut, shifted, of_half_precision, no_words])
def test_linear_layers_whose_weights_are_not_there_in_float32_are_refused(damage: Any, source: Source) -> None:
    weights = source.path.with_suffix(".bin")
    weights.write_bytes(damage(weights.read_bytes(), source))
    with pytest.raises(UnusableError, match=r"layers\.param and layers\.bin"):
        load_runtime(source)


@pytest.mark.parametrize(("there", "instead"), [("Convolution ", "Convoluted "), ("in0 1 0=4", "in9 1 0=4")])
def test_a_graph_that_ncnn_cannot_compute_is_refused(there: str, instead: str, source: Source) -> None:
    text = source.path.read_text()
    assert there in text
    source.path.write_text(text.replace(there, instead))
    with pytest.raises(UnusableError, match=r"layers\.param"):
        load_runtime(source)


def test_a_picture_that_ncnn_cannot_compute_is_an_error(source: Source) -> None:
    forward: Forward = load_runtime(source)
    with pytest.raises(RuntimeError, match="ncnn cannot compute"):
        forward(np.zeros((1, 0, 0, 3), np.uint8))
