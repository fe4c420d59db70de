"""The options of the build of one archive."""

from pathlib import Path
from typing import Final, Literal

import msgspec

from scripts.archives.format import Format
from scripts.archives.store import STORE

TorchScriptMethod = Literal["trace", "script"]

TUNED: Final = Path("tuned")  # the settings that `make tune` found, a file for each model


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to build."""

    recipe: Path
    runtime: str = "eager"
    precision: str = "float32"
    weights: str = "auto"
    version: str | None = None
    archive_format: Format = "zip-store"
    torchscript: TorchScriptMethod = "trace"
    golden: Path | None = None
    calibration: Path | None = None
    store: Path = STORE
    cache: Path = Path("weights")
    tuned: Path = TUNED

    def json(self) -> bytes:
        """Encode the options as JSON, for `read`."""
        return msgspec.json.encode(self, enc_hook=str)

    @classmethod
    def read(cls, text: str) -> "Options":
        """Decode options that `json` has encoded."""
        return msgspec.json.decode(text, type=cls, dec_hook=lambda kind, value: kind(value))
