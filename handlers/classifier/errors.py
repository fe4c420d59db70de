"""What can be wrong with the files that a model is made of. What can be wrong with a request is in problems.py."""

from typing import Final

import msgspec

# What msgspec raises for content that is not what was asked for; the second for strings that are not Unicode.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeError)


class UnusableError(ValueError):
    """A recipe, label file, state_dict or the like cannot be used. The message names the file and the fault."""


class BrokenArchiveError(Exception):
    """An archive is not what was built; the message says what differs."""
