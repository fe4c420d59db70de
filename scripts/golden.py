"""The golden set: the pictures on which every archive is compared with its reference."""

import importlib.util
from pathlib import Path
from typing import Final

from scripts.console import UserError

# Photographs and drawings that scikit-image ships: colour and grey, portrait and landscape, with and without an object.
_NAMES: Final = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "motorcycle_left.png", "motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip


def golden_set(folder: Path | None = None) -> list[Path]:
    """The pictures of the user's own folder or, without one, scikit-image's.

    Raises:
        UserError: the folder has no pictures.
    """
    if folder is None:
        return [photograph(name) for name in _NAMES]
    pictures = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not pictures:
        raise UserError(f"GOLDEN={folder}: no pictures there")
    return pictures


def photograph(name: str) -> Path:
    """The path of a picture that scikit-image ships, `chelsea.png` say; found without importing that library."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError("scikit-image is not installed; `make setup` installs it")
    return Path(spec.origin).parent / "data" / name
