"""Boxes in COCO's layout: a .json of images, annotations and categories for each part, and folders of the images it lists.

Its boxes are (x, y, width, height) in continuous pixels from 0.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from withheld.data.boxes import BoxData, Broken, Found, Problem, assembled, check_size, fitted, head_of, unused
from withheld.data.boxes_parts import Parts, by_folders, settled
from withheld.data.decode import Look
from withheld.data.folder import Scan, scan_folder
from withheld.data.layout import part_named
from withheld.errors import InputError
from withheld.wording import plural

MOST_BYTES = 2 << 30
HEAD = 1 << 16
LISTS = re.compile(rb'"images"\s{0,80}:\s{0,80}\[|"image_id"\s{0,80}:')
BESIDE = ("annotations", "annotation", "labels")
"""Folders of .json files beside those of the images."""


def files_in(root: Path, scan: Scan) -> list[Path]:
    """The .json files of a folder that look like COCO's; those named instances_... alone, where there are any."""
    found = [root / name for name in sorted(scan.others) if name.lower().endswith(".json") and is_coco(root / name)]
    return [path for path in found if path.name.startswith("instances_")] or found


def is_coco(path: Path) -> bool:
    """Whether a file looks like COCO's, by its first bytes: these files may be large."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    other = b'"caption"' in head or (len(head) < HEAD and b'"annotations"' not in head)
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and bool(LISTS.search(head)) and not other


def folder_of(path: Path) -> Path:
    """The folder below which the images of a .json lie."""
    above = path.resolve().parent
    return above.parent if above.name.lower() in BESIDE else above


def open_coco(files: list[Path], root: Path, text: str, scan: Scan | None = None) -> BoxData:
    """Opens the images that .json files list, each for its part where there are several.

    Args:
        files: of which each is named train, val or test, or lies in a folder that is. root: the images lie below it.
        scan: of the root.

    Raises:
        InputError: where a file cannot be read or told from another, or no box is usable.
    """
    scan = scan or scan_folder(root)
    problems: list[Problem] = [*scan.left_out]
    by_part = {"": files[0]} if len(files) == 1 else _by_part(files, root, text, problems)
    disk = _Disk(scan)
    read: dict[str, tuple[Found, Look]] = {}
    sets: dict[str, set[str]] = {}
    names: list[str] = []
    for part, path in by_part.items():
        told = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        try:
            table = _Table(path, told, problems)
        except InputError as error:
            if len(by_part) == 1:
                raise
            problems.append({"file": told, "reason": str(error)})
            continue
        some = table.read(root, disk, read)
        sets[part] = set(some)
        read |= {name: one for name, one in some.items() if name not in read}
        names += table.categories.values()
    if not read:
        first = f"; the first: {problems[0]['file']}: {problems[0]['reason']}" if problems else ""
        raise InputError(f"--boxes {text}: none of the images that its .json lists can be used below {root}{first}")

    def split(order: list[str]) -> tuple[Parts, list[str]]:
        if "" in sets:
            return by_folders(order)
        place = {name: at for at, name in enumerate(order)}
        by = {part: {place[name] for name in some if name in place} for part, some in sets.items()}
        return settled(by, order, ", ".join(path.name for path in by_part.values()), problems), []

    rest = len(scan.items) - len(read)
    data = assembled(text, root, scan, read, problems, split)
    if rest:
        are = plural(rest, "image is", "images are")
        why = "no .json lists it, or it cannot be used" if rest == 1 else "no .json lists them, or they cannot be used"
        data.notes.append(f"{are} left out: {why}")
    data.notes += unused(names, data)
    return data


def _by_part(files: list[Path], root: Path, text: str, problems: list[Problem]) -> dict[str, Path]:
    """One file for each part, by its folder or its name.

    Raises:
        InputError: where two are for the same, or none for any.
    """
    found: dict[str, Path] = {}
    for path in files:
        words = [path.parent.name] if path.parent != root else []
        part = next(filter(None, map(part_named, [*words, *re.split(r"[^a-z]+", path.stem.lower())])), "")
        if not part:
            reason = (
                "is named neither train, val nor test, nor lies in such a folder: left out; name it to have it alone"
            )
            problems.append({"file": path.name, "reason": reason})
        elif part in found:
            raise InputError(f"--boxes {text}: {found[part]} and {path} are both of {part}: name one of them")
        else:
            found[part] = path
    if not found:
        shown = ", ".join(path.name for path in files[:4])
        raise InputError(
            f"--boxes {text} holds {len(files)} .json files ({shown}), none named train, val or test: name one of them"
        )
    return found


class _Disk:
    """The images of a folder, by how their paths end."""

    def __init__(self, scan: Scan) -> None:
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for name in sorted(scan.items):
            self.by_name[name.rsplit("/", 1)[-1]].append(name)

    def find(self, listed: str, table: str) -> str:
        """The file of an image: the path that was listed, or as much of its end as is there, nearest to the .json.

        Raises:
            Broken: where there is none, or where it cannot be told which.
        """
        words = [word for word in listed.replace("\\", "/").split("/") if word not in ("", ".", "..")]
        found = self.by_name.get(words[-1] if words else "", [])
        for at in range(len(words)):
            tail = "/".join(words[at:])
            longest = [name for name in found if name == tail or name.endswith("/" + tail)]
            if longest:
                break
        else:
            raise Broken(
                f"lists the image {listed[:80]!r}, and there is none: add the image, or remove it from the file"
            )
        if len(longest) > 1:
            here, words = table.rpartition("/")[0], re.split(r"[^a-z0-9]+", Path(table).stem.lower())
            near = [name for name in longest if name == f"{here}/{tail}".lstrip("/")]
            near = near or [name for name in longest if set(name.lower().split("/")[:-1]) & set(words)]
            longest = near or longest
        if len(longest) > 1:
            raise Broken(
                f"lists the image {listed[:80]!r}, and there are {len(longest)} ({longest[0]}, {longest[1]}): list them with "
                "their folder"
            )
        return longest[0]


@dataclass
class _Entry:
    """An image that a file lists."""

    name: str
    size: tuple[int, int]


class _Table:
    """One .json file.

    Args:
        told: its name in problems.

    Raises:
        InputError: where it is no such file.
    """

    def __init__(self, path: Path, told: str, problems: list[Problem]) -> None:
        self.told, self.problems = told, problems
        raw = _load(path)
        self.images: dict[Hashable, _Entry] = {}
        for entry in raw["images"]:
            self._take_image(entry)
        self.categories: dict[Hashable, str] = {}
        for entry in raw["categories"]:
            self._take_category(entry)
        self.annotations: dict[Hashable, list[tuple[Any, dict[str, Any]]]] = defaultdict(list)
        for number, entry in enumerate(raw["annotations"], 1):
            self._take_annotation(number, entry)

    def _say(self, reason: str) -> None:
        self.problems.append({"file": self.told, "reason": reason})

    def _take_image(self, entry: Any) -> None:
        number = _id(entry, "id")
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if number is None or not isinstance(name, str) or not name:
            self._say(f"lists an image without id or file_name, {_shown(entry)}: it was left out")
        elif number in self.images:
            first = self.images[number].name
            self._say(f"lists two images of the id {number}, {first[:80]!r} and {name[:80]!r}: the second was left out")
        else:
            size = tuple(value if isinstance(value := entry.get(key), int) else 0 for key in ("width", "height"))
            self.images[number] = _Entry(name, size)  # type: ignore[arg-type]

    def _take_category(self, entry: Any) -> None:
        number = _id(entry, "id")
        if number is None:
            self._say(f"has a category without id, {_shown(entry)}: it was left out")
            return
        name = entry.get("name")
        self.categories[number] = name.strip() if isinstance(name, str) and name.strip() else str(number)

    def _take_annotation(self, at: int, entry: Any) -> None:
        image = _id(entry, "image_id")
        number = _id(entry, "id")
        told = f"annotation {at}" if number is None else f"annotation {number}"
        if image is None or image not in self.images:
            self._say(f"{told} is of the image {_shown(image)}, which is not listed: it was left out")
        else:
            self.annotations[image].append((told, entry))

    def read(self, root: Path, disk: _Disk, known: dict[str, tuple[Found, Look]]) -> dict[str, tuple[Found, Look]]:
        """The boxes of every image that is there, by its file's name; of one that is known already, what is known."""
        read: dict[str, tuple[Found, Look]] = {}
        for number, entry in self.images.items():
            try:
                name = disk.find(entry.name, self.told)
                if name in known:
                    read[name] = known[name]
                    continue
                if name in read:
                    raise Broken(f"lists the image {entry.name!r} twice: the second was left out")
                seen = head_of(root / name, name, self.problems)
                if seen is None:
                    continue
                try:
                    check_size(entry.size, seen.width, seen.height)
                except Broken as error:
                    raise Broken(f"image {entry.name!r} {error}") from None
            except Broken as error:
                self._say(str(error))
                continue
            read[name] = self._boxes(number, entry.name, seen), seen
        return read

    def _boxes(self, image: Hashable, name: str, seen: Look) -> Found:
        found = Found()
        for told, entry in self.annotations.get(image, ()):
            tell = lambda reason, told=told: self._say(f"{told} of {name!r} {reason}")  # noqa: E731
            try:
                category = _id(entry, "category_id")
                if category is None or category not in self.categories:
                    raise ValueError(
                        f"has the category {_shown(category)}, which is not listed: add it, or correct the id"
                    )
                x, y, w, h = _numbers(entry.get("bbox"))
                shown = f"[{x:g}, {y:g}, {w:g}, {h:g}]"
                box = fitted([x, y, x + w, y + h], seen.width, seen.height, shown, tell)
                found.add(box, self.categories[category], entry.get("iscrowd") in (1, "1"))
            except ValueError as error:
                tell(f"{error}; it was left out")
        return found


def _load(path: Path) -> dict[str, Any]:
    """The file, whose three lists are there.

    Raises:
        InputError: where it is no JSON, or not of COCO.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES >> 30} GB: split it")
        raw = json.loads(path.read_bytes())
    except RecursionError:
        raise InputError(f"{path}: nested too deeply: this is no file of COCO") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is no whole JSON ({error}): export it again") from None
    lists = raw if isinstance(raw, dict) else {}
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(lists.get(key), list)]
    if missing:
        raise InputError(
            f"{path}: has no list of {' and '.join(missing)}: boxes are read from COCO's files of images, annotations and "
            "categories"
        )
    return lists


def _id(entry: Any, key: str) -> Hashable:
    """An id, which is a number or a text; None where there is none."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, int | str | float) and not isinstance(value, bool) else None


def _numbers(box: Any) -> Iterator[float]:
    """The four numbers of a box.

    Raises:
        ValueError: where it has others.
    """
    plain = isinstance(box, list) and len(box) == 4
    if not plain or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in box):
        raise ValueError(f"has the bbox {_shown(box)}: give x, y, width and height as numbers")
    try:
        return iter([float(value) for value in box])
    except OverflowError:
        raise ValueError(f"has the bbox {_shown(box)}: give finite numbers") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
