"""Texts: folders and archives of .txt, tables with a column of text, hub data, lists; decoded with care.

A document is what one file, row or element holds.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from withheld.data.array import ListStore, labeled
from withheld.data.broken import KEPT
from withheld.data.decode import Raw
from withheld.data.elsewhere import copied
from withheld.data.layout import PARTS
from withheld.data.objects import plain, rows_of, splits_of
from withheld.data.source import Labels, Source, digest
from withheld.data.unicode import AS_WESTERN, western
from withheld.data.wanted import MARKDOWN, TEXTS, instead
from withheld.errors import InputError, nearest, neighbor
from withheld.wording import plural

MOST_BYTES = 2 << 30
MOST_WRONG = 0.1
"""Share of characters that may not be UTF-8; beyond it, a file is no text."""
PASSES = 16
"""Over a source that has more text than is asked for, at most."""
LINED = (".csv", ".tsv", ".jsonl", ".ndjson")
TABLES = (*LINED, *(f"{suffix}.gz" for suffix in LINED), ".parquet", ".pq")
JSON = (".json", ".json.gz")
"""Read as tables where they are named, or where nothing else is: beside other data they describe it."""


class Text(NamedTuple):
    """A document and what had to be mended, "" for nothing."""

    text: str
    mended: str


def decode_text(raw: Raw) -> Text:
    """Decodes one document: UTF-8 with or without BOM, UTF-16 with one, gzip.

    Raises:
        ValueError: for what is no text, with the reason.
    """
    if isinstance(raw, Exception):
        raise raw
    if isinstance(raw, str):
        return _whole(raw)
    if isinstance(raw, Path):
        raw = raw.read_bytes()
    if not isinstance(raw, bytes):
        raise ValueError(f"is {type(raw).__name__}, not text")
    raw = gunzipped(raw)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _kept(raw.decode("utf-16"), "")
    if b"\0" in raw[:4096]:
        raise ValueError("holds zero bytes and is no text")
    text = raw.decode("utf-8-sig", errors="replace")
    wrong = text.count("\ufffd")
    if wrong and (known := western(raw)) is not None:
        return _kept(known, f"it {AS_WESTERN}")
    if wrong > MOST_WRONG * len(text):
        raise ValueError(f"is not UTF-8: {wrong:,} of {len(text):,} characters cannot be read; save it as UTF-8")
    return _kept(
        text,
        f"{plural(wrong, 'character that is not UTF-8 was', 'characters that are not UTF-8 were')} replaced"
        if wrong
        else "",
    )


def _whole(text: str) -> Text:
    """Without halves of surrogate pairs, which JSON may hold and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        wrong = mended.count("\ufffd") - text.count("\ufffd")
        return _kept(
            mended,
            plural(wrong, "half of a surrogate pair was replaced", "halves of surrogate pairs were replaced")
            if wrong
            else "",
        )
    return _kept(text, "")


def _kept(text: str, mended: str) -> Text:
    if not text.strip():
        raise ValueError("is empty")
    return Text(text.replace("\r\n", "\n"), mended)


def gunzipped(raw: bytes) -> bytes:
    """The same, or what it holds where it is gzipped.

    Raises:
        ValueError: where that is more than `MOST_BYTES`.
        OSError, EOFError, zlib.error: where it is damaged.
    """
    if raw[:2] == b"\x1f\x8b":
        with gzip.open(io.BytesIO(raw)) as stream:
            raw = stream.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES >> 30} GB; split it")
    return raw


def documents(source: Source, bad: list[dict[str, str]]) -> Iterator[tuple[int, str]]:
    """Yields (position, document); what cannot be read, or had to be mended, goes to `bad` as {"file", "reason"}."""
    for position, raw in source.raw():
        try:
            text, mended = decode_text(raw)
        except Exception as error:  # damaged files raise anything
            bad.append({"file": source.names[position], "reason": str(error) or type(error).__name__})
            continue
        if mended:
            bad.append({"file": source.names[position], "reason": f"{KEPT}but {mended}"})
        yield position, text


def spread_documents(source: Source, characters: int) -> Iterator[str]:
    """Documents spread over the source, so many characters of them: its end may be in another language."""
    seen = 0
    mixed = np.random.default_rng(0).permutation(len(source))[:200_000]
    for part in np.array_split(mixed, min(PASSES, len(mixed))):  # in the order in which they lie, as archives are read
        for _, text in documents(source.subset(np.sort(part)), []):
            yield text[: characters - seen]
            seen += len(text)
            if seen >= characters:
                return


