"""The golden set: the pictures on which every archive is compared with its reference."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from classifier.decode import decode
from classifier.input import PILLOW_LIMIT, Input
from classifier.pipeline import load_pixels
from classifier.preprocess import resize_and_crop
from classifier.problems import Problem
from classifier.recipe import Recipe
from numpy.typing import NDArray
from PIL import Image

from scripts.console import UserError

# Photographs and drawings from scikit-image: colour and grey, portrait and landscape, with and without an object.
_NAMES: Final = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "motorcycle_left.png", "motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip

# Those that are photographs of one object: what is sent to a model, and compared on, where the user names no pictures.
_OBJECTS: Final = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png")

VIEWS: Final = 40  # of each picture that a model is tried with, to compare archives on
# Of each golden picture, for calibration. Calibrated on only the 21 pictures, Lite0's agreement was 1.3 % lower.
_CALIBRATION_VIEWS: Final = 10


def golden_set(folder: Path | None = None) -> list[Path]:
    """The pictures of the user's own folder or, without one, scikit-image's.

    Raises:
        UserError: the folder has no pictures.
    """
    return [photograph(name) for name in _NAMES] if folder is None else pictures_in(folder, "GOLDEN")


def objects(folder: Path | None = None) -> list[Path]:
    """The pictures of the user's own folder or, without one, those of scikit-image that show one object.

    Textures and drawings are near ties for a model of objects, which any rounding decides.

    Raises:
        UserError: the folder has no pictures.
    """
    return [photograph(name) for name in _OBJECTS] if folder is None else pictures_in(folder, "GOLDEN")


def pictures_in(folder: Path, variable: str) -> list[Path]:
    """The files of a folder; `variable` is the make variable that names it.

    Raises:
        UserError: the folder has none.
    """
    pictures = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not pictures:
        raise UserError(f"{variable}={folder}: no pictures in that folder")
    return pictures


def views(image: Image.Image, count: int, seed: int) -> list[Image.Image]:
    """Random crops of half to all of each side, every other one mirrored, like other photographs of the same scene."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        width, height = (max(1, int(side * random.uniform(0.5, 1))) for side in image.size)
        left, top = int(random.integers(image.width - width + 1)), int(random.integers(image.height - height + 1))
        view = image.crop((left, top, left + width, top + height))
        found.append(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if index % 2 else view)
    return found


def photograph(name: str) -> Path:
    """The path of a picture of scikit-image, for example `chelsea.png`, found without importing that library."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError("scikit-image is not installed; `make setup` installs it")
    return Path(spec.origin).parent / "data" / name


def noise(spec: Input, number: int) -> NDArray[np.uint8]:
    """That many pictures of noise of the model's size, uint8 [number,H,W,3]; the same every time."""
    return np.random.default_rng(0).integers(0, 256, (number, *spec.size, 3), np.uint8)


def view_pixels(spec: Input, pictures: Sequence[Path], count: int = VIEWS) -> NDArray[np.uint8]:
    """Crops and mirror images of pictures, `count` of each, as the model sees them: uint8 [N,H,W,3]."""
    return np.stack(
        [
            resize_and_crop(view, spec)
            for seed, path in enumerate(pictures)
            for view in views(decode(path.read_bytes(), PILLOW_LIMIT), count, seed)
        ]
    )


def calibration_pixels(folder: Path | None, recipe: Recipe, golden: list[Path]) -> NDArray[np.uint8]:
    """Pictures from which int8 chooses its scales, uint8 [N,H,W,3]: the user's folder, or views of the golden set.

    Raises:
        UserError: the folder has no pictures, or one cannot be used.
    """
    if folder is not None:
        return golden_pixels(pictures_in(folder, "CALIBRATION"), recipe)
    spec = recipe.input
    return np.stack(
        [
            resize_and_crop(view, spec)
            for seed, path in enumerate(golden)
            for view in views(decode(path.read_bytes(), PILLOW_LIMIT), _CALIBRATION_VIEWS, seed)
        ]
    )


def golden_pixels(pictures: Sequence[Path], recipe: Recipe) -> NDArray[np.uint8]:
    """Decode pictures as the model sees them: uint8 [N,H,W,3].

    Raises:
        UserError: a picture cannot be used; the message names it.
    """
    spec = msgspec.structs.replace(recipe.input, max_pixels=PILLOW_LIMIT)  # the recipe's limit is for clients' pictures
    pixels = []
    for path in pictures:
        item = load_pixels(path.read_bytes(), spec)
        if isinstance(item, Problem):
            raise UserError(f"{path}: {item.detail}")
        pixels.append(item)
    return np.stack(pixels)
