"""Boxes in the layout of YOLO: labels/NAME.txt for images/NAME.jpg, or NAME.txt beside it; data.yaml tells parts and names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from withheld.data.boxes import BoxData, Broken, Found, Problem, assembled, head_of, read_small, unused
from withheld.data.boxes_parts import Parts, by_folders, settled
from withheld.data.decode import Look
from withheld.data.folder import Scan, scan_folder
from withheld.data.sample import spaced
from withheld.data.yolo_config import (
    CONFIGS,
    Config,
    configs_in,
    is_config,
    listed,
    names_above,
    names_beside,
    read_config,
)
from withheld.data.yolo_labels import boxes_of, is_label
from withheld.errors import InputError
from withheld.wording import plural

__all__ = ["CONFIGS", "configs_in", "is_config", "is_yolo", "open_config", "open_yolo"]
FOLDERS = ("images", "jpegimages")
"""In whose place labels lie in "labels"."""
NO_LABELS = ("classes", "predefined_classes", "train", "val", "valid", "test", "license", "notes", "readme")
LOOKED_AT = 50

Images = dict[Path, tuple[int, int]]
"""Absolute paths to (bytes, time of change in ns)."""


def is_yolo(root: Path, scan: Scan, alone: bool = True) -> bool:
    """Whether a folder has a data.yaml, or label files for its images; some of these are looked into.

    Args:
        alone: whether a data.yaml will do, for nothing else there tells of boxes.
    """
    if alone and configs_in(root):
        return True
    labels = list(_labels(Path(os.path.realpath(root), name) for name in sorted(scan.items)).values())
    return any(_may_be(labels[at]) for at in spaced(len(labels), LOOKED_AT))


def _may_be(label: Path) -> bool:
    """Whether this is a label file: captions lie beside images, too."""
    if "labels" in (word.lower() for word in label.parts[:-1]):
        return True
    try:
        return is_label(read_small(label))
    except Broken:
        return False


def open_yolo(root: Path, scan: Scan, text: str) -> BoxData:
    """Opens a folder: as its data.yaml says, else whatever images lie in it.

    Raises:
        InputError: for its data.yaml, or where no box is usable.
    """
    configs = configs_in(root)
    if len(configs) > 1:
        shown = ", ".join(str(path) for path in configs[:4])
        raise InputError(f"--boxes {text} holds {len(configs)} data sets ({shown}): name one of these files")
    if configs:
        return _opened(read_config(configs[0], root), text)
    lists = {part: [f"{part}.txt"] for part in ("train", "val", "valid", "test") if (root / f"{part}.txt").is_file()}
    config = Config("train.txt" if lists else "", root.resolve(), within=root)
    for part, entries in lists.items():
        config.parts.setdefault("val" if part == "valid" else part, []).extend(entries)
    return _opened(config, text, scan)


def open_config(path: Path, text: str) -> BoxData:
    """Opens what a data.yaml, or darknet's obj.data, describes, wherever its images lie.

    Raises:
        InputError: for the file, or where no box is usable.
    """
    return _opened(read_config(path), text)


def _opened(config: Config, text: str, scan: Scan | None = None) -> BoxData:
    problems: list[Problem] = []
    notes: list[str] = []
    images, parts = _gathered(config, problems)
    if not images:
        if config.parts:
            notes.append(f"nothing that {config.told} names is there: the images beside it were taken")
        images, parts = _scanned(config.home, scan or scan_folder(config.home), problems), {}
    if not images:
        raise InputError(
            f"--boxes {text}: found no images; YOLO has them in images/train and images/val, and labels beside in labels/"
        )
    labels = _labels(images)
    if not labels:
        raise InputError(
            f"--boxes {text}: {plural(len(images), 'image')}, and none has a label file: labels/NAME.txt for images/NAME.jpg, or "
            "NAME.txt beside the image"
        )
    root = _root(config.folder, images)
    names = config.names
    if names is None:
        names = names_beside(_above(config.folder, labels), problems) or names_above(config.folder)
        notes += [] if names else ["no data.yaml or classes.txt names the classes: their numbers are their names"]
    read, outlines = _read(root, labels, names, config.keypoints, problems)
    problems += _lonely(root, images, labels)
    found = Scan({_name(root, image): images[image] for image in images})

    def split(order: list[str]) -> tuple[Parts, list[str]]:
        if not parts:
            return by_folders(order)
        place = {root / name: at for at, name in enumerate(order)}
        sets = {part: {place[at] for at in some if at in place} for part, some in parts.items()}
        return settled(sets, order, config.told, problems), []

    data = assembled(text, root, found, read, problems, split)
    if outlines:
        data.notes.append(f"{plural(outlines, 'box was', 'boxes were')} drawn around outlines")
    if len(labels) < len(images):
        are = plural(len(images) - len(labels), "image without a label file is", "images without a label file are")
        data.notes.append(f"{are} left out: an image in which nothing is to be found has an empty one")
    data.notes[:0] = notes
    data.notes += unused((names or {}).values(), data)
    return data


def _gathered(config: Config, problems: list[Problem]) -> tuple[Images, dict[str, set[Path]]]:
    """The images that a data set names, and by part."""
    images: Images = {}
    parts: dict[str, set[Path]] = {}
    for part, entries in config.parts.items():
        for entry in entries:
            found = config.find(entry)
            if found is None:
                away = f", or name {config.told} itself where it lies elsewhere" if config.within else ""
                reason = f"{part}: {entry!r} is not to be found below {config.folder}: correct the path{away}"
                problems.append({"file": config.told, "reason": reason})
                continue
            some = _scanned(found, scan_folder(found), problems) if found.is_dir() else _stats(found, config, problems)
            images |= some
            parts.setdefault(part, set()).update(some)
    return images, parts


def _scanned(folder: Path, scan: Scan, problems: list[Problem]) -> Images:
    """The images of a folder that was walked through."""
    real = Path(os.path.realpath(folder))
    problems += scan.left_out
    return {real / name: what for name, what in scan.items.items()}


def _stats(path: Path, config: Config, problems: list[Problem]) -> Images:
    """The images of a list."""
    found: Images = {}
    for image in listed(path, config, problems):
        info = image.stat()
        found[image.parent.resolve() / image.name] = info.st_size, info.st_mtime_ns
    return found


def _root(folder: Path, images: Images) -> Path:
    """The folder of the data set, or the one above all images where they lie elsewhere."""
    real = Path(os.path.realpath(folder))
    above = {image.parent for image in images}
    if all(each.is_relative_to(real) for each in above):
        return real
    try:
        return Path(os.path.commonpath(above))
    except ValueError:
        raise InputError(f"{folder}: its images lie on several drives: copy them to one") from None


def _name(root: Path, image: Path) -> str:
    return image.relative_to(root).as_posix()


def _labels(images: Iterable[Path]) -> dict[Path, Path]:
    """The label file of every image that has one: where the last folder "images" is "labels", else beside it."""
    known: dict[Path, set[str]] = {}
    found: dict[Path, Path] = {}
    for image in images:
        for path in _candidates(image):
            if path.parent not in known:
                known[path.parent] = _texts_in(path.parent)
            if path.name in known[path.parent]:
                found[image] = path
                break
    return found


def _texts_in(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder) if entry.name.endswith(".txt") and entry.is_file()}
    except OSError:
        return set()


def _candidates(image: Path) -> Iterator[Path]:
    words = list(image.parent.parts)
    at = next((at for at in reversed(range(len(words))) if words[at].lower() in FOLDERS), None)
    if at is not None:
        for word in ("labels", "Labels"):
            yield Path(*words[:at], word, *words[at + 1 :], f"{image.stem}.txt")
    yield image.with_suffix(".txt")


def _above(folder: Path, labels: dict[Path, Path]) -> list[Path]:
    """Where names of classes may lie: the data set's folder, those of labels, and the ones above up to that beside "labels"."""
    found = [folder]
    for at in sorted({label.parent for label in labels.values()}):
        found.append(at)
        while "labels" in (word.lower() for word in at.parts):
            at = at.parent
            found.append(at)
    return list(dict.fromkeys(found))


