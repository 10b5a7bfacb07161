"""One label file of YOLO: a line an object, `class cx cy w h` in shares of the image; outlines become the box around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from withheld.data.boxes import Broken, Found, fitted
from withheld.wording import plural

BOX = "class, center x, center y, width and height in shares of the image"
LOOSE = 0.01
"""How far over 0 and 1 a share may be that was rounded, or drawn over the border."""
MOST_TOLD = 10
"""Lines of a file that are told one by one."""


def boxes_of(data: bytes, names: Mapping[int, str] | None, width: int, height: int, keypoints: int = 0) -> Found:
    """The boxes of a label file, for an image of this size, pixels.

    Args:
        names: by class number; None takes the numbers for names. keypoints: numbers that follow the box of a pose.

    Raises:
        Broken: where it is no text.
    """
    if b"\0" in data:
        raise Broken("is no plain text: save it as UTF-8")
    found = Found()
    wrong = 0
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        tell = lambda reason, at=number: found.problems.append(f"line {at} {reason}")  # noqa: E731
        try:
            name = _name(words[0], names)
            box, outlined = _box(words, width, height, keypoints)
            found.add(fitted(box, width, height, _shown(words), tell), name)
            found.outlines += outlined
        except ValueError as error:
            wrong += 1
            if wrong <= MOST_TOLD:
                tell(f"{error}; it was left out")
    if wrong > MOST_TOLD:
        found.problems.append(f"has {wrong - MOST_TOLD} more such lines, left out too")
    return found


def is_label(data: bytes) -> bool:
    """Whether the first line that says something looks like one of a label file."""
    words = next((line.split() for line in data.decode("utf-8-sig", "replace").splitlines() if line.strip()), [])
    try:
        return len(words) >= 5 and [float(word) for word in words] != []
    except ValueError:
        return False


def _shown(words: Sequence[str]) -> str:
    """A line as errors have it."""
    text = " ".join(words)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _name(word: str, names: Mapping[int, str] | None) -> str:
    try:
        value = float(word)
        number = int(value)
    except (ValueError, OverflowError):
        raise ValueError(f"has the class {word[:40]!r}: give its number, counted from 0") from None
    if value != number or number < 0:
        raise ValueError(f"has the class {word[:40]!r}: classes are whole numbers from 0")
    if names is None:
        return str(number)
    if number not in names:
        known = f"the {len(names)} names are of 0 to {max(names)}" if names else "there are no names"
        raise ValueError(f"has the class {number}, and {known}: add its name, or correct the number")
    return names[number]


def _box(words: Sequence[str], width: int, height: int, keypoints: int) -> tuple[list[float], bool]:
    """A continuous box, not yet clipped, and whether it was an outline."""
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError(f"holds {_shown(words)}: all that follows the class are numbers (0.5, not 0,5)") from None
    if not all(map(math.isfinite, values)):
        raise ValueError(f"holds {_shown(words)}: give finite numbers")
    if keypoints and len(values) == 4 + keypoints:
        raise ValueError(f"has a box with keypoints, {_shown(words)}: keep the first five numbers, {BOX}")
    outlined = len(values) >= 6 and len(values) % 2 == 0
    if len(values) != 4 and not outlined:
        raise ValueError(
            f"has {plural(len(words), 'number')}, {_shown(words)}: a box has five, {BOX}{_more(len(words))}"
        )
    if not all(-LOOSE <= value <= 1 + LOOSE for value in values):
        what = (
            "pixels"
            if max(values) > 2
            else "the visibility of keypoints"
            if max(values) == 2
            else "values over the border"
        )
        raise ValueError(f"has values outside of 0..1, {_shown(words)}: shares of the image are wanted, no {what}")
    if not outlined:
        cx, cy, w, h = values
        return [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height], False
    points = [(x * width, y * height) for x, y in zip(values[::2], values[1::2], strict=True)]
    if _is_turned(points):
        raise ValueError(f"has a box that is turned, {_shown(words)}: give the upright one around it, {BOX}")
    across, down = zip(*points, strict=True)
    return [min(across), min(down), max(across), max(down)], True


def _more(count: int) -> str:
    return "; a confidence, an angle or keypoints are not read" if count > 5 else ""


def _is_turned(points: Sequence[tuple[float, float]]) -> bool:
    """Whether these are the corners of a rectangle that does not stand upright: an oriented box, not an outline."""
    if len(points) != 4:
        return False
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    one, other = math.hypot(cx - ax, cy - ay), math.hypot(dx - bx, dy - by)
    near = 0.01 * max(one, other) + 0.01
    if max(abs(ax + cx - bx - dx), abs(ay + cy - by - dy)) > near or abs(one - other) > near:
        return False  # no parallelogram, or not one of equal diagonals
    return min(abs(bx - ax), abs(by - ay)) > near and min(abs(cx - bx), abs(cy - by)) > near
