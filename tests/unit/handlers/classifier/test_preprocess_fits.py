"""How a picture is fitted, in which channels and by which numbers: against the transforms of the libraries."""

from typing import Any, Literal

import msgspec
import numpy as np
import pytest
import torch
from classifier.input import Fit, Input, Interpolation
from classifier.normalization import normalize
from classifier.pipeline import load_pixels
from classifier.preprocess import region, resize_and_crop
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from scripts.building.golden import photograph
from tests.conftest import encode
from tests.unit.handlers.classifier.test_preprocess import SHARE, noise, turned

Turn = Any
# How far a value may be from the library's, in grey levels; see test_preprocess.py. Where nearest is half way between
# two pixels, at most one in eleven here, it may take the other one.
GREY_LEVELS: dict[Interpolation, int] = {"bilinear": 1, "bicubic": 2, "lanczos": 2, "nearest": 255}
SHARES: dict[Interpolation, float] = {"bilinear": SHARE, "bicubic": SHARE, "lanczos": SHARE, "nearest": 2 / 11}
MODES: dict[Interpolation, InterpolationMode] = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
    "nearest": InterpolationMode.NEAREST,
}
SIZES = [(1, 1), (3, 400), (64, 65), (255, 257), (300, 451)]
sized = pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
interpolated = pytest.mark.parametrize("interpolation", MODES)


def cat() -> Image.Image:
    with Image.open(photograph("chelsea.png")) as opened:
        return opened.convert("RGB")


def assert_near(pixels: NDArray[np.uint8], reference: Image.Image, interpolation: Interpolation) -> None:
    expected = np.asarray(reference)
    assert pixels.shape == expected.shape
    difference = np.abs(pixels.astype(int) - expected.astype(int))
    assert difference.max() <= GREY_LEVELS[interpolation]
    assert (difference > 0).mean() <= SHARES[interpolation]


@interpolated
@turned
@sized
def test_squashing_is_torchvisions_resize_to_both_sides(
    size: tuple[int, int], turn: Turn, interpolation: Interpolation
) -> None:
    image = turn(noise(*size))
    spec = Input(crop=[96, 160], fit="squash", interpolation=interpolation)
    assert np.array_equal(resize_and_crop(image, spec), transforms.Resize((96, 160), MODES[interpolation])(image))


@turned
def test_squashing_with_a_crop_percentage_takes_the_middle(turn: Turn) -> None:
    image = turn(cat())
    spec = Input(crop=[90, 144], fit="squash", crop_percentage=0.9)
    reference = transforms.Compose([transforms.Resize((100, 160)), transforms.CenterCrop((90, 144))])
    assert np.array_equal(resize_and_crop(image, spec), reference(image))


@interpolated
@turned
@sized
def test_a_rectangle_is_the_middle_of_the_resized_picture(
    size: tuple[int, int], turn: Turn, interpolation: Interpolation
) -> None:
    image = turn(noise(*size))
    spec = Input(crop=[97, 60], resize=110, interpolation=interpolation)
    reference = transforms.Compose([transforms.Resize(110, MODES[interpolation]), transforms.CenterCrop((97, 60))])
    assert_near(resize_and_crop(image, spec), reference(image), interpolation)


@pytest.mark.parametrize(("offset", "left"), [("round", 2), ("floor", 1)])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_half_a_pixel_goes_where_the_recipe_says(offset: Literal["round", "floor"], left: int, fit: Fit) -> None:
    image = noise(33, 33)
    spec = Input(crop=30, crop_percentage=30 / 33, fit=fit, crop_offset=offset)
    assert np.array_equal(resize_and_crop(image, spec), np.asarray(image)[left : left + 30, left : left + 30])


@interpolated
@turned
def test_a_photograph_is_interpolated_as_torchvision_does(turn: Turn, interpolation: Interpolation) -> None:
    image = turn(cat())
    reference = transforms.Compose([transforms.Resize(256, MODES[interpolation]), transforms.CenterCrop(224)])
    assert_near(resize_and_crop(image, Input(interpolation=interpolation)), reference(image), interpolation)


