"""Bytes of a table to text: UTF-8 with or without BOM, and the UTF-16 that spreadsheets save as "Unicode text"."""

from __future__ import annotations

import codecs

from withheld.errors import InputError


def is_utf16(data: bytes) -> bool:
    """Whether a file begins with the mark of UTF-16."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def table_text(data: bytes, shown: str) -> str:
    """The text of a table.

    Args:
        data: contents of the file.
        shown: its name in messages.

    Raises:
        InputError: where it is neither, with the line.
    """
    try:
        return data.decode("utf-16" if is_utf16(data) else "utf-8-sig")
    except UnicodeDecodeError as error:
        if is_utf16(data):
            raise InputError(f"{shown}: begins as UTF-16 and is not: {error.reason}; save the file as UTF-8") from None
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{shown}:{line}: the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
