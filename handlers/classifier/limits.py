"""Limits on the structure of a file, beside the one on its pixels, so that a small file cannot keep a worker busy.

Each limit is far beyond what programs write. Its cost was measured on the worst file of 20 MB that it still allows.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from PIL import PngImagePlugin, TiffImagePlugin, TiffTags

from classifier.problems import ImageBroken, ImageTooLarge

# Reads of a file until it is decoded. Pillow needs four for each chunk of a PNG, and good files have some thousand
# chunks. A file of nothing but empty segments needs millions, which took 10 s and 640 MB. As many reads as this limit
# allows take 0.1 s, or 0.5 s for the tags of a TIFF.
_MAX_READS: Final = 50_000
# Pixels in all scans of a JPEG, as a multiple of the pixels that a recipe allows. Each scan of a progressive JPEG goes
# through the whole picture, at 0.65 ns a pixel, however few bytes it has. Programs write about ten scans.
_MAX_SCANNED: Final = 32
MAX_SEGMENTS: Final = 10_000  # of a JPEG
# Numbers in one tag of a TIFF or EXIF: the offsets of 4.9 million strips took 42 s and 1.7 GB; 65,536 take 0.5 s.
_MAX_VALUES: Final = 65_536
_MAX_TEXT: Final = 4 << 20  # bytes of a PNG's unpacked texts, which take up to four times as much as strings

_SINGLE_BYTES: Final = (TiffTags.BYTE, TiffTags.ASCII, TiffTags.UNDEFINED)  # these are not unpacked into numbers
# A marker and the length of its segment. Not matched: FF 00 and restart markers, which stand in entropy-coded data, TEM
# and the start of an image, which have no length either, and FF FF, which is padding.
_SEGMENT: Final = re.compile(rb"(\xff[^\x00\x01\xd0-\xd8\xff])(..)?", re.DOTALL)
_START_OF_SCAN: Final = b"\xff\xda"
_END: Final = b"\xff\xd9"
# baseline, extended, lossless, arithmetic
_SEQUENTIAL_FRAMES: Final = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xc9")


class Reader(io.BytesIO):
    """The bytes of a file, which a decoder may read in a limited number of pieces."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `io.BytesIO` does.

        Raises:
            ImageBroken: the file is in more pieces than any program writes.
        """
        self._reads += 1
        if self._reads > _MAX_READS:
            raise ImageBroken("the file is in more pieces than any program writes")
        return super().read(size)


def check_scans(jpeg: bytes, pixels: int, max_pixels: int) -> None:
    """Refuse a JPEG whose scans go through its pixels too often.

    Args:
        jpeg: the file.
        pixels: how many its header declares.
        max_pixels: the recipe's limit.

    Raises:
        ImageTooLarge: all scans together have more pixels than the limit allows.
        ImageBroken: the file has more segments than any program writes.
    """
    if _is_in_one_scan(jpeg):  # as most are; the search below takes a fifth of the time of decoding
        return
    markers = [found[1] for found in islice(segments(jpeg), MAX_SEGMENTS)]
    if len(markers) == MAX_SEGMENTS:
        raise ImageBroken("the file has more segments than any program writes")
    scans, limit = markers.count(_START_OF_SCAN), _MAX_SCANNED * max_pixels
    if scans * pixels > limit:
        raise ImageTooLarge(f"{scans} scans of {pixels} pixels are more than the limit of {limit}")


def _is_in_one_scan(jpeg: bytes) -> bool:
    """Whether the first scan is the only one: it has all components, and is not progressive. Decoders refuse more."""
    components = None
    for found in segments(jpeg):
        at = found.end(1)
        if found[1] in _SEQUENTIAL_FRAMES:
            components = jpeg[at + 7 : at + 8]  # behind length, precision, height and width
        elif found[1] == _START_OF_SCAN:
            return jpeg[at + 2 : at + 3] == components
    return False


def segments(jpeg: bytes) -> Iterator[re.Match[bytes]]:
    """The segments of the first picture of a file. Each match has the marker and the two bytes of its length."""
    at = 2
    while (found := _SEGMENT.search(jpeg, at)) and found[1] != _END:
        yield found
        at = found.end(1) + int.from_bytes(found[2] or b"")


def restrain_pillow() -> None:
    """Set Pillow's own limits, once for this process, and add limits where it has none."""
    # Pillow's warnings about damaged metadata quote the file. Python would print every different text, 13 MB for a file
    # of 0.8 MB, and remember it for ever.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    PngImagePlugin.MAX_TEXT_MEMORY = _MAX_TEXT
    loaders = TiffImagePlugin.ImageFileDirectory_v2._load_dispatch
    for kind, (size, load) in list(loaders.items()):
        if kind not in _SINGLE_BYTES:
            loaders[kind] = size, _limited(load, size * _MAX_VALUES)


def _limited(load: Callable[..., Any], most: int) -> Callable[..., Any]:
    def limited(directory: Any, data: bytes, *options: Any) -> Any:
        if len(data) > most:
            raise ValueError(f"a tag has {len(data)} bytes of numbers")
        return load(directory, data, *options)

    return limited
