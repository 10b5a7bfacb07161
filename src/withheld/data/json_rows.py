"""Rows of JSON: lines of objects, an array of them, or one object; chats are texts, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from withheld.errors import InputError

DEEPEST = 8
"""Objects within objects whose columns are named, review.text; what lies deeper stays as it is."""

SAID, SAYS = ("content", "value", "text"), ("role", "from", "speaker")
"""How messages of a chat call what is said, and who says it."""


def flat(row: dict[str, Any], depth: int = DEEPEST) -> dict[str, Any]:
    """A row whose objects are columns of their own: {"review": {"text": ...}} has the column "review.text".

    An object that holds bytes is an image or a clip, and stays whole.
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and depth and "bytes" not in value:
            found |= {f"{name}.{inner}": cell for inner, cell in flat(value, depth - 1).items()}
        else:
            found[name] = value
    return found


def cell_text(cell: Any) -> str:
    """A list, of paragraphs say, is a line each; so are the messages of a chat, with who says them."""
    return "\n".join(map(_line, cell)) if isinstance(cell, list) else str(cell)


def is_worded(cell: Any) -> bool:
    """Whether a cell is a text, several, or a chat."""
    return isinstance(cell, str) or (isinstance(cell, list) and bool(cell) and isinstance(cell[0], str | dict))


def _line(part: Any) -> str:
    said = (
        next((part[name] for name in SAID if isinstance(part.get(name), str)), None) if isinstance(part, dict) else None
    )
    if said is None:
        return str(part)
    who = next((part[name] for name in SAYS if isinstance(part.get(name), str)), "")
    return f"{who}: {said}" if who else said


def rows_of_lines(content: str, shown: str) -> Iterator[dict[str, Any]]:
    """Rows of JSON lines.

    Raises:
        InputError: for a line that is no object and no text.
    """
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{shown}:{number}: {error}; every line is one JSON object") from None
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise InputError(f"{shown}:{number}: {type(row).__name__} where an object with a text is wanted")
        yield flat(row)


def rows_of_json(content: str, shown: str) -> Iterator[dict[str, Any]]:
    """Rows of a .json file: an array of objects or texts, an object that holds one (`{"data": [...]}`), columns as pandas writes
    them, one object, which is a row, or JSON lines.

    Raises:
        InputError: where it is none of these, with the place.
    """
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as error:
        first = content.lstrip()[:1]
        if first == "{" and "Extra data" in str(error):
            yield from rows_of_lines(content, shown)
            return
        raise InputError(f"{shown} is no JSON: {error}; get it again, or mend it there") from None
    rows = _array_in(whole, shown) if isinstance(whole, dict) else whole
    if not isinstance(rows, list):
        raise InputError(
            f"{shown} holds {type(whole).__name__}, where an array of objects with a text, or of texts, is wanted"
        )
    for number, row in enumerate(rows):
        if not isinstance(row, str | dict):
            raise InputError(
                f"{shown}: element {number} is {type(row).__name__}, where an object with a text, or a text, is wanted"
            )
        yield {"text": row} if isinstance(row, str) else flat(row)


def _array_in(whole: dict[str, Any], shown: str) -> list[Any]:
    """The rows that an object holds; itself where it holds none."""
    if whole and all(
        isinstance(cells, dict) and cells.keys() == next(iter(whole.values())).keys() for cells in whole.values()
    ):
        return [{name: whole[name][key] for name in whole} for key in next(iter(whole.values()))]
    arrays = {
        name: cells for name, cells in whole.items() if isinstance(cells, list) and cells and isinstance(cells[0], dict)
    }
    arrays = {name: cells for name, cells in arrays.items() if not any(said in cells[0] for said in SAYS)}
    if {"images", "annotations", "categories"} <= whole.keys():
        raise InputError(f"{shown} lists the boxes of images: --boxes of withheld evaluate and finetune takes it")
    if len(arrays) > 1:
        raise InputError(
            f"{shown} holds several arrays ({', '.join(arrays)}): write the one with the texts to a file of its own, as an array"
        )
    if arrays:
        return next(iter(arrays.values()))
    texts = [cells for cells in whole.values() if isinstance(cells, list) and cells and isinstance(cells[0], str)]
    return texts[0] if len(texts) == 1 and len(whole) == 1 else [whole]
