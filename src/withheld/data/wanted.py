"""Which files of a folder or archive are items."""

from __future__ import annotations

from dataclasses import dataclass

from withheld.data.decode import SUFFIXES


@dataclass(frozen=True)
class Wanted:
    """Items of one kind, known by how their names end.

    Attributes:
        noun: what errors call them, "images".
        suffixes: in lower case.
    """

    noun: str
    suffixes: frozenset[str]

    def named(self, name: str) -> bool:
        """Whether a file of this name is one."""
        return name.lower().endswith(tuple(self.suffixes))

    def __str__(self) -> str:
        return self.noun


IMAGES = Wanted("images", SUFFIXES)
TEXTS = Wanted("texts", frozenset((".txt", ".txt.gz", ".text")))
