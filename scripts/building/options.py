"""The options of the build of one archive."""

from pathlib import Path
from typing import Final, Literal

import msgspec

from scripts.archives.format import Format
from scripts.archives.name import ArchiveName
from scripts.archives.store import STORE
from scripts.torchserve.server import STATE_FOLDER

TorchScriptMethod = Literal["trace", "script"]

NEXT: Final = "next"  # VERSION=next
TUNED: Final = Path("tuned")  # the settings that `make tune` found, a file for each model


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to build."""

    recipe: Path
    runtime: str = "eager"
    precision: str = "float32"
    weights: str = "auto"
    version: str | None = None  # the recipe's if None; NEXT for the next free one
    force: bool = False  # whether a version that no server has may be replaced by another content
    same_weights: str | None = None  # SHA-256 of the only weights to build with
    archive_format: Format = "zip-store"
    torchscript: TorchScriptMethod = "trace"
    golden: Path | None = None
    calibration: Path | None = None
    store: Path = STORE
    cache: Path = Path("weights")
    tuned: Path = TUNED
    state: Path = STATE_FOLDER  # of the server whose versions are never replaced

    def name(self, model: str, version: str) -> ArchiveName:
        """The name of the archive's file."""
        return ArchiveName(
            model=model,
            runtime=self.runtime,
            precision=self.precision,
            version=version,
            archive_format=self.archive_format,
        )

    def json(self) -> bytes:
        """Encode the options as JSON, for `read`."""
        return msgspec.json.encode(self, enc_hook=str)

    @classmethod
    def read(cls, text: str) -> "Options":
        """Decode options that `json` has encoded."""
        return msgspec.json.decode(text, type=cls, dec_hook=lambda kind, value: kind(value))
