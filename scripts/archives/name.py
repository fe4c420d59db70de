"""The name of an archive's file: which version of which model it is, for which runtime and precision."""

import re
from typing import Final, Self, get_args

import msgspec
from classifier.recipe import Precision, RuntimeName

from scripts.archives.format import SUFFIX, Format

_FORMATS: Final[dict[str, Format]] = {suffix: name for name, suffix in SUFFIX.items()}
_PATTERN: Final = re.compile(
    rf"(?P<model>[^-]+)-(?P<runtime>{'|'.join(get_args(RuntimeName))})(-(?P<precision>{'|'.join(get_args(Precision))}))?"
    rf"(-(?P<version>[0-9]+(\.[0-9]+)*))?(?P<suffix>{'|'.join(map(re.escape, filter(None, _FORMATS)))}|)"
)


class ArchiveName(msgspec.Struct, frozen=True, kw_only=True):
    """`<model>-<runtime>[-<precision>][-<version>]` with the suffix of the format; float32 is left out.

    The file of an archive has a version in its name. A name without one stands for the newest version.
    """

    model: str
    runtime: str
    precision: str = "float32"
    version: str | None = None
    archive_format: Format = "zip-store"

    def __str__(self) -> str:
        """The name as it is written."""
        parts = (self.model, self.runtime, "" if self.precision == "float32" else self.precision, self.version)
        return "-".join(filter(None, parts)) + SUFFIX[self.archive_format]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The name that `str` has written; None if the text is no name of an archive."""
        found = _PATTERN.fullmatch(text)
        if found is None:
            return None
        return cls(
            model=found["model"],
            runtime=found["runtime"],
            precision=found["precision"] or "float32",
            version=found["version"],
            archive_format=_FORMATS[found["suffix"]],
        )

    @property
    def variant(self) -> tuple[str, str, str]:
        """Model, runtime and precision: what all versions of an archive have in common."""
        return self.model, self.runtime, self.precision

    @property
    def age(self) -> tuple[int, ...]:
        """Sorts versions: 1.10 is newer than 1.9. A name without a version is older than all."""
        return numbers(self.version or "")


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, in which versions are compared."""
    return tuple(int(number) for number in version.split(".") if number)
