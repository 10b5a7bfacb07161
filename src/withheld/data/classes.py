"""What the names of classes tell of labels that are perhaps not meant as they stand."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from withheld.wording import plural

SHOWN = 3
DATE = re.compile(r"(?:19|20)\d\d(?!\d)(?:[-_. ]?\d\d){0,2}(?!\d)|(?:19|20)\d{6}(?!\d)")
BETWEEN = re.compile(r"[|;,]")


def doubtful_classes(classes: Sequence[str]) -> list[str]:
    """Remarks on classes that differ in nothing but case and spaces, on several labels in one cell, and on dates."""
    return [*_alike(classes), *_several(classes), *_dates(classes)]


def are_dates(names: Sequence[str]) -> bool:
    """Whether all names begin as years or dates do: 2019, 2019-04, 2019-04-05 Seaside."""
    return len(names) > 1 and all(DATE.match(name) for name in names)


def _dates(classes: Sequence[str]) -> list[str]:
    if not are_dates(classes):
        return []
    shown = ", ".join(map(repr, classes[:SHOWN])) + (", ..." if len(classes) > SHOWN else "")
    return [
        f"the classes are years or dates ({shown}): where these are no labels but how the files are sorted, name a csv "
        "(file,label) with --labels, or put the files into a folder per class"
    ]


def _alike(classes: Sequence[str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    same = [names for names in groups.values() if len(names) > 1]
    if not same:
        return []
    told = "; ".join(" and ".join(map(repr, names)) for names in same[:SHOWN])
    more = f"; and {len(same) - SHOWN:,} more" if len(same) > SHOWN else ""
    return [
        f"classes that differ in nothing but case or spaces count as different ones ({told}{more}): where they are one, write "
        "them alike"
    ]


def _several(classes: Sequence[str]) -> list[str]:
    """Names such as "drama|comedy" whose every part is a class, or a part of another such name, too."""
    parts = {name: {part.strip(" []{}()'\"") for part in BETWEEN.split(name)} - {""} for name in classes}
    times: dict[str, int] = {}
    for some in parts.values():
        for part in some:
            times[part] = times.get(part, 0) + 1
    joined = [name for name, some in parts.items() if len(some) > 1 and all(times[part] > 1 for part in some)]
    if not joined:
        return []
    are = plural(len(joined), "class looks", "classes look")
    return [
        f"{are} like several labels at once (such as {joined[0]!r}): an item has one label here, so each such list is a class of "
        "its own. For several labels an item, make one csv for each label, which tells yes or no, and judge them one by one"
    ]
