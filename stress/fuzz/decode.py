"""Fuzz target: any bytes must give a picture or a problem of the client's."""

import sys

import atheris

with atheris.instrument_imports(
    include=["PIL", "classifier.decode", "classifier.depth", "classifier.kinds", "classifier.limits", "classifier.tiff"]
):
    from classifier.decode import Extent, decode_scaled
    from classifier.problems import Problem
    from PIL import Image

    Image.init()  # imports every format

MAX_PIXELS = 1_000_000
SHORT_SIDE = 32  # small, so that JPEGs of all sizes are decoded at a reduced size


def decode_once(data: bytes) -> None:
    """Decode a file; anything but a picture or a problem is a finding."""
    outcome = decoded(data)
    if isinstance(outcome, Problem):
        assert 400 <= outcome.status < 500
        return
    image, extent = outcome
    assert image.mode == "RGB"
    assert 0 < extent[0] <= image.width
    assert 0 < extent[1] <= image.height


def decoded(data: bytes) -> tuple[Image.Image, Extent] | Problem:
    """Decode a file to a picture and its extent, or return its problem."""
    try:
        return decode_scaled(data, MAX_PIXELS, SHORT_SIDE)
    except Problem as problem:
        return problem


if __name__ == "__main__":
    atheris.Setup(sys.argv, decode_once)
    atheris.Fuzz()
