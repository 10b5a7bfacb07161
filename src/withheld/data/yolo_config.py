"""Where the images of a YOLO data set lie and what its classes are called: data.yaml, obj.data, classes.txt, train.txt."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from withheld.data.boxes import Problem, read_small
from withheld.data.layout import PARTS
from withheld.data.strict_yaml import Words
from withheld.data.wanted import IMAGES
from withheld.errors import InputError

CONFIGS = (".yaml", ".yml", ".data")
FIRST = ("data.yaml", "data.yml", "dataset.yaml", "obj.data")
"""Which is taken where there are several."""
NAMES = ("classes.txt", "obj.names", "classes.names", "data.names", "predefined_classes.txt", "labels.txt")
NOTHING = ("", "~", "null", "none")


@dataclass
class Config:
    """What a data set says of itself.

    Attributes:
        told: the file that says so, for problems. folder: it lies in.
        names: of the classes by number; None where there are none.
        parts: what is said of "train", "val" and "test": folders, and lists of images.
        base: the folder that these begin at, as it was written; "" is `folder`.
        keypoints: numbers that follow the box of a pose.
        within: the folder that nothing leads out of; None where the file itself was named, which may say where its images are.
    """

    told: str
    folder: Path
    names: dict[int, str] | None = None
    parts: dict[str, list[str]] = field(default_factory=dict)
    base: str = ""
    keypoints: int = 0
    within: Path | None = None

    @property
    def home(self) -> Path:
        """The folder that the others begin at, where it is there."""
        return next((base for base in self._bases() if base.is_dir() and self.may_read(base)), self.folder)

    def may_read(self, path: Path) -> bool:
        """Whether a file or folder is there, and where it may be."""
        if not os.path.exists(path):
            return False
        return self.within is None or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.within))

    def _bases(self) -> list[Path]:
        return [self.folder / self.base, Path(self.base), self.folder] if self.base else [self.folder]

    def find(self, entry: str) -> Path | None:
        """The folder or list of an entry; what was written on another machine is looked for below `folder`."""
        for base in self._bases():
            if self.may_read(base / entry):
                return base / entry
        words = [word for word in entry.replace("\\", "/").split("/") if word not in ("", ".", "..")]
        for at in range(len(words)):
            tail = self.folder.joinpath(*words[at:])
            near = at == 0 or at < len(words) - 1 or os.path.isfile(tail)  # one folder of several tells too little
            if near and self.may_read(tail):
                return tail
        return None


def configs_in(root: Path) -> list[Path]:
    """The data.yaml of a folder, or whatever else says the same; else those of the folders in it."""
    for pattern in ("*", "*/*"):
        files = [path for path in sorted(root.glob(pattern)) if path.suffix.lower() in CONFIGS and path.is_file()]
        found = [path for path in files if is_config(path)]
        usual = [path for name in FIRST for path in found if path.name.lower() == name and pattern == "*"]
        if found:
            return usual[:1] or found
    return []


def is_config(path: Path) -> bool:
    """Whether a file names classes and parts; one of a usual name that cannot be read is told of when it is opened."""
    usual = path.name.lower() in FIRST
    try:
        config = read_config(path, path.parent)
    except InputError:
        return usual
    return bool(config.names and config.parts) or (usual and bool(config.names or config.parts))


def read_config(path: Path, within: Path | None = None) -> Config:
    """Reads data.yaml, or darknet's obj.data.

    Args:
        within: see `Config`.

    Raises:
        InputError: where it is none, with the place.
    """
    raw = _darknet(path) if path.suffix.lower() == ".data" else _yaml(path)
    config = Config(path.name, path.resolve().parent, within=within)
    for key, value in raw.items():
        part = PARTS.get(str(key).lower())
        if part:
            config.parts.setdefault(part, []).extend(_entries(path, key, value))
    config.parts = {part: entries for part, entries in config.parts.items() if entries}
    base = raw.get("path")
    config.base = base if isinstance(base, str) and base.lower() not in NOTHING else ""
    config.names = _names_of(path, raw, config)
    shape = raw.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, str) and n.isdecimal() for n in shape):
        config.keypoints = int(shape[0][:4]) * int(shape[1][:4])
    return config


def _text(path: Path) -> str:
    try:
        return read_small(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text: save it again") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _yaml(path: Path) -> dict[Any, Any]:
    try:
        loader = Words(_text(path))
        raw = loader.get_single_data()
    except RecursionError:
        raise InputError(f"{path}: nested too deeply: this is no data.yaml") from None
    except (yaml.YAMLError, TypeError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: is no YAML that can be read ({said})") from None
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: a data.yaml is keys and values: train, val and names")
    return raw


def _darknet(path: Path) -> dict[Any, Any]:
    """`key = value` lines."""
    raw: dict[Any, Any] = {}
    for line in _text(path).splitlines():
        key, equals, value = line.partition("=")
        if equals:
            raw[key.strip()] = value.strip()
    return raw


def _entries(path: Path, key: str, value: Any) -> list[str]:
    """The folders and lists that a part is made of."""
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in found):
        raise InputError(f"{path}: {key} is a folder, a list of images, or several of these")
    return [each for each in found if each.strip().lower() not in NOTHING]


def _names_of(path: Path, raw: dict[Any, Any], config: Config) -> dict[int, str] | None:
    """The classes by number, as a list or a mapping has them; a file where darknet names one."""
    names = raw.get("names")
    if isinstance(names, str) and names.lower() not in NOTHING:
        found = config.find(names) or config.find(Path(names).name)
        if found is None or not found.is_file():
            raise InputError(f"{path}: names {names!r} is no file that is there: give the names, or correct it")
        return read_names(found)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        return None
    if not all(isinstance(name, str) and name.strip() for name in names.values()):
        raise InputError(f"{path}: names are one word or more for every class: give a list of texts")
    try:
        return {int(number): name.strip() for number, name in names.items()}
    except (ValueError, TypeError):
        raise InputError(f"{path}: names are a list, or numbers from 0 with a name each") from None


def read_names(path: Path) -> dict[int, str]:
    """A class a line, counted from 0.

    Raises:
        InputError: where it is no text.
    """
    lines = [line.strip() for line in _text(path).rstrip().splitlines()]
    return {number: name or str(number) for number, name in enumerate(lines)}


def names_beside(folders: Iterable[Path], problems: list[Problem]) -> dict[int, str] | None:
    """The names that classes.txt or obj.names in the first of some folders tells."""
    seen: dict[Path, dict[int, str]] = {}
    for folder in folders:
        for path in [folder / name for name in NAMES] + sorted(folder.glob("*.names")):
            if path.is_file() and path not in seen:
                seen[path] = read_names(path)
    if not seen:
        return None
    first = next(iter(seen))
    problems += [
        {"file": str(path), "reason": f"names other classes than {first}, which was read: keep one of the two"}
        for path, names in seen.items()
        if names != seen[first]
    ]
    return seen[first]


def names_above(folder: Path) -> dict[int, str] | None:
    """The names in the data.yaml of a data set that this folder is a part of, such as its train."""
    for path in (above / name for above in list(folder.parents)[:2] for name in FIRST):
        if path.is_file() and is_config(path):
            with contextlib.suppress(InputError):
                config = read_config(path)
                found = [config.find(entry) for entries in config.parts.values() for entry in entries]
                if any(each is not None and each.resolve().is_relative_to(folder) for each in found):
                    return config.names
    return None


def listed(path: Path, config: Config, problems: list[Problem]) -> Iterator[Path]:
    """The images that a list names, a line each, from its folder or that of the data set."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if not IMAGES.named(name):
            problems.append({"file": path.name, "reason": f"line {number} names {name[:80]!r}, which is no image"})
            continue
        found = next((at for at in (path.parent / name, config.folder / name) if config.may_read(at)), None)
        found = found or config.find(name)
        if found is None or not os.path.isfile(found):
            reason = f"line {number} names {name[:80]!r}, and there is no such image: remove the line, or add the file"
            problems.append({"file": path.name, "reason": reason})
            continue
        yield Path(os.path.normpath(found))
