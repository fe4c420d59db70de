"""Reads a compressed archive without letting it become much larger than its file."""

import gzip
import io
from pathlib import Path
from typing import Final

# Weights hardly compress, and heavily pruned ones to a tenth; gzip can reach 1:1000.
_MAX_RATIO: Final = 100


class Unpacked(gzip.GzipFile):
    """The unpacked content of a file, which may be at most 100 times as large as the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._limit = _MAX_RATIO * path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        """Read as from any file.

        Raises:
            ValueError: the unpacked content would be too large.
        """
        if size is None or size < 0 or self.tell() + size > self._limit:
            raise ValueError(f"unpacked it would be over {_MAX_RATIO} times as large")
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset from the start, within the limit."""
        if offset > self._limit:
            raise ValueError(f"unpacked it would be over {_MAX_RATIO} times as large")
        return super().seek(offset, whence)
