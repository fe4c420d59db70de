"""Hostile pictures: the corpus that a server must withstand, each item with the one answer that it must get.

Names are `<group>/<what>`. Everything is made here, with the same bytes each time.
"""

import base64
import io
import math
import random
import warnings
import zipfile
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace
from PIL import Image
from urllib3.filepost import encode_multipart_formdata

from scripts.building.golden import photograph
from stress.hostile import bombs, kinds
from stress.hostile.files import (
    KINDS,
    by_pillow_alone,
    encode,
    every_mode_and_format,
    flipped,
    lying,
    of_kind,
    srgb_profile,
    tenths,
    without_times,
)
from stress.questions import Body

ACCEPTED: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAX_PIXELS: Final = 64_000_000  # the limit of the recipes that come with the project
MAX_INSTANCES: Final = 64  # theirs too

_SMALL: Final = (96, 64)
_FLIPS: Final = 200  # places, of all kinds together
_TENSOR: Final = b'{"inputs": [{"name": "pictures", "shape": [0], "datatype": "BYTES", "data": []}]}'
_BROKEN: Final = (422, "image_broken")
_SCANNED: Final = "bomb/jpeg-scanned-100-times"  # its scans are too many for every limit of pixels
_TOO_LARGE: Final = (413, "image_too_large")
_NO_IMAGE: Final = (415, "not_an_image")
_NOT_SUPPORTED: Final = (415, "image_not_supported")


def corpus(max_pixels: int = MAX_PIXELS, max_instances: int = MAX_INSTANCES) -> list[Body]:
    """All hostile bodies. It takes some seconds.

    All are made of the same photograph, whatever the model is for: what a damaged file must get depends on its bytes.

    Args:
        max_pixels: the recipe's limit of pixels, beyond which the answer is 413.
        max_instances: the recipe's limit of pictures in one JSON request.
    """
    with Image.open(photograph("coffee.png")) as opened:
        photo = opened.convert("RGB")
    if photo.width * photo.height > max_pixels:
        photo.thumbnail((math.isqrt(max_pixels), math.isqrt(max_pixels)))
    small = photo.resize(_SMALL, Image.Resampling.BOX)
    groups = (
        _modes(small),
        _variants(photo),
        _kinds(),
        _shapes(),
        _truncated(small),
        _flipped(small, max_pixels),
        strangers(),
        _typed(photo),
        _json(max_instances),
        _bombs(small),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about old formats and about deliberate damage
        return [_limited(body, max_pixels) for group in groups for body in group]


def _limited(body: Body, max_pixels: int) -> Body:
    """The body with the answer of a model whose limit of pixels is another than the usual one."""
    if max_pixels == MAX_PIXELS or body.same_as or body.content.startswith(b"{"):
        return body
    pixels = _pixels(body.content)
    if pixels > max_pixels and body.status == 200:
        return replace(body, status=_TOO_LARGE[0], code=_TOO_LARGE[1])
    if pixels <= max_pixels and body.name.startswith("bomb/") and body.name != _SCANNED:
        return replace(body, status=_BROKEN[0], code=_BROKEN[1])  # there is hardly any pixel data behind its header
    return body


def _pixels(data: bytes) -> float:
    """The number of pixels that the header of a picture declares, as plain Pillow reads it; 0 if it is no picture."""
    try:
        with Image.open(io.BytesIO(data), formats=ACCEPTED) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        return math.inf
    except Exception:  # decoders raise nearly any exception on damaged bytes
        return 0


def _modes(small: Image.Image) -> Iterator[Body]:
    for image_format, mode, data in every_mode_and_format(small):
        name = f"mode/{image_format}-{mode}"
        known = image_format in (*ACCEPTED, "MPO")  # MPO is several JPEGs, one after the other
        yield Body(name, data, 200) if known else Body(name, data, *_NO_IMAGE)


def _variants(photo: Image.Image) -> Iterator[Body]:
    for orientation in range(1, 9):
        yield Body(f"exif/jpeg-{orientation}", lying(photo, orientation, "JPEG"), 200)
        yield Body(f"exif/png-{orientation}", lying(photo, orientation, "PNG"), 200)
    cmyk = encode(photo.convert("CMYK"), "JPEG")
    adobe = cmyk.index(b"Adobe")
    yield Body("jpeg/progressive", encode(photo, "JPEG", progressive=True), 200)
    yield Body("jpeg/cmyk", cmyk, 200)
    yield Body("jpeg/ycck", cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :], 200)  # Adobe's transform 2
    yield Body("jpeg/cmyk-without-adobe", cmyk[: adobe - 4] + cmyk[adobe + 12 :], 200)
    for image_format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        for kind, content in (("srgb", srgb_profile()), ("nonsense", b"no profile" * 9)):
            data = encode(photo, image_format, icc_profile=content)
            yield Body(f"profile/{image_format}-{kind}", data, 200)
    others = [Image.new("RGB", photo.size, colour) for colour in ("red", "blue")]
    for image_format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"):
        data = encode(photo, image_format, save_all=True, append_images=others)
        data = without_times(data) if image_format == "AVIF" else data
        yield Body(f"frames/{image_format}", data, 200)


