"""The pictures that the benchmark sends: in a few sizes, made from photographs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from classifier.decode import decode
from classifier.input import PILLOW_LIMIT
from classifier.problems import Problem
from PIL import Image

from scripts.building.golden import photograph
from scripts.console import UserError

Kind = Literal["small", "medium", "phone", "png"]

_PHOTOGRAPHS: Final = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
_SIZES: Final[dict[Kind, tuple[int, int]]] = {
    "small": (500, 375),
    "medium": (1000, 750),
    "phone": (4032, 3024),  # 12 megapixels
    "png": (500, 375),
}
_QUALITY: Final = 90


def make_pictures(folder: Path, sources: Sequence[Path] = ()) -> dict[Kind, list[Path]]:
    """Write the pictures of every kind into a folder: JPEGs of three sizes, and PNGs.

    Args:
        folder: folder to write into.
        sources: the pictures to make them from; photographs of scikit-image without any.

    Raises:
        UserError: a source is no picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = [_image(path) for path in sources or [photograph(name) for name in _PHOTOGRAPHS]]
    made: dict[Kind, list[Path]] = {}
    for kind, size in _SIZES.items():
        for number, image in enumerate(images):
            path = folder / f"{kind}-{number}.{'png' if kind == 'png' else 'jpg'}"
            image.resize(size, Image.Resampling.LANCZOS).save(path, quality=_QUALITY)
            made.setdefault(kind, []).append(path)
    return made


def _image(path: Path) -> Image.Image:
    try:
        return decode(path.read_bytes(), PILLOW_LIMIT)
    except Problem as problem:
        raise UserError(f"{path}: {problem.detail}") from problem


def allowed(pictures: Mapping[Kind, list[Path]], max_pixels: int) -> dict[Kind, list[Path]]:
    """The kinds that a recipe's limit of pixels lets through.

    Raises:
        UserError: not even the small ones.
    """
    found = {kind: paths for kind, paths in pictures.items() if math.prod(_SIZES[kind]) <= max_pixels}
    if "small" not in found:
        width, height = _SIZES["small"]
        raise UserError(f"the recipe allows {max_pixels} pixels, and the smallest pictures here are {width} x {height}")
    return found


def mixed(pictures: dict[Kind, list[Path]]) -> list[Path]:
    """The mixed request set: the same number of pictures of every kind."""
    return [path for group in zip(*pictures.values(), strict=True) for path in group]