def _read(
    root: Path, labels: dict[Path, Path], names: dict[int, str] | None, keypoints: int, problems: list[Problem]
) -> tuple[dict[str, tuple[Found, Look]], int]:
    """The boxes of every image whose label file can be read, and how many were outlines."""
    read: dict[str, tuple[Found, Look]] = {}
    for image, label in labels.items():
        name, told = _name(root, image), _told(root, label)
        seen = head_of(image, name, problems)
        if seen is None:
            continue
        try:
            if (real := label.resolve()) != label and not real.is_relative_to(root):
                raise Broken("is a link that leads out of the folder: copy the file")
            found = boxes_of(read_small(label), names, seen.width, seen.height, keypoints)
        except Broken as error:
            problems.append({"file": told, "reason": str(error)})
            continue
        problems += [{"file": told, "reason": reason} for reason in found.problems]
        read[name] = found, seen
    return read, sum(found.outlines for found, _ in read.values())


def _told(root: Path, path: Path) -> str:
    return _name(root, path) if path.is_relative_to(root) else str(path)


def _lonely(root: Path, images: Images, labels: dict[Path, Path]) -> list[Problem]:
    """Label files without an image."""
    known = set(labels.values())
    places = sorted({path.parent for path in known})
    files = [place / name for place in places for name in _texts_in(place)]
    asked = {path for image in images for path in _candidates(image)}
    return [
        {"file": _told(root, path), "reason": "has no image of this name: add the image, or remove the file"}
        for path in sorted(files)
        if path not in known and path not in asked and path.stem.lower().split(".")[0] not in NO_LABELS
    ]
