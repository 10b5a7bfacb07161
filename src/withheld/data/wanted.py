"""Which files of a folder or archive are items."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from withheld.data.decode import SUFFIXES, is_animated


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
MARKDOWN = Wanted("texts", frozenset((".md", ".markdown")))
"""Texts where nothing else is: beside other data these are notes on it."""


OTHERS = {
    "clips": ("video", (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")),
    "texts, or rows of numbers (mixture)": ("text", (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")),
}
PAGES = (
    ".html", ".htm", ".xml", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".tex", ".rst", ".log", ".srt", ".py", ".ipynb",
    ".js", ".ts", ".java", ".c", ".h", ".cpp", ".cs", ".go", ".rs", ".r", ".sql", ".css", ".yaml", ".yml", ".eml",
)  # fmt: skip
"""Documents and code, which are texts under another name or behind marks."""
UNREAD = frozenset(
    (".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf")
)
"""Pictures of kinds that are not read here."""
UNREAD_CLIPS = frozenset((".wmv", ".asf", ".flv", ".mts", ".m2ts", ".vob", ".rm", ".rmvb", ".m2v", ".divx", ".f4v"))
"""Videos of kinds that are not read here."""
NOT_ITEMS = UNREAD | UNREAD_CLIPS | frozenset(OTHERS["clips"][1])
"""How files beside images end that are told of."""
MOST_NAMES = 10_000
SOME_GIFS = 8
"""That are opened to see whether they are clips or pictures."""


def instead(names: Iterable[str]) -> str:
    """What files are that are no images, for an error: "; these are clips: ..." or nothing where it cannot be told."""
    ends = sorted({_ending(name) or name.lower() for name in names})
    for what, (modality, suffixes) in OTHERS.items():
        if any(end in suffixes for end in ends):
            return f"; these are {what}, for methods and runs of another kind (withheld list --modality {modality})"
    for kinds, remedy in (
        (UNREAD, "pictures are not read here: save them as JPEG or PNG"),
        (UNREAD_CLIPS, "videos are not read here: save them as .mp4"),
    ):
        found = [end for end in ends if end in kinds]
        if found:
            return f"; {' and '.join(found)} {remedy}"
    pages = [end for end in ends if end in PAGES]
    if pages:
        return (
            f"; what {pages[0]} files say is learned from where it is saved as plain text, .txt (code: copied under that name; "
            "pages and documents: without their marks)"
        )
    return ""


def clips_beside(names: Iterable[str]) -> str:
    """Says how many files beside images are clips; "" where none is."""
    ends = Counter(end for name in names if (end := Path(name).suffix.lower()) in OTHERS["clips"][1])
    told = ", ".join(f"{count:,} with {end}" for end, count in ends.items())
    return told and (
        f"clips beside these ({told}) are not counted: methods for clips learn from them, and from folders of frames (such as "
        "withheld pretrain videomae; all of them: withheld list --modality video)"
    )


def unread_beside(names: Iterable[str], kinds: frozenset[str]) -> str:
    """Says how many files beside the items are pictures, or videos, of `kinds` that are not read; "" where none is."""
    ends = Counter(end for name in names if (end := Path(name).suffix.lower()) in kinds)
    if not ends:
        return ""
    what, remedy = ("pictures", "JPEG or PNG") if kinds is UNREAD else ("videos", ".mp4")
    told = ", ".join(f"{count:,} with {end}" for end, count in ends.items())
    return (
        f"{what} beside these ({told}) are of kinds that are not read here and are not counted: save them as {remedy}"
    )


def _ending(name: str) -> str:
    """How a name ends, gzipped or not."""
    return Path(name.lower().removesuffix(".gz")).suffix


def named_modality(data: object) -> str:
    """What the names of files tell of: "video" where clips are more than images, "text" of texts alone (of Markdown, where it
    is most of what is there), else "image". A .gif is a clip where most of the first that are opened move."""
    if not isinstance(data, str | os.PathLike):
        return "image"
    path = Path(os.fsdecode(data)).expanduser()
    files = (Path(at, name) for at, _, names in os.walk(path) for name in names) if path.is_dir() else iter([path])
    seen = list(itertools.islice(files, MOST_NAMES))
    kinds = {end: modality for modality, ends in OTHERS.values() for end in ends} | dict.fromkeys(SUFFIXES, "image")
    kinds |= dict.fromkeys(MARKDOWN.suffixes, "notes")
    gifs = [file for file in seen if _ending(file.name) == ".gif"][:SOME_GIFS]
    if 2 * sum(map(is_animated, gifs)) > len(gifs):
        kinds[".gif"] = "video"
    found = Counter(kinds.get(_ending(file.name)) for file in seen)
    if found["video"] > found["image"]:
        return "video"
    texts = found["text"] or found["notes"] > found[None]
    return "text" if texts and not found["image"] else "image"