def open_texts(data: Any, labels: Labels = None) -> Source:
    """Opens whatever holds texts.

    Args:
        data: a folder, zip or tar of .txt files (class folders, train and test folders are understood), a folder of .md files that
            holds no other texts, a .txt, .md, .csv, .tsv, .jsonl, .json (each gzipped or not) or Parquet file (its column of text
            is found, or named as in reviews.csv:body), "hf:NAME", a list or Series of strings, (strings, labels), a table of
            pandas, or a `datasets` Dataset.
        labels: as `withheld.data.source.open_source`.

    Raises:
        InputError: where there is nothing to read, saying what was looked for.
    """
    if isinstance(data, Source):
        return data
    if not isinstance(data, str | os.PathLike):
        return _open_list(data, labels)
    text = copied(os.fsdecode(data), "texts")
    if text.startswith("hf:"):
        from withheld.data.text_table import open_text_hub

        return open_text_hub(text, labels)
    path, column = _path_of(text)
    if path.is_dir():
        return _named_parts(_open_folder(path, text, labels))
    if not path.is_file():
        raise InputError(f"there is no file or folder {text!r}{neighbor(path)}; give a folder or file of texts")
    return _named_parts(_open_file(path, text, labels, column))


def _path_of(text: str) -> tuple[Path, str | None]:
    """A path, and the column where one is named after a colon."""
    path = Path(text).expanduser()
    head, colon, column = text.rpartition(":")
    if not path.exists() and colon and head.lower().endswith((*TABLES, *JSON)):
        return Path(head).expanduser(), column
    return path, None


def _open_folder(root: Path, text: str, labels: Labels) -> Source:
    from withheld.data.folder import ARCHIVES, scan_folder, source_of
    from withheld.data.text_table import open_text_tables

    # notes and settings may lie beside texts, tables and archives
    for kind, suffixes in ((TEXTS, TABLES), (MARKDOWN, JSON)):
        scan = scan_folder(root, kind)
        if scan.items:
            return source_of(scan, root, text, labels)
        tables = sorted(name for name in scan.others if name.lower().endswith(suffixes))
        if tables:
            return open_text_tables([root / name for name in tables], text, labels, None, root)
        archives = [name for name in scan.others if "/" not in name and name.lower().endswith(ARCHIVES)]
        if len(archives) == 1:
            return _open_file(root / archives[0], text, labels, None)
        if archives:
            raise InputError(f"{text} holds {len(archives)} archives ({', '.join(archives[:5])}); give one of them")
    told = f"; it holds {', '.join(sorted(scan.others)[:3])}" if scan.others else ""
    raise InputError(
        f"found 0 texts under {text}; looked for .txt, .md, {', '.join((*TABLES, *JSON))} and archives of .txt files{told}"
        f"{instead(scan.others)}"
    )


def _open_file(path: Path, text: str, labels: Labels, column: str | None) -> Source:
    from withheld.data.archive import open_archive
    from withheld.data.folder import open_one
    from withheld.data.text_table import open_text_tables

    if path.name.lower().endswith((*TABLES, *JSON)):
        return open_text_tables([path], text, labels, column)
    if TEXTS.named(path.name) or MARKDOWN.named(path.name):
        return open_one(path, text, labels)
    if (found := open_archive(path, text, labels, TEXTS)) is not None:
        return found
    hint = nearest(path.suffix, [*sorted(TEXTS.suffixes | MARKDOWN.suffixes), *TABLES, *JSON])
    raise InputError(
        f"{text!r} is not a kind of text that is read here ({hint}): give a folder of .txt files, a .txt, .md, .csv, .tsv, "
        ".jsonl, .json or Parquet file, a zip or tar of .txt files, or hf:NAME"
    )


def _named_parts(source: Source) -> Source:
    """Where folders say nothing of train and test, the names of the files may: ptb.train.txt, ptb.test.txt."""
    if source.parts is not None or source.labels is not None:
        return source
    found = np.array([part_of(name.rsplit("/", 1)[-1]) for name in source.names])
    if len(found) > 1 and (found != "").all() and len(set(found.tolist())) > 1:
        source.parts = found
    return source


def part_of(name: str) -> str:
    """The part that a file's name tells of, "" where it tells none."""
    words = name.lower()
    for mark in "-_.":
        words = words.replace(mark, "/")
    known = {**PARTS, "dev": "val"}
    return next((known[word] for word in words.split("/") if word in known), "")


def _open_list(data: Any, labels: Labels) -> Source:
    from withheld.data.text_table import open_text_rows, open_text_splits

    data = plain(data)
    if (splits := splits_of(data)) is not None:
        return open_text_splits(splits, f"{type(data).__name__} in memory", labels)
    if (rows := rows_of(data)) is not None:
        return open_text_rows(rows, f"{type(data).__name__} in memory", labels)
    own: Any = None
    if isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], str):
        data, own = data
    texts = [data] if isinstance(data, str) else list(data)
    wrong = next((i for i, value in enumerate(texts) if not isinstance(value, str)), None)
    if wrong is not None:
        raise InputError(f"element {wrong} of the texts is {type(texts[wrong]).__name__}; give strings")
    if not texts:
        raise InputError("the list of texts is empty")
    names = [f"text:{i}" for i in range(len(texts))]
    source = Source("texts in memory", "array", names, ListStore(list(texts)), digest(texts))
    return labeled(source, labels, own, "labels were asked for: give (texts, labels)")
