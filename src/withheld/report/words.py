"""Words as a model saw them, colored by how much it expected them."""

from __future__ import annotations

from typing import Any

from withheld.report.clean import clean
from withheld.report.folder import Contents, number, objects, texts

LEVELS = ((0.5, 1, "50 % and more"), (0.1, 2, "10 to 50 %"), (0.01, 3, "1 to 10 %"), (0.0, 4, "below 1 %"))
MASKED = (
    "Texts the run never learned from. Colored words were hidden; the color is the probability the model gave the true one, "
    "and pointing at it tells what it thought of instead."
)
CAUSAL = "Texts the run never learned from; the color of a word is the probability it had given the words before it."


def read_words(found: Contents) -> dict[str, Any]:
    """Texts as lists of {"text", "level", "told"}; nothing where the run has none."""
    lists = found.words.get("texts")
    if not isinstance(lists, list) or not lists:
        return {}
    texts = [[_token(entry) for entry in objects(tokens)] for tokens in lists[:12]]
    said = MASKED if found.words.get("masked") else CAUSAL
    return {"texts": texts, "said": said, "legend": [(level, meaning) for _, level, meaning in LEVELS]}


def read_table(found: dict[str, Any]) -> dict[str, Any]:
    """A table of texts {"header", "rows", "said"}; nothing where there is none, or its rows do not fit its header."""
    header, said = texts(found.get("header")), found.get("said")
    rows = [texts(row) for row in found["rows"]] if isinstance(found.get("rows"), list) else []
    if not header or not rows or any(len(row) != len(header) for row in rows):
        return {}
    return {"header": header, "rows": rows, "said": said if isinstance(said, str) else ""}


def _token(entry: dict[str, Any]) -> dict[str, Any]:
    p = number(entry.get("p"))
    text = clean(entry.get("text", ""))
    if p is None:
        return {"text": text, "level": 0, "told": ""}
    level = next(level for least, level, _ in LEVELS if p >= least)
    guess = f", the model thought of {clean(entry['guess']).strip()!r}" if entry.get("guess") else ""
    return {"text": text, "level": level, "told": f"{100 * p:.1f} %{guess}"}
