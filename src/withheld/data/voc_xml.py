"""One VOC annotation, from XML that nobody vouches for: no document type, so no entity is ever expanded or fetched."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from withheld.data.boxes import SLACK, Broken, Found, check_size, read_small


def read_xml(path: Path) -> Element:
    """The root element of a file.

    Raises:
        Broken: for what is no XML, declares a document type, or is too large.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: builder.start(tag, attributes)
    parser.EndElementHandler = lambda tag: builder.end(tag)
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(read_small(path), True)
        return builder.close()
    except expat.ExpatError as error:
        raise Broken(f"is no whole XML ({error}): save it again from the labelling tool, or remove it") from None
    except UnicodeError as error:
        raise Broken(f"cannot be read ({error})") from None


def _refuse(*_: object) -> None:
    raise Broken("declares a document type, which an annotation does not need: remove the <!DOCTYPE ...> part")


def boxes_of(root: Element, width: int, height: int) -> Found:
    """The boxes of an annotation that lie in an image of this size.

    Raises:
        Broken: where it is no annotation, or was made of an image of another size.
    """
    if root.tag != "annotation":
        raise Broken(f"is no VOC annotation: its root is <{root.tag}>, not <annotation>")
    check_size(_size(root), width, height)
    found = Found()
    for number, each in enumerate(root.iter("object"), 1):
        name = (each.findtext("name") or "").strip()
        try:
            box = _box(each, width, height, found.problems, number)
            if not name:
                raise ValueError("has no class: give it a <name>")
            found.add(box, name, (each.findtext("difficult") or "0").strip() not in ("0", "false", "False", ""))
        except ValueError as error:
            found.problems.append(f"object {number} {error}; it was left out")
    return found


def _size(root: Element) -> tuple[int, int]:
    """(width, height) as the annotation has it; 0 where it does not."""
    try:
        width, height = (int(float(root.findtext(f"size/{name}") or 0)) for name in ("width", "height"))
    except (ValueError, OverflowError):
        return 0, 0
    return width, height


def _box(each: Element, width: int, height: int, problems: list[str], number: int) -> list[float]:
    """A continuous box, clipped to the image.

    Raises:
        ValueError: for a box that is missing, no number, without area, or outside of the image.
    """
    texts = [each.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x0, y0, x1, y1 = (float(text) for text in texts)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"has the box {texts}: <bndbox> needs xmin, ymin, xmax and ymax as numbers") from None
    shown = f"({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError(f"has the box {shown}: give finite numbers")
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"has a box without area, {shown}: draw it again")
    if x0 > width or y0 > height or x1 < 1 or y1 < 1:
        raise ValueError(f"has a box outside of the image of {width}x{height}, {shown}: draw it again")
    if min(x0, y0) < -SLACK or x1 > width + SLACK or y1 > height + SLACK:
        problems.append(f"object {number} reaches over the border of {width}x{height}, {shown}: it was clipped")
    return [max(0.0, x0 - 1), max(0.0, y0 - 1), min(float(width), x1), min(float(height), y1)]
