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


def is_large(image: Image.Image, file_pixels: int) -> bool:
    """Whether decoding a picture takes so much memory that it has to wait for its turn.

    Args:
        image: opened, and drafted to the size that it is decoded to.
        file_pixels: how many pixels the file has. The decoder of a progressive JPEG holds all of them at once, however
            small the picture comes out.
    """
    return (file_pixels if "progressive" in image.info else image.width * image.height) > LARGE


@contextmanager
def turn_of_large_picture() -> Iterator[None]:
    """While no other large picture is decoded in this process, and without the memory that the last one took.

    Each thread would keep that for the next one: first what was left when the last one was resized, in the end our own.
    """
    with _one_at_a_time:
        give_back()
        try:
            yield
        finally:
            give_back()
