"""Boxes in the layout of PASCAL VOC: JPEGImages, Annotations, ImageSets/Main; or any folder of images with XML beside them.

VOC counts pixels from 1 and both ends in, so xmin=1, xmax=10 is 0 to 10, and the overlap of two boxes is the devkit's.
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree.ElementTree import Element

from withheld.data.boxes import BoxData, Broken, Found, Problem, assembled, head_of
from withheld.data.boxes_parts import Parts, by_folders, settled
from withheld.data.decode import Look
from withheld.data.folder import Scan
from withheld.data.voc_xml import boxes_of, read_xml
from withheld.errors import InputError
from withheld.wording import plural


def root_of(where: Path) -> Path:
    """The folder that holds JPEGImages: the one given, or the only one below it (VOCdevkit/VOC2007).

    Raises:
        InputError: where several do.
    """
    for depth in ("", "*/", "*/*/"):
        found = [path for path in sorted(where.glob(f"{depth}Annotations")) if next(path.rglob("*.xml"), None)]
        if len(found) > 1:
            names = ", ".join(str(path.parent) for path in found[:4])
            raise InputError(f"--boxes {where} holds {len(found)} sets ({names}): give one of them")
        if found:
            return found[0].parent
    return where


def is_voc(scan: Scan) -> bool:
    """Whether an image of a folder has an XML file of its name."""
    return bool(_matched(_images(scan), _xmls(scan))[0])


def open_voc(root: Path, scan: Scan, text: str) -> BoxData:
    """Opens a folder in VOC layout, or a folder of images with an XML file of the same name for each.

    Raises:
        InputError: where no box is usable.
    """
    if (root / "JPEGImages").is_dir():  # VOC ships segmentation masks as PNG beside its photographs
        scan.items = {name: what for name, what in scan.items.items() if name.startswith("JPEGImages/")}
    images = _images(scan)
    problems: list[Problem] = [*scan.left_out]
    xmls, lonely = _matched(images, _xmls(scan))
    problems += [
        {"file": name, "reason": "has no image of this name: add the image, or remove the file"} for name in lonely
    ]
    read: dict[str, tuple[Found, Look]] = {}
    for key, xml in xmls.items():
        one = _read(root, xml, images[key], problems)
        if one is not None:
            read[images[key]] = one
    keys = {name: key for key, name in images.items()}
    unusable = {key for key, name in images.items() if name not in read}

    def split(names: list[str]) -> tuple[Parts, list[str]]:
        order = [keys[name] for name in names]
        parts = _image_sets(root / "ImageSets" / "Main", order, unusable, problems)
        return (parts, []) if parts is not None else by_folders(names, order)

    data = assembled(text, root, scan, read, problems, split)
    if unusable:
        told = plural(len(unusable), "image without a usable annotation is", "images without a usable annotation are")
        data.notes.append(f"{told} left out")
    return data


def _images(scan: Scan) -> dict[str, str]:
    """Image files by key: the path without suffix and without the folder JPEGImages or images."""
    return {_key(name): name for name in sorted(scan.items)}


def _xmls(scan: Scan) -> list[str]:
    return sorted(name for name in scan.others if name.lower().endswith(".xml"))


def _key(name: str) -> str:
    parts = os.path.splitext(name)[0].split("/")
    return "/".join(part for part in parts if part.lower() not in ("jpegimages", "images", "annotations", "xml"))


def _matched(images: dict[str, str], xmls: list[str]) -> tuple[dict[str, str], list[str]]:
    """The XML of every image, and the XML files without one."""
    found, lonely = {}, []
    for name in xmls:
        key = _key(name)
        if key in images:
            found[key] = name
        else:
            lonely.append(name)
    return found, lonely


def _read(root: Path, xml: str, image: str, problems: list[Problem]) -> tuple[Found, Look] | None:
    """One annotation with the head of its image; None, and a problem, where it cannot be used."""
    seen = head_of(root / image, image, problems)
    if seen is None:
        return None
    try:
        tree: Element = read_xml(root / xml)
        found = boxes_of(tree, seen.width, seen.height)
    except Broken as error:
        problems.append({"file": xml, "reason": str(error)})
        return None
    problems += [{"file": xml, "reason": reason} for reason in found.problems]
    return found, seen


def _image_sets(folder: Path, keys: list[str], unusable: set[str], problems: list[Problem]) -> Parts | None:
    """Positions by part as ImageSets/Main/{train,val,trainval,test}.txt say; None where no file does."""
    place = {key: at for at, key in enumerate(keys)}
    train, val, both, test = (
        _listed(folder, name, place, unusable, problems) for name in ("train", "val", "trainval", "test")
    )
    if not (train or val or both or test):
        return None
    return settled({"train": train or both - val, "val": val, "test": test}, keys, "ImageSets/Main", problems)


def _listed(folder: Path, name: str, place: dict[str, int], unusable: set[str], problems: list[Problem]) -> set[int]:
    path = folder / f"{name}.txt"
    if not path.is_file():
        return set()
    found, told = set(), f"ImageSets/Main/{name}.txt"
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        key = _named(line, place)
        if not key:
            continue
        if key in place:
            found.add(place[key])
        elif key not in unusable:
            reason = f"line {number} names {key!r}, and there is no such image with an annotation: remove the line, or add the file"
            problems.append({"file": told, "reason": reason})
    return found


def _named(line: str, place: dict[str, int]) -> str:
    """The image that a line names; a flag after the name, or a suffix, is passed over."""
    words = line.split()
    if not words:
        return ""
    if len(words) > 1 and words[-1] in ("-1", "0", "1") and line.strip() not in place:
        words = words[:-1]
    key = " ".join(words)
    return key if key in place or not Path(key).suffix else str(Path(key).with_suffix(""))
