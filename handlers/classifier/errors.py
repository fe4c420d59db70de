"""What can be wrong with the files that a model is made of. What can be wrong with a request is in problems.py."""


class UnusableError(ValueError):
    """A recipe, label file, state_dict or the like cannot be used. The message names the file and the fault."""


class BrokenArchiveError(Exception):
    """An archive is not what was built; the message says what differs."""
