"""Which item a row of a csv names, however its path is written."""

from __future__ import annotations

import difflib
import itertools
import unicodedata
from collections.abc import Sequence


class Absent(str):
    """What is said of a row whose item is not among the data."""


def as_cell(text: str) -> str:
    """A name as a csv holds it: UTF-8 whatever bytes the disk gave it, and nothing a spreadsheet would compute."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def shown_cell(word: str) -> str:
    return repr(word if len(word) <= 80 else f"{word[:77]}...")


def slashes(name: str) -> str:
    return name.strip().replace("\\", "/")


def shared_folders(files: list[str]) -> list[str]:
    """Folders that all rows begin with, the outermost first: "/data/", "/data/photos/", of another machine perhaps, or "photos/"
    where a csv was written beside the folder."""
    folders = [slashes(file).split("/")[:-1] for file in files]
    if not folders:
        return []
    same = itertools.takewhile(lambda two: two[0] == two[1], zip(min(folders), max(folders), strict=False))
    return list(itertools.accumulate(f"{one}/" for one, _ in same))


class Names:
    """Finds items by exact name, then without what rows commonly leave out, as long as that is unique."""

    def __init__(self, names: Sequence[str], root: str) -> None:
        self.names = names
        self.maps: list[dict[str, int | None]] = []
        prefix = f"{root}/" if root else ""
        for view in (
            lambda n: n,
            lambda n: unicodedata.normalize("NFC", n),
            lambda n: n.removeprefix(prefix),
            lambda n: n.rsplit("/", 1)[-1],
            lambda n: n.rsplit(".", 1)[0],
            lambda n: n.rsplit("/", 1)[-1].rsplit(".", 1)[0],
            lambda n: as_cell(n).strip(),
        ):
            found: dict[str, int | None] = {}
            for i, name in enumerate(names):
                key = view(name)
                found[key] = None if key in found else i
            self.maps.append(found)

    def find(self, name: str) -> int | None:
        plain = name.replace("\\", "/").removeprefix("./")
        for key in dict.fromkeys((name, plain, unicodedata.normalize("NFC", plain))):
            for found in self.maps:
                if found.get(key) is not None:
                    return found[key]
        return None

    def exact(self, name: str) -> int | None:
        """By the whole name, or by all of it but the folder that all items share."""
        name = unicodedata.normalize("NFC", name)
        return next((found[name] for found in self.maps[:3] if found.get(name) is not None), None)

    def complain(self, name: str, hint: bool) -> str:
        if not name:
            return "the file name is empty"
        if any(name in found for found in self.maps):
            return f"{shown_cell(name)} names more than one item; write the path from the top folder"
        close = difflib.get_close_matches(name, self._near(name), n=1, cutoff=0.5) if hint else []
        nearest_name = f"; did you mean {shown_cell(close[0])}?" if close else ""
        return Absent(f"no item {shown_cell(name)} among the {len(self.names):,} of the data{nearest_name}")

    def _near(self, name: str) -> list[str]:
        # matching is slow, so of many names only those that begin or end alike are compared
        if len(self.names) <= 500:
            return list(self.names)
        tail, head = name.rsplit("/", 1)[-1], name[:3]
        alike = [n for n in self.names if n.startswith(head) or n.endswith(tail[-5:])]
        return list((alike or self.names)[:500])
