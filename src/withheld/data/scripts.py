"""Writing that is not English: scripts without spaces between words, and marks that are letters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
"""Characters of Chinese and Japanese, each of which is a word to BERT's normalizer; as a class of a regular expression."""
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\uff66-\uff9f" + IDEOGRAPHS
"""Of scripts that put no space between words: Thai, Lao, Burmese, Khmer, kana, ideographs; as a class of a regular expression."""
WORD = rf"[^\W{UNSPACED}]{{2,}}|[{UNSPACED}]"
"""A word of two letters or more, or one character of a script without spaces."""
FEW = 0.005
"""The share of letters that may lose their marks."""

_IDEOGRAPH, _UNSPACED = re.compile(f"[{IDEOGRAPHS}]"), re.compile(f"[{UNSPACED}]")


def is_ideograph(character: str) -> bool:
    """Whether BERT's normalizer sets it apart as a word of its own."""
    return _IDEOGRAPH.match(character) is not None


def is_sentence(text: str) -> bool:
    """Whether there are words: several with letters, or some characters of a script without spaces."""
    text = text.strip()
    return (" " in text and any(c.isalpha() for c in text)) or len(_UNSPACED.findall(text[:1000])) > 4


def marks_are_letters(counts: Counter[str]) -> bool:
    """Whether taking marks away, as an uncased BERT does, would make other words of these characters.

    Of Latin letters they are accents, and few words differ by them alone. In Thai and Hindi they are vowels, in Japanese they tell
    ga from ka, and in Russian they tell two letters apart.
    """
    letters = sum(count for c, count in counts.items() if c.isalpha() or unicodedata.combining(c))
    lost = 0
    for character, count in counts.items():
        parts = unicodedata.normalize("NFD", character)
        marked = any(unicodedata.category(part) == "Mn" for part in parts)
        if marked and not unicodedata.name(parts[0], "").startswith(("LATIN", "COMBINING")):
            lost += count
    return lost > FEW * letters
