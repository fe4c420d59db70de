"""Large pictures are decoded one at a time, so that a batch of them does not take more memory than a worker has."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import Image

from classifier.allocator import give_back

# A picture takes 8 to 16 bytes a pixel while it is decoded and converted, so 1 GB at the recipes' limit, however small
# its file is.
LARGE: Final = 16_000_000  # pixels; larger ones take turns

_one_at_a_time = threading.Lock()


@contextmanager
def taking_turns(image: Image.Image, file_pixels: int) -> Iterator[None]:
    """Decode a picture in here. A large one waits until no other large one is decoded in this process.

    Around a large one, freed memory goes back to the system. Each thread would keep it for the next one: first what
    was left when the last one was resized, in the end our own.

    Args:
        image: opened, and drafted to the size that it is decoded to.
        file_pixels: how many pixels the file has.
    """
    if _held_pixels(image, file_pixels) <= LARGE:
        yield
        return
    with _one_at_a_time:
        give_back()
        try:
            yield
        finally:
            give_back()


def _held_pixels(image: Image.Image, file_pixels: int) -> int:
    """How many pixels the decoder holds at once: of a progressive JPEG all, however small it comes out."""
    return file_pixels if "progressive" in image.info else image.width * image.height
