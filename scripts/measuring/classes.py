"""Which class of a model a name means: the name of a folder, or a word in a file of labels."""

import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches

from classifier.labels import Label

from scripts.console import UserError


class Classes:
    """A model's classes, by id and by name."""

    def __init__(self, labels: Sequence[Label]) -> None:
        """Args: labels: the classes, in the order of the logits."""
        self._exact: dict[str, dict[str, Label]] = {}
        self._folded: dict[str, dict[str, Label]] = {}
        for label in labels:
            for name in (label.class_id, label.class_name):
                self._exact.setdefault(name, {}).setdefault(label.class_id, label)
                self._folded.setdefault(folded(name), {}).setdefault(label.class_id, label)

    def find(self, name: str, where: str) -> str | None:
        """The id of the class that has this id or name; without such a one, of the class whose id or name is alike.

        Args:
            name: as it is spelt.
            where: what has this name, for the message.

        Returns:
            None if there is no such class.

        Raises:
            UserError: several classes have it; the message has all of them.
        """
        found = self._exact.get(name) or self._folded.get(folded(name)) or {}
        if len(found) > 1:
            candidates = " or ".join(f"{label.class_id} ({label.class_name})" for label in found.values())
            raise UserError(f"{where}: {name} may be class {candidates}; give it the id of the class for a name")
        return next(iter(found), None)

    def nearest(self, name: str) -> str | None:
        """The id or name of a class that is spelt most like this."""
        return next(iter(get_close_matches(name, self._exact, n=1)), None)


def folded(name: str) -> str:
    """A name without what file systems and typists change: composition of letters, case, underscores for spaces."""
    composed = unicodedata.normalize("NFC", name).casefold().replace("_", " ")
    return unicodedata.normalize("NFC", composed)  # folding can take letters apart
