"""Tokens and passwords taken out of texts that are kept or shown."""

from __future__ import annotations

import re

_SECRETS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), "hf_[removed]"),
    (re.compile(r"(?<=://)[^/\s@'\"]+@"), "[removed]@"),
    (re.compile(r"(?i)\b([a-z0-9_]*(?:token|secret|password|api_?key)=)[^\s&'\"]+"), r"\1[removed]"),
)


def redact(text: str) -> str:
    """The text without what looks like a token, a password in an address, or the value of a setting named so."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
