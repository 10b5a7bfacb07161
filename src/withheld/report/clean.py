"""Makes text that strangers chose (file names, class names, commands, error messages) safe to show.

Escaping HTML is not enough: a lone surrogate cannot be written as UTF-8, NUL and control characters damage the page,
and right-to-left overrides make a name read as another one. They are shown as `\\x00` and `\\u202e`.
"""

from __future__ import annotations

import re
from typing import Any

from withheld.redact import redact

LONGEST = 2000

# Control characters but tab and newline, lone surrogates, marks that change the reading direction, and noncharacters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)


def clean(value: Any) -> str:
    """Text that can be written as UTF-8 and reads as what it is, without secrets; not yet escaped for HTML."""
    return redact(_UNSAFE.sub(_visible, str(value)))


def one_line(value: Any) -> str:
    """Like `clean`, for names: tabs and newlines are shown as `\\t` and `\\n`, and there is an end to them."""
    text = clean(value).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def shorten(value: Any, longest: int) -> str:
    """A name that fits: the middle is left out, because the ends of paths tell them apart."""
    text = one_line(value)
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[-(longest - 1 - head) :]}"


def tail(value: Any, parts: int = 2) -> str:
    """The last folders of a path and its file, which tell pictures apart."""
    kept = one_line(value).replace("\\", "/").split("/")
    return shorten("/".join(kept[-parts:]), 60)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, kept by the surrogateescape handler
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
