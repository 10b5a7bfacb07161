"""What the user has, as a list of items that need no labels: names in a fixed order, read one by one or streamed."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from withheld.data.decode import SUFFIXES, Decoded, Raw, decode, is_image
from withheld.data.elsewhere import Local, Shard, is_address, shards_at
from withheld.data.sample import spread
from withheld.data.wanted import UNREAD, instead
from withheld.data.windows import Windows
from withheld.errors import InputError, neighbor
from withheld.hub import named_set
from withheld.redact import redact
from withheld.wording import plural

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Labels = bool | str | Path | Sequence[Any] | np.ndarray | None
"""True reads those that come with the data; a str or Path is a csv or the name of a column; None and False read none."""


def labels_wanted(labels: Labels) -> TypeIs[Literal[True] | str | Path | Sequence[Any] | np.ndarray]:
    """Whether any are asked for; not by truth, which an array has none of."""
    return labels is not None and labels is not False


class Store(ABC):
    """Where the items of a source lie."""

    sequential: bool = False
    """True where reading one item means reading all before it."""

    @abstractmethod
    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        """Yields (place in `positions`, contents or the error met); ascending by position where sequential."""

    def array(self) -> np.ndarray | None:
        """All items as one array (N, H, W, C), where they are one."""
        return None

    def windows(self) -> Windows | None:
        """Which items are best read together, where items that are read one by one cost much more; else None."""
        return None


@dataclass
class Source:
    """Items and, on request, labels.

    Attributes:
        location: as the user gave it.
        kind: "folder", "idx", "tar", "zip", "parquet", "hub", "array" or "npy".
        names: one an item: a relative path, or such as "train-images:17".
        fingerprint: hex SHA-256 over names and sizes, without reading pixels.
        labels: (N,) int64, -100 where unknown; None unless asked for.
        classes: the names that labels count into.
        parts: (N,) of str, "train", "test", "val" or "" where the source says so, else None.
        left_out: {"file", "reason"} of what looked like an item and is none.
        stamp: place and time of change, which tells copies of the prepared cache apart.
        positions: (N,) of the items in the store; None where they are all of it, in its order.
        masks: names of masks beside the images, which are no items.
        told: what was taken of the data where it could have been something else, and how to have that; "" elsewhere.
        unread: names of pictures and videos beside the items, which are none.
        notes: what of a csv of labels was left out, or taken where it could have been something else.
    """

    location: str
    kind: str
    names: Sequence[str]
    store: Store
    fingerprint: str
    labels: np.ndarray | None = None
    classes: list[str] = field(default_factory=list)
    parts: np.ndarray | None = None
    left_out: list[dict[str, str]] = field(default_factory=list)
    stamp: str = ""
    positions: np.ndarray | None = None
    masks: list[str] = field(default_factory=list)
    told: str = ""
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Source({self.location!r}, {self.kind}, {plural(len(self), 'item')})"

    def subset(self, index: np.ndarray | Sequence[int]) -> Source:
        """Some of the items, in the order of `index`."""
        chosen = np.arange(len(self))[np.asarray(index)]
        return dataclasses.replace(
            self,
            names=[self.names[i] for i in chosen],
            fingerprint=digest([self.fingerprint, chosen.astype("<i8").tobytes()]),
            labels=None if self.labels is None else self.labels[chosen],
            parts=None if self.parts is None else self.parts[chosen],
            left_out=[],
            positions=self.places(chosen),
        )

    def part(self, name: str) -> Source | None:
        """The items of "train", "test" or "val"; None where there are none."""
        if self.parts is None or not (self.parts == name).any():
            return None
        chosen = np.flatnonzero(self.parts == name)
        if len(chosen) == len(self):  # all of it, without lists of what may be very many
            return dataclasses.replace(self, fingerprint=digest([self.fingerprint, chosen.astype("<i8").tobytes()]))
        return dataclasses.replace(self.subset(chosen), left_out=self.left_out)

    def raw(self, index: np.ndarray | None = None) -> Iterator[tuple[int, Raw]]:
        """Yields (position, undecoded contents or the error met), of all items or those of `index`.

        Raises:
            InputError: where the whole source went away.
        """
        index = np.arange(len(self)) if index is None else np.asarray(index)
        try:
            for place, contents in self.store.raw(self.places(index)):
                yield int(index[place]), contents
        except OSError as error:
            raise InputError(f"{self.location} can no longer be read: {error}; is it still there?") from error

    def stream(self) -> Iterator[tuple[int, Image.Image | np.ndarray | Exception]]:
        """Yields (position, image); an item that cannot be read gives its error and the stream goes on."""
        for position, contents in self.raw():
            try:
                yield position, decode(contents)
            except Exception as error:  # damaged files raise anything
                yield position, error

    def read(self, i: int, near: int | None = None, grey: bool = False) -> Decoded:
        """One item, decoded.

        Args:
            i: which. near, grey: as for `decode`.

        Raises:
            Exception: of any kind where it cannot be read.
        """
        for _, contents in self.raw(np.array([range(len(self))[i]])):
            return decode(contents, near, grey)
        raise IndexError(i)

    def array(self, start: int, stop: int) -> np.ndarray | None:
        """Some items in a row as one array (N, H, W, C), where all of the source are one array."""
        whole = self.store.array()
        return None if whole is None else whole[self.places(np.arange(start, min(stop, len(self))))]

    def check_readable(self, what: str, good: int, lost: int, skipped: list[dict[str, str]], allowed: float) -> None:
        """Refuses items of which too many are broken.

        Args:
            what: the items' name, several of them. good, lost: how many can be read, and cannot. skipped: these, with reasons.
            allowed: the largest share that may be lost.

        Raises:
            InputError: none is good, or more are lost; with the first of them.
        """
        total = good + lost
        shown = "\n".join(f"  {line['file']!r}: {line['reason']}" for line in skipped[:5])
        if not good:
            raise InputError(
                f"found 0 {what} under {self.location} that can be read, of {total:,}; the first:\n{shown}"
            )
        if lost > allowed * total:
            raise InputError(
                f"{lost:,} of {total:,} {what} under {self.location} cannot be read ({lost / total:.0%}, allowed are "
                f"{allowed:.0%}); remove or mend them, or allow more with allow_bad; the first:\n{shown}"
            )

    def places(self, index: np.ndarray) -> np.ndarray:
        """Where items of these numbers lie in the store."""
        return index if self.positions is None else self.positions[index]

    def windows(self) -> Windows | None:
        """Which items are best read together; None where they may be read in any order at no greater cost."""
        found = self.store.windows()
        if found is None or self.positions is None:
            return found
        return found.within(self.positions) if bool((np.diff(self.positions) > 0).all()) else None

    def spread(self, sample: int) -> np.ndarray:
        """Numbers of about so many items, ascending, spread over all as evenly as reading them at little cost allows."""
        windows = self.windows() if len(self) > sample else None
        return spread(len(self), sample) if windows is None else windows.spread(sample)


def digest(parts: Iterable[str | bytes | int]) -> str:
    """Hex SHA-256 over a sequence of parts, each told apart from the next; any file name is fine."""
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


def stamp_of(path: Path, *more: Any) -> str:
    """Place and time of change of a file or folder."""
    return digest([os.fsencode(path.resolve()), path.stat().st_mtime_ns, *map(str, more)])


def open_source(data: Any, labels: Labels = None, stream: bool = False) -> Source:
    """Opens whatever holds images.

    Args:
        data: a folder, an archive (tar, tar.gz, zip), an image, an IDX, .npy or Parquet file, a pattern of Parquet files or tars
            ("shards/*.tar"), an address or a pattern of addresses of such ("s3://bucket/*.parquet"), "hf:NAME", an array or
            tensor (N, H, W[, C]), a list of images or arrays, (images, labels), a `datasets` Dataset, a table of pandas with a
            column of images or files, or anything with a length and items, such as a torch Dataset of images or (image, label).
        labels: None or False never looks at labels; True takes them from class folders, labels.csv, the IDX labels or
            the label column; a path is a csv with the columns file and label; a str may name the column of a table; a
            sequence is the labels themselves.
        stream: leave hf:NAME on the hub and read its shards there, where otherwise `datasets` downloads it.

    Raises:
        InputError: where there is nothing to read, saying what was looked for; where labels.csv is wrong, with lines.
        Unreachable: where the network fails.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | os.PathLike):
        text = os.fsdecode(data)
        if is_address(text):
            from withheld.data.shards import open_shards

            return open_shards(shards_at(text), redact(text), labels)
        if text.startswith("hf:"):
            from withheld.data.hub_shards import open_hub_shards
            from withheld.data.table import open_hub

            there = stream and not Path(named_set(text).name).exists()
            return open_hub_shards(text, labels) if there else open_hub(text, labels)
        return _open_path(Path(text).expanduser(), text, labels)
    from withheld.data.array import open_array

    return open_array(data, labels)


