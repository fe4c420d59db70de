"""A model with a fixed batch serves any number of pictures."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from classifier.recipe import Recipe
from classifier.runtimes import Source, in_batches_of, load_runtime
from numpy.typing import NDArray
from torch import Tensor, nn


class OfFour:
    """A forward function for four pictures; each logit is a picture's first value and its place in the batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert len(pixels) == 4
        first = pixels[:, 0, 0, 0]
        self.batches.append(first.tolist())
        return np.stack([first, np.arange(4)], axis=1).astype(np.float32)


def pictures(count: int) -> NDArray[np.uint8]:
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_each_picture_gets_its_own_row_whatever_their_number(count: int) -> None:
    forward = OfFour()
    logits = in_batches_of(4, forward)(pictures(count))
    assert logits[:, 0].tolist() == list(range(count))
    assert logits[:, 1].tolist() == [index % 4 for index in range(count)]
    assert len(forward.batches) == -(-count // 4)


def test_the_last_batch_is_filled_with_its_last_picture() -> None:
    forward = OfFour()
    in_batches_of(4, forward)(pictures(5))
    assert forward.batches == [[0, 1, 2, 3], [4, 4, 4, 4]]


@pytest.mark.parametrize(("fixed", "sizes"), [(None, [5]), (2, [2, 2, 2])])
def test_a_recipe_with_a_fixed_batch_is_loaded_for_it(
    fixed: int | None, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(len(pixels))
        return np.zeros((len(pixels), 2), np.float32)

    monkeypatch.setattr("classifier.runtimes.torchscript.load", lambda _: forward)
    fields = {"name": "mine", "program": "torchscript:mine-0123abcd.pt", "labels": ["a", "b"]}
    recipe = msgspec.convert(fields | {"input": {"batch": fixed}}, Recipe)
    source = Source(directory=tmp_path, serialized_file="mine.pt", recipe=recipe, variant=recipe.archives[0], threads=1)
    assert load_runtime(source)(pictures(5)).shape == (5, 2)
    assert seen == sizes


class OnlyFour(nn.Module):
    """Gives two channels' means of exactly four pictures."""

    def forward(self, pixels: Tensor) -> Tensor:
        assert len(pixels) == 4
        return pixels.mean((2, 3))[:, :2]


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_threads_do_not_divide_a_batch_of_a_fixed_size(tmp_path: Path) -> None:
    torch.jit.script(OnlyFour()).save(tmp_path / "mine.pt")
    fields = {"name": "mine", "program": "torchscript:mine-0123abcd.pt", "labels": ["a", "b"], "input": {"batch": 4}}
    recipe = msgspec.convert(fields, Recipe)
    source = Source(directory=tmp_path, serialized_file="mine.pt", recipe=recipe, variant=recipe.archives[0], threads=2)
    logits = load_runtime(source)(pictures(8).repeat(2, axis=1))
    assert np.all(np.diff(logits[:, 0]) > 0)
    assert logits.shape == (8, 2)


class KeepsInAttribute(nn.Module):
    """Gives two channels' means, which it reads from an attribute; it refuses a part of five pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(1, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        assert len(pixels) in (1, 5)
        self.kept = pixels.mean((2, 3))
        return self.kept[:, :2]


class KeepsInBuffer(KeepsInAttribute):
    """The same in the memory of the attribute, whose size stays."""

    def forward(self, pixels: Tensor) -> Tensor:
        assert len(pixels) in (1, 5)
        self.kept.copy_(pixels.mean((2, 3))[:1])
        return self.kept[:, :2] + pixels.mean((2, 3))[:, :2]


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("module", [KeepsInAttribute, KeepsInBuffer])
def test_threads_do_not_divide_a_batch_of_a_program_that_changes_its_attributes(
    module: type[nn.Module], frozen: bool, tmp_path: Path
) -> None:
    scripted = torch.jit.script(module().eval())
    (torch.jit.freeze(scripted) if frozen else scripted).save(tmp_path / "mine.pt")
    fields = {"name": "mine", "program": "torchscript:mine-0123abcd.pt", "labels": ["a", "b"]}
    recipe = msgspec.convert(fields, Recipe)
    source = Source(directory=tmp_path, serialized_file="mine.pt", recipe=recipe, variant=recipe.archives[0], threads=2)
    assert load_runtime(source)(pictures(5).repeat(2, axis=1)).shape == (5, 2)
