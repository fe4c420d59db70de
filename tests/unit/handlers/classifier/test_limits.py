import io
import subprocess
import sys

import pytest
from classifier import decode as decoder
from classifier.decode import decode
from classifier.input import Input
from classifier.limits import Reader, check_scans
from classifier.pipeline import load_pixels
from classifier.problems import ImageBroken, ImageTooLarge, Internal
from PIL import Image

from scripts.building.golden import photograph
from stress.hostile.bombs import scanned
from stress.hostile.files import encode, png, segment

PIXELS = 64 * 64
SPEC = Input(resize=36, crop=32, max_pixels=1_000_000)
SCANNED = 32  # times the recipe's limit of pixels


def test_scans_are_counted_like_pixels() -> None:
    jpeg = scanned(64, 40)
    check_scans(jpeg, PIXELS, 40 * PIXELS // SCANNED)
    with pytest.raises(ImageTooLarge, match="40 scans of 4096 pixels"):
        check_scans(jpeg, PIXELS, 40 * PIXELS // SCANNED - 1)


@pytest.mark.parametrize("hiding", [b"\xff\xd9", b"\xff\xd9\xff\xd9", b"\xff\xda", b""])
def test_what_a_comment_holds_is_neither_a_scan_nor_the_end(hiding: bytes) -> None:
    jpeg = scanned(64, 40)
    commented = jpeg[:2] + segment(0xFE, hiding) + jpeg[2:-2] + segment(0xFE, hiding) + jpeg[-2:]
    check_scans(commented, PIXELS, 40 * PIXELS // SCANNED)
    with pytest.raises(ImageTooLarge, match="40 scans"):
        check_scans(commented, PIXELS, 40 * PIXELS // SCANNED - 1)


def test_scans_behind_the_first_picture_do_not_count() -> None:  # a phone's film, or MPO's other pictures
    jpeg = scanned(64, 10)
    check_scans(jpeg + b"\xff\xda" * 1000, PIXELS, 10 * PIXELS // SCANNED)


def test_a_baseline_picture_with_a_scan_for_each_component_counts_them_too() -> None:
    jpeg = encode(Image.new("RGB", (64, 64)), "JPEG")
    at = jpeg.index(b"\xff\xda")
    assert jpeg[at + 2 : at + 5] == b"\0\x0c\3"
    scan = segment(0xDA, b"\1\1\0\0\x3f\0") + jpeg[at + 14 : -2]  # one component
    check_scans(jpeg[:at] + scan * 40 + jpeg[-2:], PIXELS, 40 * PIXELS // SCANNED)
    with pytest.raises(ImageTooLarge, match="40 scans"):
        check_scans(jpeg[:at] + scan * 40 + jpeg[-2:], PIXELS, 40 * PIXELS // SCANNED - 1)


def test_a_decoder_refuses_more_scans_than_a_picture_in_one_scan_has() -> None:
    jpeg = encode(Image.new("RGB", (64, 64)), "JPEG")
    repeated = jpeg[:-2] + jpeg[jpeg.index(b"\xff\xda") : -2] * 10_000 + jpeg[-2:]
    check_scans(repeated, PIXELS, 1)
    with pytest.raises(ImageBroken, match="JPEG"):
        decode(repeated, PIXELS)


@pytest.mark.parametrize("name", ["rocket.jpg", "hubble_deep_field.jpg", "retina.jpg"])
def test_photographs_are_far_from_the_limit(name: str) -> None:
    data = photograph(name).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        progressive = encode(image, "JPEG", progressive=True)
    for jpeg in (data, progressive):
        check_scans(jpeg, PIXELS, PIXELS)


def test_more_segments_than_any_program_writes_are_broken() -> None:
    jpeg = scanned(8, 100)
    with pytest.raises(ImageTooLarge):
        check_scans(jpeg[:2] + segment(0xE3, b"") * 9_000 + jpeg[2:], 64, 64)
    with pytest.raises(ImageBroken, match="segments"):
        check_scans(jpeg[:2] + segment(0xE3, b"") * 10_000 + jpeg[2:], 64, 64)


def test_a_file_is_read_in_a_limited_number_of_pieces() -> None:
    reader = Reader(bytes(200_000))
    for _ in range(50_000):
        reader.read(1)
    with pytest.raises(ImageBroken, match="pieces"):
        reader.read(1)


def test_our_own_mistake_is_not_taken_for_a_broken_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    mistake = TypeError("ours")

    def wrong(_: Image.Image) -> Image.Image:
        raise mistake

    monkeypatch.setattr(decoder, "to_rgb", wrong)
    problem = load_pixels(png(1, 1, b"\0\0"), SPEC)
    assert isinstance(problem, Internal)
    assert problem.__cause__ is mistake


def test_a_machine_without_memory_is_not_taken_for_a_broken_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Image.Image) -> None:
        raise MemoryError

    data = encode(Image.new("RGB", (9, 9)), "JPEG")
    monkeypatch.setattr(Image.Image, "load", full)
    assert isinstance(load_pixels(data, SPEC), Internal)


@pytest.mark.slow
def test_remarks_on_damaged_metadata_reach_no_log_and_are_not_remembered() -> None:
    program = """
from classifier.decode import decode
from stress.hostile.bombs import grey, ifd
from PIL import TiffImagePlugin
tags = [(1000 + index, 1, 300, 8) for index in range(1000)]
decode(ifd(grey(16, 16) + tags, bytes(300)), 1000)
print(len(getattr(TiffImagePlugin, "__warningregistry__", {"version": 0})))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""
    assert int(ended.stdout) <= 1  # the registry's own version


def test_a_picture_may_have_as_much_metadata_as_programs_write() -> None:
    picture = Image.new("RGB", (16, 16), "teal")
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))
    jpeg = encode(picture, "JPEG")
    assert decode(jpeg[:2] + profile * 50 + jpeg[2:], 1_000).size == (16, 16)