def _open_path(path: Path, text: str, labels: Labels) -> Source:
    if not path.exists():
        if glob.has_magic(text):
            from withheld.data.shards import open_pattern

            return open_pattern(text, labels)
        raise InputError(f"there is no file or folder {text!r}{neighbor(path)}; give a folder or archive of images")
    if path.is_dir():
        from withheld.data.folder import open_folder

        return open_folder(path, text, labels)
    if not path.is_file():
        raise InputError(f"{text!r} is neither a file nor a folder; give a folder or archive of images")
    return open_file(Local(path, path.name), text, labels)


def open_file(shard: Shard, text: str, labels: Labels) -> Source:
    """Opens a single file by what its first bytes say it is."""
    from withheld.data import archive, array, idx, table

    head = shard.head()[:512]
    if head[:4] == b"PAR1":
        return table.open_parquet([shard], text, labels)
    if not isinstance(shard, Local):
        return archive.open_remote(shard, text, labels)
    path = shard.path
    if head[:6] == b"\x93NUMPY":
        return array.open_npy(path, text, labels)
    if is_image(head):
        from withheld.data.folder import open_one

        return open_one(path, text, labels)
    if idx.is_idx(path):
        return idx.open_idx([path], path.parent, text, labels)
    if (found := archive.open_archive(path, text, labels)) is not None:
        return found
    if path.suffix.lower() == ".csv" and labels_wanted(labels):
        raise InputError(
            f"{text!r} holds no images: where it tells the labels of some, give the folder they lie in as the data, and it as "
            f"--labels{instead([text])}"
        )
    if not head:
        raise InputError(f"{text!r} is empty: get it again, or leave it out")
    if path.suffix.lower() in (".yaml", ".yml", ".data", ".json"):
        from withheld.data.boxes import boxes_beside

        if told := boxes_beside(path):
            raise InputError(f"{text!r} holds no images; {told}")
    if path.suffix.lower() in UNREAD:
        raise InputError(f"{text!r} is a picture of a kind that is not read here: save it as JPEG or PNG")
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"{text!r} is no image, whatever its name says: get it again, or leave it out")
    raise InputError(
        f"{text!r} is not a kind of data that images are read from: give a folder of images, a tar, tar.gz or zip of images, "
        f"an IDX file, a .npy array, a Parquet file, or hf:NAME{instead([text]) or '; unpack other archives first'}"
    )
