"""Bytes of a table to text: UTF-8 with or without BOM, the UTF-16 that spreadsheets save as "Unicode text", and Windows-1252."""

from __future__ import annotations

import codecs
import itertools
import re

from withheld.errors import InputError

MARKS = frozenset(
    bytes.fromhex("80 82 84 85 8b 91 92 93 94 95 96 97 99 9b a0 a1 a3 a7 a9 ab ae b0 b4 b7 bb bc bd be bf").decode(
        "cp1252"
    )
)
"""What Western texts hold beside letters: quotation marks, dashes, signs of money and degrees."""
UTF_8 = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")
ODD = 0.02
"""Share of other characters that real texts may hold."""
TOGETHER = 0.4
"""Share of the characters that are not ASCII which may be followed by another one: letters with accents stand apart."""
AS_WESTERN = "is not UTF-8 and was read as Windows-1252 (Western European); where letters look wrong, save it as UTF-8"


def is_utf16(data: bytes) -> bool:
    """Whether a file begins with the mark of UTF-16."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def western(data: bytes) -> str | None:
    """The text of bytes that are Windows-1252, of which Latin-1 is a part; None where they do not look like it.

    They do where what is not ASCII are letters and marks of Western languages that mostly stand apart, and nothing looks like
    UTF-8, of which a part may be damaged.
    """
    if UTF_8.search(data):
        return None
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    at = [i for i, c in enumerate(text) if c > "\x7f"]
    odd = sum(text[i] not in MARKS and (not text[i].isalpha() or text[i] in "ªµºÿ") for i in at)
    if odd > ODD * len(at):
        return None
    together = sum(b - a == 1 for a, b in itertools.pairwise(at))
    return text if at and together <= TOGETHER * len(at) else None


def table_text(data: bytes, shown: str, notes: list[str] | None = None) -> str:
    """The text of a table.

    Args:
        data: contents of the file.
        shown: its name in messages.
        notes: is told where the file was read as Windows-1252; None refuses such files.

    Raises:
        InputError: where it is none of these, with the line.
    """
    try:
        return data.decode("utf-16" if is_utf16(data) else "utf-8-sig")
    except UnicodeDecodeError as error:
        if is_utf16(data):
            raise InputError(f"{shown}: begins as UTF-16 and is not: {error.reason}; save the file as UTF-8") from None
        text = None if notes is None else western(data)
        if text is not None and notes is not None:
            notes.append(f"{shown} {AS_WESTERN}")
            return text
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{shown}:{line}: the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