@interpolated
@turned
@sized
def test_padding_is_the_whole_picture_in_the_middle_of_black(
    size: tuple[int, int], turn: Turn, interpolation: Interpolation
) -> None:
    image = turn(noise(*size))
    pixels = resize_and_crop(image, Input(crop=[96, 160], fit="pad", interpolation=interpolation))
    factor = min(96 / image.height, 160 / image.width)
    inner = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    reference = Image.new("RGB", (160, 96))
    reference.paste(
        transforms.Resize(inner[::-1], MODES[interpolation])(image), ((160 - inner[0]) // 2, (96 - inner[1]) // 2)
    )
    assert np.array_equal(pixels, np.asarray(reference))


@pytest.mark.parametrize(("size", "seen"), [((300, 100), (0, -100, 300, 200)), ((100, 300), (-100, 0, 200, 300))])
def test_of_a_padded_picture_the_model_sees_the_black_beside_it_too(
    size: tuple[int, int], seen: tuple[float, ...]
) -> None:
    assert region(*size, Input(crop=30, fit="pad")) == pytest.approx(seen)


@pytest.mark.parametrize(("fit", "seen"), [("crop", (52.5, 0.0, 247.5, 195.0)), ("squash", (0.0, 0.0, 300.0, 195.0))])
def test_what_the_model_sees_of_a_picture(fit: Fit, seen: tuple[float, ...]) -> None:
    spec = Input(crop=30, resize=30 if fit == "crop" else None, fit=fit)
    assert region(300, 195, spec) == pytest.approx(seen, abs=5)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_large_jpeg_is_fitted_as_the_same_picture_in_full(fit: Fit) -> None:
    """Decoded at a fraction of its size, whose exact size is no whole number of pixels."""
    image = cat().resize((3007, 2001))
    data = encode(image, "JPEG", quality=95)
    spec = Input(crop=[160, 224], fit=fit)
    pixels = load_pixels(data, spec)
    assert isinstance(pixels, np.ndarray)
    whole = resize_and_crop(image, spec)
    assert pixels.shape == whole.shape == (160, 224, 3)
    assert np.abs(pixels.astype(int) - whole.astype(int)).mean() < 1.5
    if fit == "pad":
        assert np.array_equal((pixels == 0).all(axis=(1, 2)), (whole == 0).all(axis=(1, 2)))


@pytest.mark.slow  # timm takes two seconds to import
@pytest.mark.parametrize(
    ("fields", "timms"),
    [
        ({"crop_percentage": 0.95, "interpolation": "bicubic"}, {"crop_pct": 0.95, "interpolation": "bicubic"}),
        ({"crop_percentage": 1.0}, {"crop_pct": 1.0, "interpolation": "bilinear"}),
        ({"fit": "squash"}, {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"}),
        (
            {"fit": "squash", "crop_percentage": 0.9},
            {"crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bilinear"},
        ),
        ({"crop": [64, 128], "fit": "squash"}, {"size": (64, 128), "crop_pct": 1.0, "crop_mode": "squash"}),
    ],
)
@turned
def test_it_is_timms_transform(fields: dict[str, Any], timms: dict[str, Any], turn: Turn) -> None:
    from timm.data.transforms_factory import create_transform

    image = turn(cat())
    spec = msgspec.convert({"crop": 128, "normalization": "half", **fields}, Input)
    given = {"interpolation": "bilinear", **timms}
    reference = create_transform(given.pop("size", 128), mean=(0.5,) * 3, std=(0.5,) * 3, **given)(image)
    ours = normalize(torch.from_numpy(resize_and_crop(image, spec))[None], spec)[0]
    levels = ((ours - reference).abs() * 127.5).round()
    assert ours.shape == reference.shape
    assert levels.max() <= GREY_LEVELS[spec.interpolation]
    assert (levels > 0).float().mean() <= SHARES[spec.interpolation]
