"""Boxes in the layout of PASCAL VOC: JPEGImages, Annotations, ImageSets/Main; or any folder of images with XML beside them.

Boxes are continuous (x0, y0, x1, y1) in pixels: VOC counts pixels from 1 and both ends in, so xmin=1, xmax=10 is 0 to 10, and the
overlap of two boxes is the devkit's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from withheld.data.decode import Look, look
from withheld.data.folder import Scan, scan_folder, source_of
from withheld.data.layout import find_layout
from withheld.data.source import Source, digest
from withheld.data.voc_sets import image_sets, seeded_split
from withheld.data.voc_xml import Broken, Found, boxes_of, read_xml
from withheld.errors import InputError
from withheld.wording import plural

Problem = dict[str, str]


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


@dataclass
class VocData:
    """Images with boxes.

    Attributes:
        location: as the user gave it.
        source: the images, those with a usable annotation.
        annotations: one an image.
        classes: whatever the XML says, sorted.
        parts: "train", "val", "test": positions of images, ascending.
        problems: {"file", "reason"} of everything that was left out or mended, with the remedy.
        notes: what there is to know, such as how the folder was split.
        fingerprint: of names, sizes and boxes.
    """

    location: str
    source: Source
    annotations: list[Annotation]
    classes: list[str]
    parts: dict[str, NDArray[np.int64]]
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


def open_voc(where: str | Path) -> VocData:
    """Opens a folder in VOC layout (or its parent), or a folder of images with an XML file of the same name for each.

    Without image sets and without folders named train and test it is split 70/15/15, seeded by the names, and it is said.

    Raises:
        InputError: where there are no images with boxes, saying what was looked for.
    """
    root = _root(Path(where))
    scan = scan_folder(root)
    if (root / "JPEGImages").is_dir():  # VOC ships segmentation masks as PNG beside its photographs
        scan.items = {name: what for name, what in scan.items.items() if name.startswith("JPEGImages/")}
    images = _images(scan)
    problems: list[Problem] = [*scan.left_out]
    xmls, lonely = _matched(images, [name for name in scan.others if name.lower().endswith(".xml")])
    problems += [
        {"file": name, "reason": "has no image of this name: add the image, or remove the file"} for name in lonely
    ]
    _need(where, images, xmls)
    read: dict[str, tuple[Found, Look]] = {}
    for key, xml in xmls.items():
        one = _read(root, xml, images[key], problems)
        if one is not None:
            read[key] = one
    classes = sorted({name for found, _ in read.values() for name in found.names})
    if not classes:
        raise InputError(f"{where}: no usable box in {len(xmls)} annotations; the first: {_first(problems)}")
    return _data(str(where), root, scan, images, read, classes, problems)


def _root(where: Path) -> Path:
    """The folder that holds JPEGImages: the one given, or the only one below it (VOCdevkit/VOC2007)."""
    if not where.is_dir():
        what = "is a file" if where.exists() else "does not exist"
        raise InputError(f"--voc {where} {what}: give the folder that holds JPEGImages and Annotations")
    for depth in ("", "*/", "*/*/"):
        found = sorted(where.glob(f"{depth}Annotations") if depth else where.glob("Annotations"))
        found = [path.parent for path in found if path.is_dir()]
        if len(found) > 1:
            names = ", ".join(str(path) for path in found[:4])
            raise InputError(f"--voc {where} holds {len(found)} sets ({names}): give one of them")
        if found:
            return found[0]
    return where


def _images(scan: Scan) -> dict[str, str]:
    """Image files by key: the path without suffix and without the folder JPEGImages or images."""
    return {_key(name): name for name in sorted(scan.items)}


def _key(name: str) -> str:
    parts = os.path.splitext(name)[0].split("/")
    return "/".join(part for part in parts if part.lower() not in ("jpegimages", "images", "annotations", "xml"))


def _matched(images: dict[str, str], xmls: list[str]) -> tuple[dict[str, str], list[str]]:
    """The XML of every image, and the XML files without one."""
    found, lonely = {}, []
    for name in sorted(xmls):
        key = _key(name)
        if key in images:
            found[key] = name
        else:
            lonely.append(name)
    return found, lonely


def _need(where: str | Path, images: dict[str, str], xmls: dict[str, str]) -> None:
    if not images:
        raise InputError(f"--voc {where}: found no images; VOC has them in JPEGImages, with an XML each in Annotations")
    if not xmls:
        raise InputError(
            f"--voc {where}: {plural(len(images), 'image')}, and no annotation of the same name (NAME.xml in "
            "Annotations or beside the image); boxes in COCO's .json or YOLO's .txt files have to be written as such first"
        )


def _read(root: Path, xml: str, image: str, problems: list[Problem]) -> tuple[Found, Look] | None:
    """One annotation with the head of its image; None, and a problem, where it cannot be used."""
    try:
        seen = look(root / image)
    except Exception as error:  # damaged files raise anything
        problems.append({"file": image, "reason": f"cannot be read ({error}): replace the image"})
        return None
    try:
        tree: Element = read_xml(root / xml)
        found = boxes_of(tree, seen.width, seen.height)
    except Broken as error:
        problems.append({"file": xml, "reason": str(error)})
        return None
    problems += [{"file": xml, "reason": reason} for reason in found.problems]
    return found, seen


def _data(
    text: str, root: Path, scan: Scan, images: dict[str, str], read: dict[str, tuple[Found, Look]], classes: list[str],
    problems: list[Problem],
) -> VocData:  # fmt: skip
    unlabelled = len(images) - len(read)
    scan.items = {images[key]: scan.items[images[key]] for key in read}
    keys = {images[key]: key for key in read}
    source = source_of(scan, root, text, None)
    place = {name: at for at, name in enumerate(classes)}
    annotations = []
    for name in source.names:
        found, seen = read[keys[name]]
        labels = np.array([place[label] for label in found.names], np.int64)
        annotations.append(Annotation(found.boxes, labels, found.difficult, seen.width, seen.height))
    order = [keys[name] for name in source.names]
    parts, notes = _parts(root, source.names, order, set(images) - set(read), problems)
    if unlabelled:
        notes.append(
            f"{plural(unlabelled, 'image without a usable annotation is', 'images without a usable annotation are')} left out"
        )
    told: list[str | bytes | int] = [source.fingerprint, *classes]
    told += [bytes(each.boxes.tobytes() + each.labels.tobytes() + each.difficult.tobytes()) for each in annotations]
    told += [part.tobytes() for part in parts.values()]
    return VocData(text, source, annotations, classes, parts, problems, notes, digest(told))


def _parts(
    root: Path, names: Sequence[str], keys: list[str], unusable: set[str], problems: list[Problem]
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Image sets where there are any, else folders named train and test, else the seeded split."""
    folder = root / "ImageSets" / "Main"
    if folder.is_dir():
        parts = image_sets(folder, keys, unusable, problems)
        if parts is not None:
            return parts, []
    layout = find_layout(names)
    if layout.parts is not None and {"train"} < set(layout.parts):
        return {name: np.flatnonzero(layout.parts == name) for name in ("train", "val", "test")}, []
    parts = seeded_split(keys)
    told = ", ".join(f"{len(at)} {name}" for name, at in parts.items())
    return parts, [f"no image sets: split 70/15/15 by a seed of the file names ({told})"]


def _first(problems: list[Problem]) -> str:
    return f"{problems[0]['file']}: {problems[0]['reason']}" if problems else "they hold no objects"
