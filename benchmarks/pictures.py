"""The pictures that the benchmark sends, made from scikit-image's photographs."""

from pathlib import Path
from typing import Final, Literal

from classifier.decode import decode
from classifier.input import PILLOW_LIMIT
from PIL import Image

from scripts.building.golden import photograph

Kind = Literal["small", "medium", "phone", "png"]

_PHOTOGRAPHS: Final = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
_SIZES: Final[dict[Kind, tuple[int, int]]] = {
    "small": (500, 375),
    "medium": (1000, 750),
    "phone": (4032, 3024),  # 12 megapixels
    "png": (500, 375),
}
_QUALITY: Final = 90


def make_pictures(folder: Path) -> dict[Kind, list[Path]]:
    """Write the pictures of every kind into a folder: JPEGs of three sizes, and PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[Kind, list[Path]] = {}
    for kind, size in _SIZES.items():
        for name in _PHOTOGRAPHS:
            image = decode(photograph(name).read_bytes(), PILLOW_LIMIT).resize(size, Image.Resampling.LANCZOS)
            path = folder / f"{kind}-{Path(name).stem}.{'png' if kind == 'png' else 'jpg'}"
            image.save(path, quality=_QUALITY)
            made.setdefault(kind, []).append(path)
    return made


def mixed(pictures: dict[Kind, list[Path]]) -> list[Path]:
    """The mixed request set: the same number of pictures of every kind."""
    return [path for group in zip(*pictures.values(), strict=True) for path in group]
