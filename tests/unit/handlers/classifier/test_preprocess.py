import io
import resource
from collections.abc import Callable

import numpy as np
import pytest
import torch
from classifier.input import NORMALIZATIONS, PILLOW_LIMIT, Input, Interpolation, Normalization
from classifier.normalization import normalize
from classifier.pipeline import load_pixels
from classifier.preprocess import resize_and_crop
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.models import VGG16_Weights
from torchvision.transforms import CenterCrop, Compose, Grayscale, InterpolationMode, Resize

from scripts.building.golden import golden_set, photograph
from tests.conftest import encode

# How far a value may be from torchvision's, in grey levels, and on what share of a picture's values, where a picture is
# long, large or made to be hard. Pillow gets the crop as a box of 32-bit floats, so a value that is just about a half
# is sometimes rounded to the other side. Bicubic weights beyond 1 make it 2 grey levels on noise.
GREY_LEVELS: dict[Interpolation, int] = {"bilinear": 1, "bicubic": 2}
SHARE = 0.02

INTERPOLATIONS: dict[Interpolation, InterpolationMode] = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}
SIZES = [(1, 1), (1, 2), (3, 400), (7, 500), (223, 224), (255, 257), (224, 224), (256, 256), (300, 451), (64, 65)]
BICUBIC = Image.Resampling.BICUBIC
TURNS: list[Callable[[Image.Image], Image.Image]] = [
    lambda image: image,
    lambda image: image.transpose(Image.Transpose.ROTATE_90),
]
turned = pytest.mark.parametrize("turn", TURNS, ids=["as-is", "on-its-side"])
interpolated = pytest.mark.parametrize("interpolation", INTERPOLATIONS)


def noise(width: int, height: int) -> Image.Image:
    """The hardest picture to resize: neighbours have nothing in common."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def grey_levels_between(ours: Tensor, reference: Tensor) -> NDArray[np.int64]:
    """The differences of two inputs of VGG16, which are in standard deviations, as grey levels."""
    deviation = torch.tensor(NORMALIZATIONS["imagenet"].std).reshape(3, 1, 1)
    levels: NDArray[np.int64] = ((ours - reference).abs() * deviation * 255).round().to(torch.int64).numpy()
    return levels


def from_the_reference_transform(
    pixels: NDArray[np.uint8], image: Image.Image, interpolation: Interpolation
) -> NDArray[np.int64]:
    """How many grey levels the pixels are from what torchvision makes of the picture."""
    ours = normalize(torch.from_numpy(pixels.copy())[None], Input())[0]
    transforms = VGG16_Weights.IMAGENET1K_V1.transforms(interpolation=INTERPOLATIONS[interpolation])
    return grey_levels_between(ours, transforms(image))


def assert_is_the_reference_transform(image: Image.Image, interpolation: Interpolation) -> None:
    difference = from_the_reference_transform(
        resize_and_crop(image, Input(interpolation=interpolation)), image, interpolation
    )
    assert difference.max() <= GREY_LEVELS[interpolation]
    assert (difference > 0).mean() <= SHARE


@pytest.mark.parametrize("resize", [256, 232, 235, 248])
@interpolated
def test_photographs_become_exactly_what_torchvision_makes_of_them_upright_and_on_their_side(
    interpolation: Interpolation, resize: int
) -> None:
    transform = Compose([Resize(resize, INTERPOLATIONS[interpolation]), CenterCrop(224)])
    spec = Input(resize=resize, crop=224, interpolation=interpolation)
    for path in golden_set():
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        for turn in TURNS:
            turned_image = turn(image)
            np.testing.assert_array_equal(resize_and_crop(turned_image, spec), transform(turned_image), path.name)


@turned
@pytest.mark.parametrize("name", ["chelsea.png", "page.png"])
def test_bicubic_is_torchvisions_too(name: str, turn: Callable[[Image.Image], Image.Image]) -> None:
    with Image.open(photograph(name)) as image:
        assert_is_the_reference_transform(turn(image.convert("RGB")), "bicubic")


@interpolated
@turned
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
def test_small_and_narrow_pictures_become_what_torchvision_makes_of_them(
    size: tuple[int, int], turn: Callable[[Image.Image], Image.Image], interpolation: Interpolation
) -> None:
    assert_is_the_reference_transform(turn(noise(*size)), interpolation)


@turned
def test_a_very_long_picture_costs_no_more_than_a_square_one(turn: Callable[[Image.Image], Image.Image]) -> None:
    length = 20_000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = resize_and_crop(turn(noise(1, length)), Input())
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert pixels.shape == (224, 224, 3)
    assert grown_kb < 100_000  # all of it resized is 256 x 5,120,000 pixels, four bytes each


def test_the_middle_of_a_very_long_picture_is_interpolated_between_its_middle_pixels() -> None:
    image = noise(1, 20_000)
    row = (np.arange(224) + 20_000 * 128 - 112 + 0.5) / 256 - 0.5  # of the picture, for each row of the crop
    source = np.asarray(image)[:, 0].astype(float)
    expected = [np.interp(row, np.arange(len(source)), source[:, channel]) for channel in range(3)]
    pixels = resize_and_crop(image, Input())
    assert np.abs(pixels[:, 0] - np.stack(expected, axis=1)).max() <= 1
    assert (pixels == pixels[:, :1]).all()


def test_the_sizes_are_those_of_the_recipe() -> None:
    pixels = resize_and_crop(noise(90, 60), Input(resize=48, crop=32))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8


def jpeg(name: str, short_side: int) -> bytes:
    """A photograph whose short side has that many pixels, as a JPEG."""
    with Image.open(photograph(name)) as image:
        scale = short_side / min(image.size)
        large = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)), BICUBIC)
    assert min(large.size) == short_side
    return encode(large, "JPEG", quality=92)


def from_the_reference_of(data: bytes) -> NDArray[np.int64]:
    """How far a file, loaded as a worker does, is from torchvision's transform of all its pixels, in grey levels."""
    pixels = load_pixels(data, Input(max_pixels=PILLOW_LIMIT))
    assert isinstance(pixels, np.ndarray)
    with Image.open(io.BytesIO(data)) as image:
        return from_the_reference_transform(pixels, image.convert("RGB"), "bilinear")


