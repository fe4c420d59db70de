"""Large pictures are decoded one at a time, so that a batch of them does not take more memory than a worker has."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import Image

from classifier.allocator import give_back
from classifier.forks import survives_forks

# A picture takes 8 to 16 bytes a pixel while it is decoded and converted. At the recipes' limit that is 1 GB, however
# small the file is.
LARGE: Final = 16_000_000  # pixels; larger pictures take turns

_one_at_a_time = survives_forks(threading.Lock())


def is_large(image: Image.Image, file_pixels: int) -> bool:
    """Whether decoding a picture takes so much memory that it has to wait for its turn.

    Args:
        image: the opened picture, drafted to the size at which it is decoded.
        file_pixels: how many pixels the file has. The decoder of a progressive JPEG holds all of them at once, even if
            it decodes the picture at a smaller size.
    """
    return (file_pixels if "progressive" in image.info else image.width * image.height) > LARGE


@contextmanager
def turn_of_large_picture() -> Iterator[None]:
    """Wait until this process decodes no other large picture; give freed memory back before and after.

    Otherwise each thread would keep it for its next picture. The first call gives back what the last large picture
    left when it was resized, the second what this one took.
    """
    with _one_at_a_time:
        give_back()
        try:
            yield
        finally:
            give_back()
