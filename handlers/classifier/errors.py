"""Errors in the files that make up a model. Errors in a request are in problems.py."""

from typing import Final

import msgspec

# What msgspec raises for content of another type than expected; UnicodeError is for strings that are not Unicode.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeError)


class UnusableError(ValueError):
    """A recipe, label file, state_dict or the like cannot be used. The message names the file and the fault."""


class BrokenArchiveError(Exception):
    """An archive differs from what was built; the message names the difference."""


class ForeignArchiveError(BrokenArchiveError):
    """An archive that this project did not make, so that it has nothing to be checked against; says what to do."""