def _kinds() -> Iterator[Body]:
    for name, data, _ in (*kinds.deep(), *kinds.transparent()):
        yield Body(f"kind/{name}", data, 200)
    for name, data, _ in kinds.unsupported():
        yield Body(f"kind/{name}", data, *_NOT_SUPPORTED)


def _shapes() -> Iterator[Body]:
    for size in ((1, 1), (1, 20_000), (20_000, 1)):
        for image_format in ACCEPTED:
            if image_format in ("WEBP", "AVIF") and max(size) > 16_383:  # WebP's format ends there, and AVIF's encoder
                continue
            data = encode(Image.new("RGB", size, "teal"), image_format)
            yield Body(f"shape/{image_format}-{size[0]}x{size[1]}", data, 200)


def _truncated(small: Image.Image) -> Iterator[Body]:
    yield Body("truncated/nothing", b"", 400, "empty_body")
    for kind in KINDS:
        for share, data in enumerate(tenths(of_kind(small, kind)), 1):
            yield Body(f"truncated/{kind}-{share}", data, *_BROKEN)


def _flipped(small: Image.Image, max_pixels: int) -> Iterator[Body]:
    chance = random.Random(0)  # noqa: S311 - the same flips every time
    files = {kind: of_kind(small, kind) for kind in KINDS}
    for index in range(_FLIPS):
        kind = list(files)[index % len(files)]
        data = flipped(files[kind], chance)
        yield Body(f"flipped/{kind}-{index}", data, *by_pillow_alone(data, ACCEPTED, max_pixels))


def strangers() -> Iterator[Body]:
    """Files that are not pictures of an accepted format."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(zipfile.ZipInfo("picture.jpg"), b"\xff\xd8\xff")
    for name, data in {
        "text": b"a cat",
        "blank": b" ",
        "zeros": bytes(1000),
        "one-byte": b"\xff",
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>',
        "html": b"<!doctype html><title>404</title>",
        "list": b"[1, 2]",
        "wav": b"RIFF\x24\0\0\0WAVEfmt ",
        "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        "zip": zipped.getvalue(),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",  # Pillow would start Ghostscript
    }.items():
        yield Body(f"stranger/{name}", data, *_NO_IMAGE)


def _typed(photo: Image.Image) -> Iterator[Body]:
    """Good pictures under wrong names."""
    data = encode(photo, "JPEG")
    wrong = ("image/png", "text/html", "video/mp4", "application/octet-stream", "nonsense")
    careless = ("image/jpg", "image/jpeg; charset=utf-8")  # as clients send them
    for kind in (*wrong, *careless):
        yield Body(f"typed/{kind}", data, 200, content_type=kind)
    yield Body("typed/application/json", data, 400, "bad_json", content_type="application/json")
    for name in ("picture.txt", "picture.svg", "../../picture.exe"):
        form, header = encode_multipart_formdata({"data": (name, data)}, boundary="boundary")
        yield Body(f"named/{name}", form, 200, content_type=header, same_as="typed/image/png")


def _json(max_instances: int) -> Iterator[Body]:
    picture = base64.b64encode(encode(Image.new("RGB", (8, 8)), "PNG"))
    yield Body("json/good", b'{"instances": [{"b64": "' + picture + b'"}]}', 200)
    if max_instances > 1:
        yield Body("json/one-of-two", b'{"instances": [{"b64": "%%%"}, {"b64": "' + picture + b'"}]}', 200)
    for name, code, content in (
        ("number", "bad_json", b'{"instances": 5}'),
        ("unfinished", "bad_json", b'{"instances": ['),
        ("no-unicode", "bad_json", b'{"instances": [{"b64": "\xff"}]}'),
        ("nested", "bad_json", b'{"instances":' + b"[" * 100_000),
        ("other", "bad_json", b'{"picture": ""}'),
        ("empty picture", "empty_body", b'{"b64": ""}'),
        ("no-tensor", "bad_json", b'{"inputs": []}'),
        ("no-such-output", "bad_parameter", _TENSOR[:-1] + b', "outputs": [{"name": "no"}]}'),
        ("none", "empty_body", b'{"instances": []}'),
    ):
        yield Body(f"json/{name}", content, 400, code)
    many = b",".join([b'{"b64": "aaaa"}'] * (max_instances + 1))
    yield Body("json/too-many-instances", b'{"instances": [' + many + b"]}", 413, "too_many_instances")


def _bombs(small: Image.Image) -> Iterator[Body]:
    for name, data in bombs.too_large():
        yield Body(f"bomb/{name}", data, *_TOO_LARGE)
    yield Body(_SCANNED, bombs.scanned(8_000, 100), *_TOO_LARGE)
    for name, data in (*bombs.broken_metadata(small), *bombs.many_strips()):
        yield Body(f"structure/{name}", data, *_BROKEN)
    for name, data in bombs.largest():
        yield Body(f"largest/{name}", data, 200)
    for name, data in bombs.much_metadata(small):
        yield Body(f"metadata/{name}", data, 200)
    yield Body("jpeg/scanned-20-times", bombs.scanned(1_000, 20), 200)