# of chelsea.png the long side is 4510 pixels, which a quarter of is no whole number
@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "rocket.jpg"])
def test_a_large_jpeg_becomes_nearly_what_torchvision_makes_of_it(name: str) -> None:
    difference = from_the_reference_of(jpeg(name, 3000))
    assert difference.mean() < 1.2
    assert difference.max() > GREY_LEVELS["bilinear"]  # or it was not decoded at a quarter of its size


@pytest.mark.parametrize("short_side", [300, 511, 512, 1023])
def test_a_jpeg_of_fewer_than_1024_pixels_becomes_what_torchvision_makes_of_it(short_side: int) -> None:
    difference = from_the_reference_of(jpeg("coffee.png", short_side))
    assert difference.max() <= GREY_LEVELS["bilinear"]
    assert (difference > 0).mean() <= SHARE


def test_from_1024_pixels_on_a_jpeg_is_decoded_smaller() -> None:
    difference = from_the_reference_of(jpeg("coffee.png", 1024))
    assert difference.max() > GREY_LEVELS["bilinear"]
    assert difference.mean() < 1.2


@pytest.mark.slow
def test_a_large_png_becomes_what_torchvision_makes_of_it() -> None:
    with Image.open(io.BytesIO(jpeg("coffee.png", 1500))) as image:
        difference = from_the_reference_of(encode(image, "PNG", compress_level=1))
    assert difference.max() <= GREY_LEVELS["bilinear"]


@turned
def test_grey_is_made_before_resizing_as_torchvision_does_it(turn: Callable[[Image.Image], Image.Image]) -> None:
    image = turn(noise(500, 300))
    made = resize_and_crop(image, Input(channels="grey", normalization=Normalization()))
    expected = np.asarray(Compose([Grayscale(), Resize(256), CenterCrop(224)])(image))
    for channel in range(3):
        np.testing.assert_array_equal(made[..., channel], expected)
