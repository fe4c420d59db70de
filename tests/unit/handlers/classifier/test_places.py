import re

import pytest
from classifier.places import Place, read_place, read_program

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "torchvision:VGG16_Weights.IMAGENET1K_V1",
            Place(scheme="torchvision", path="VGG16_Weights.IMAGENET1K_V1"),
        ),
        ("package:some_package/data/it.pth", Place(scheme="package", path="some_package/data/it.pth")),
        ("https://host/net-0123abcd.pth", Place(scheme="https", path="https://host/net-0123abcd.pth")),
        (
            f"https://host/net.pth?raw=1#sha256={DIGEST}",
            Place(scheme="https", path="https://host/net.pth?raw=1", sha256=DIGEST),
        ),
        ("http://host:8000/net-0123abcd.pth", Place(scheme="http", path="http://host:8000/net-0123abcd.pth")),
        (f"../best.pth#sha256={DIGEST}", Place(scheme="file", path="../best.pth", sha256=DIGEST)),
        ("net-0123abcd.pth", Place(scheme="file", path="net-0123abcd.pth")),
        (
            f"/data/best model.pth#sha256={DIGEST}&entry=model.ema&prefix=module.",
            Place(scheme="file", path="/data/best model.pth", sha256=DIGEST, entry="model.ema", prefix="module."),
        ),
        (
            "torchvision:X.Y#prefix=",  # nothing is to be taken off, whatever would fit
            Place(scheme="torchvision", path="X.Y", prefix=""),
        ),
        (f"c:/best.pth#sha256={DIGEST}", Place(scheme="file", path="c:/best.pth", sha256=DIGEST)),
    ],
)
def test_a_place_is_read(text: str, place: Place) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize(
    ("text", "name"),
    [(f"../runs/best.pth#sha256={DIGEST}", "best.pth"), ("package:some/it.pth", "it.pth"), ("net-0123abcd.pt", None)],
)
def test_the_name_is_that_of_the_file(text: str, name: str | None) -> None:
    assert read_place(text).name == (name or text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best.pth", "best.pth#sha256=<the 64 digits that `sha256sum` prints>"),
        ("../best.pth#entry=model", "nothing says what content it must have"),
        ("https://host/net.pth", "nothing says what content it must have"),
        ("net-0123.pth", "nothing says what content"),  # too few digits
        ("", "no path in it"),
        ("torchvision:", "no path in it"),
        ("#sha256=" + DIGEST, "no path in it"),
        ("ftp://host/net-0123abcd.pth", "expected torchvision:…, package:…, https://… or the path of a file"),
        ("best.pth#sha256=" + DIGEST[1:], "64 hexadecimal digits"),
        ("best.pth#sha256=" + DIGEST.upper(), "in lower case"),
        (f"best.pth#sha256={DIGEST}\n", "64 hexadecimal digits"),
        (f"best.pth#sha512={DIGEST}", "sha512 is not one of sha256, entry, prefix"),
        (f"best.pth#sha256={DIGEST}&entry=a&entry=b", "is there twice"),
        ("best.pth#" + DIGEST, "must be sha256=…, entry=… or prefix=…"),
    ],
)
def test_what_cannot_be_checked_or_understood_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_place(text)


@pytest.mark.parametrize("kind", ["torchscript", "export", "onnx"])
def test_a_program_has_a_kind_and_a_place(kind: str) -> None:
    assert read_program(f"{kind}:../net.bin#sha256={DIGEST}") == (
        kind,
        Place(scheme="file", path="../net.bin", sha256=DIGEST),
    )
    assert read_program(f"{kind}:https://host/net-0123abcd.bin")[1].scheme == "https"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tflite:net-0123abcd.tflite", "it must begin with torchscript: or export: or onnx:"),
        ("net-0123abcd.onnx", "it must begin with"),
        ("onnx:", "no path in it"),
        ("onnx:net.onnx", "net.onnx#sha256="),
    ],
)
def test_a_program_of_no_known_kind_or_content_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_program(text)
