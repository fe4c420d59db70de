import numpy as np
import pytest
import torch
from classifier.input import Input
from PIL import Image
from torchvision import transforms

from scripts.adopting.trial import check_input, scores_of
from scripts.console import UserError

SPEC = Input(crop=32, resize=40)
STATISTICS = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def transform(*resizing: object) -> transforms.Compose:
    return transforms.Compose([*resizing, transforms.CenterCrop(32), transforms.ToTensor(), STATISTICS])


def test_the_same_way_passes() -> None:
    assert not check_input(SPEC, transform(transforms.Resize(40)), "x")


def test_one_pixel_beside_is_told() -> None:
    whole = transform(transforms.Resize(40))

    def beside(picture: Image.Image) -> torch.Tensor:
        moved: torch.Tensor = whole(picture).roll((1, -1), (1, 2))
        return moved

    assert check_input(SPEC, beside, "x")
    with pytest.raises(UserError, match="cannot say"):
        check_input(SPEC, lambda picture: whole(picture).roll(2, 1), "x")


@pytest.mark.parametrize(
    "resizing",
    [
        transforms.Resize(44),
        transforms.Resize((40, 40)),
        transforms.Resize(40, transforms.InterpolationMode.NEAREST),
        transforms.Compose([transforms.Grayscale(3), transforms.Resize(40)]),
    ],
)
def test_another_way_is_refused(resizing: object) -> None:
    with pytest.raises(UserError, match=r"the nearest differs by [0-9.]+ of 255 levels on average; pass LIKE="):
        check_input(SPEC, transform(resizing), "x")


def test_another_size_is_refused() -> None:
    def larger(_: Image.Image) -> torch.Tensor:
        return torch.zeros(3, 64, 64)

    with pytest.raises(UserError, match=r"differs in its size: \[3, 64, 64\]"):
        check_input(SPEC, larger, "x")


@pytest.mark.parametrize(
    ("outputs", "scores"),
    [
        ([[0.25, 0.75], [1.0, 0.0]], "none"),
        ([[0.9, 0.8], [0.1, 0.0]], "none"),
        ([[0.25, 0.75], [1.5, 0.0]], None),
        ([[-0.25, 1.25], [0.5, 0.5]], None),
        ([[0.0, 0.0], [0.0, 0.0]], None),
        ([[-1.0, -0.5], [-3.0, -0.1]], None),
        ([[0.9, 0.8], [float("nan"), 0.0]], "none"),
    ],
)
def test_probabilities_are_told_from_logits(outputs: list[list[float]], scores: str | None) -> None:
    found = scores_of(np.array(outputs, np.float32))
    assert (found and found[0]) == scores
