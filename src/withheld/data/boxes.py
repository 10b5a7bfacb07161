"""Images with boxes, in whichever layout they come: PASCAL VOC, YOLO or COCO.

Boxes are continuous (x0, y0, x1, y1) in pixels of the upright image, from 0.
"""

from __future__ import annotations

import contextlib
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from withheld.data.boxes_parts import Parts
from withheld.data.decode import Look, look
from withheld.data.folder import Scan, scan_folder, source_of
from withheld.data.source import Source, digest
from withheld.errors import InputError, neighbor
from withheld.wording import plural

Problem = dict[str, str]
MOST_BYTES = 16 << 20
SLACK = 1.0
"""Pixels a box may reach over the border before it is worth a word: some tools count from 0, some from 1."""
WANTED = (
    "NAME.xml in Annotations or beside the image (PASCAL VOC), data.yaml and labels/NAME.txt or NAME.txt beside the image (YOLO), "
    "or a .json of images, annotations and categories (COCO)"
)


class Broken(ValueError):
    """An annotation cannot be used; the message says why, and how to mend it."""


@dataclass(frozen=True)
class Annotation:
    """The boxes of one image.

    Attributes:
        boxes: (n, 4) continuous pixels, inside the image.
        labels: (n,) int64, into the classes.
        difficult: (n,) bool: neither right nor wrong to find, and not learned from.
        width, height: of the image, pixels.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    width: int
    height: int


class Found:
    """The usable boxes of an image as a reader meets them, and what was wrong with the others.

    Attributes:
        names: the class of each box. difficult: whether it is. outlines: how many were drawn around an outline.
        problems: sentences.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.difficult: list[bool] = []
        self.problems: list[str] = []
        self.outlines = 0
        self._rows: dict[tuple[tuple[float, ...], str], list[float]] = {}

    def add(self, box: list[float], name: str, difficult: bool = False) -> None:
        """Takes a continuous box.

        Raises:
            ValueError: where this box is there already with this class.
        """
        name = name.encode("utf-8", "replace").decode()  # JSON and YAML can spell halves of characters
        key = (tuple(box), name)
        if key in self._rows:
            raise ValueError(f"has a box of {name!r} that is there already: remove one of the two")
        self._rows[key] = box
        self.names.append(name)
        self.difficult.append(difficult)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(n, 4)."""
        return np.array(list(self._rows.values()), np.float64).reshape(-1, 4)


@dataclass
class BoxData:
    """Images with boxes.

    Attributes:
        location: as the user gave it.
        source: the images, those with a usable annotation.
        annotations: one an image.
        classes: the names that boxes have, sorted.
        parts: "train", "val", "test": positions of images, ascending.
        problems: {"file", "reason"} of everything that was left out or mended, with the remedy.
        notes: what there is to know, such as how the folder was split.
        fingerprint: of names, sizes and boxes.
    """

    location: str
    source: Source
    annotations: list[Annotation]
    classes: list[str]
    parts: Parts
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.source)

    def path(self, position: int) -> Path:
        """The file of an image."""
        return self.source.store.root / self.source.names[position]  # type: ignore[attr-defined]

    @property
    def test_part(self) -> str:
        """What is tested: "test", or "val" where there is no test."""
        return "test" if len(self.parts["test"]) else "val"

    def counts(self) -> dict[str, int]:
        """Boxes of every class."""
        found = Counter(int(label) for each in self.annotations for label in each.labels)
        return {name: found[at] for at, name in enumerate(self.classes)}


def open_boxes(where: str | Path) -> BoxData:
    """Opens images with boxes: a folder in the layout of VOC, YOLO or COCO, a data.yaml of YOLO, or a .json of COCO.

    Of several layouts in one folder the first of these is read. Without parts of its own the data is split 70/15/15, seeded by the
    names. Both are said in the notes.

    Raises:
        InputError: where there are no images with boxes, saying what was looked for.
    """
    from withheld.data import boxes_coco, boxes_voc, boxes_yolo

    path = Path(where).expanduser()
    if not path.exists():
        raise InputError(f"--boxes {where} does not exist{neighbor(path)}: give a folder of images with {WANTED}")
    if path.suffix.lower() in boxes_yolo.CONFIGS and path.is_file():
        return boxes_yolo.open_config(path, str(where))
    if path.suffix.lower() == ".json" and path.is_file():
        return boxes_coco.open_coco([path], boxes_coco.folder_of(path), str(where))
    if not path.is_dir():
        raise InputError(
            f"--boxes {where} is a file, and neither a data.yaml nor a .json: give the folder of the images"
        )
    root = boxes_voc.root_of(path)
    scan = scan_folder(root)
    found = layouts_in(root, scan)
    if not found:
        are = plural(len(scan.items), "image") if scan.items else "found no images"
        raise InputError(f"--boxes {where}: {are}{', and no boxes' if scan.items else ''}; looked for {WANTED}")
    data = found[0][1](str(where))
    if len(found) > 1:
        data.notes.append(
            f"boxes lie here in the layouts of {' and '.join(name for name, _ in found)}: those of {found[0][0]} were read; "
            "name the data.yaml or .json to have others"
        )
    return data


def layouts_in(root: Path, scan: Scan) -> list[tuple[str, Callable[[str], BoxData]]]:
    """The layouts in which a folder that was walked through holds boxes, each with what opens it."""
    from withheld.data import boxes_coco, boxes_voc, boxes_yolo

    found: list[tuple[str, Callable[[str], BoxData]]] = []
    if not scan.items and not boxes_yolo.configs_in(root):
        return found
    if boxes_voc.is_voc(scan):
        found.append(("VOC", lambda text: boxes_voc.open_voc(root, scan, text)))
    files = boxes_coco.files_in(root, scan)
    if boxes_yolo.is_yolo(root, scan, alone=not (found or files)):
        found.append(("YOLO", lambda text: boxes_yolo.open_yolo(root, scan, text)))
    if files:
        found.append(("COCO", lambda text: boxes_coco.open_coco(files, root, text, scan)))
    return found


def boxes_beside(path: Path) -> str:
    """Says that a folder, or a file that is no data by itself, tells of boxes, and what takes them; "" where it does not."""
    from withheld.data import boxes_coco, boxes_voc, boxes_yolo

    if path.is_dir():
        with contextlib.suppress(InputError):  # of several sets one has to be named
            found = layouts_in(root := boxes_voc.root_of(path), scan_folder(root))
            return f"boxes in {found[0][0]} layout lie beside the images: {_takes(path)}" if found else ""
    elif path.suffix.lower() in boxes_yolo.CONFIGS and path.is_file() and boxes_yolo.is_config(path):
        return f"it describes images with boxes: {_takes(path)}; for other commands name the folder of the images"
    elif path.suffix.lower() == ".json" and boxes_coco.is_coco(path):
        return f"it lists the boxes of images: {_takes(path)}; for other commands name the folder of the images"
    return ""


def _takes(path: Path) -> str:
    boxes = f"--boxes {shlex.quote(str(path))}"
    return f"withheld finetune RUN {boxes} --out MODEL learns to find objects, withheld evaluate RUN {boxes} judges RUN by it"


def fitted(box: list[float], width: int, height: int, shown: str, told: Callable[[str], None]) -> list[float]:
    """A continuous box, clipped to its image; `told` hears where that was worth a word.

    Args:
        shown: the numbers as the file has them.

    Raises:
        ValueError: for a box that is no number, without area, or outside of the image.
    """
    x0, y0, x1, y1 = box
    if not all(map(math.isfinite, box)):
        raise ValueError(f"has the box {shown}: give finite numbers")
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"has a box without area, {shown}: draw it again")
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        raise ValueError(f"has a box outside of the image of {width}x{height}, {shown}: draw it again")
    if min(x0, y0) < -SLACK or x1 > width + SLACK or y1 > height + SLACK:
        told(f"reaches over the border of {width}x{height}, {shown}: it was clipped")
    return [max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)]


def check_size(said: tuple[int, int], width: int, height: int) -> None:
    """Compares the (width, height) that an annotation tells with that of the image; 0 tells nothing.

    Raises:
        Broken: where it was made of another image.
    """
    if all(said) and said != (width, height):
        turned = ", or save it without its EXIF orientation, by which it is turned" if said == (height, width) else ""
        raise Broken(
            f"was made of an image of {said[0]}x{said[1]}, the image is {width}x{height}: label the image again, or put the "
            f"original back{turned}"
        )


def read_small(path: Path) -> bytes:
    """The bytes of an annotation.

    Raises:
        Broken: where it is no plain file, too large, or cannot be read.
    """
    try:
        if not path.is_file():
            raise Broken("is not a plain file")
        if path.stat().st_size > MOST_BYTES:
            raise Broken(f"is larger than {MOST_BYTES >> 20} MB: an annotation is a few kB; save it again")
        return path.read_bytes()
    except OSError as error:
        raise Broken(f"cannot be read ({error})") from None


def head_of(path: Path, name: str, problems: list[Problem]) -> Look | None:
    """What the head of an image tells; None, and a problem, where it cannot be read."""
    try:
        return look(path)
    except Exception as error:  # damaged files raise anything
        problems.append({"file": name, "reason": f"cannot be read ({error}): replace the image"})
        return None


def assembled(
    text: str, root: Path, scan: Scan, read: dict[str, tuple[Found, Look]], problems: list[Problem],
    split: Callable[[list[str]], tuple[Parts, list[str]]],
) -> BoxData:  # fmt: skip
    """What was read of images, by their names below a root, as data.

    Args:
        scan: the images and their sizes. split: from names in order to parts and notes.

    Raises:
        InputError: where no box is usable.
    """
    classes = sorted({name for found, _ in read.values() for name in found.names})
    if not classes:
        first = f"{problems[0]['file']}: {problems[0]['reason']}" if problems else "they hold no objects"
        raise InputError(f"{text}: no usable box for {plural(len(scan.items), 'image')}; the first: {first}")
    scan.items = {name: scan.items[name] for name in read}
    source = source_of(scan, root, text, None)
    place = {name: at for at, name in enumerate(classes)}
    annotations = []
    for name in source.names:
        found, seen = read[name]
        labels = np.array([place[label] for label in found.names], np.int64)
        annotations.append(Annotation(found.boxes, labels, np.array(found.difficult, bool), seen.width, seen.height))
    parts, notes = split(list(source.names))
    told: list[str | bytes | int] = [source.fingerprint, *classes]
    told += [bytes(each.boxes.tobytes() + each.labels.tobytes() + each.difficult.tobytes()) for each in annotations]
    told += [part.tobytes() for part in parts.values()]
    return BoxData(text, source, annotations, classes, parts, problems, notes, digest(told))


def unused(names: Iterable[str], data: BoxData) -> list[str]:
    """Says which names no box has."""
    names = dict.fromkeys(names)
    empty = [name for name in names if name not in data.classes]
    if not empty:
        return []
    shown = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
    return [f"{len(empty)} of {plural(len(names), 'class', 'classes')} ({shown}) are in no box: they are not learned"]
