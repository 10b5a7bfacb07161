"""Parquet files and data sets of the Hugging Face hub: a column of images and, on request, one of labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.decode import Raw
from withheld.data.elsewhere import Shard, is_address
from withheld.data.label_columns import ASKED_COLUMNS, IMAGE_COLUMNS
from withheld.data.labels import find_labels, given_labels
from withheld.data.layout import part_named
from withheld.data.shards import RowNames, Sharded, parts_of
from withheld.data.source import Labels, Source, digest, labels_wanted
from withheld.data.wanted import IMAGES, Wanted
from withheld.data.windows import Windows, cut
from withheld.data.work import in_order
from withheld.errors import InputError, WithheldError, nearest
from withheld.hub import named_set
from withheld.types import UNKNOWN_LABEL

VIDEO_COLUMNS = ("video", "clip", "videos", "clips", "movie", "film")
HUB_ROWS = 256
"""Rows of a window, at most."""


class ParquetStore(Sharded):
    """Rows of Parquet files, read a few at a time.

    Args:
        shards: of which some may have no rows. groups: of every file, rows and bytes of its row groups, (groups, 2).
        column: of the items.
    """

    rows_at_once = 16

    def __init__(self, shards: list[Shard], groups: list[np.ndarray], column: str) -> None:
        super().__init__([int(one[:, 0].sum()) for one in groups])
        self.shards, self.groups, self.columns = shards, groups, [column]

    def cell(self, batch: Any, row: int) -> Raw:
        """What an item is made of."""
        return as_raw(batch.column(0)[row].as_py())

    def windows(self) -> Windows | None:
        every = np.concatenate(self.groups)
        return cut(every[:, 0], every[:, 1])

    def rows_of(self, shard: int, rows: np.ndarray) -> Iterator[tuple[int, Raw]]:
        import pyarrow.parquet as pq

        ends = np.cumsum(self.groups[shard][:, 0])
        groups = np.searchsorted(ends, rows, side="right")
        with pq.ParquetFile(self.shards[shard].handle(), buffer_size=self.shards[shard].chunk) as file:
            for group in np.unique(groups):
                begin = int(ends[group - 1]) if group else 0
                places = np.flatnonzero(groups == group)
                yield from self._of_group(file, int(group), places, rows[places] - begin)

    def _of_group(self, file: Any, group: int, places: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, Raw]]:
        next_one = at = 0
        try:
            for batch in file.iter_batches(batch_size=self.rows_at_once, row_groups=[group], columns=self.columns):
                while next_one < len(rows) and rows[next_one] < at + len(batch):
                    yield int(places[next_one]), self.cell(batch, int(rows[next_one]) - at)
                    next_one += 1
                at += len(batch)
                if next_one == len(rows):
                    return
        except WithheldError:  # the network, not the item
            raise
        except Exception as error:  # a damaged page raises several kinds; what lies behind it cannot be read either
            yield from ((int(place), error) for place in places[next_one:])


class HubStore(Sharded):
    """Rows of `datasets` splits, one after the other."""

    def __init__(self, splits: Sequence[Any], column: str) -> None:
        super().__init__([len(split) for split in splits])
        self.splits, self.column = splits, column

    def windows(self) -> Windows | None:
        counts = [len(split) for split in self.splits]
        sizes = [int(split.data.nbytes) for split in self.splits]
        steps = [np.full(-(-count // HUB_ROWS), HUB_ROWS) for count in counts]
        for step, count in zip(steps, counts, strict=True):
            step[-1:] -= len(step) * HUB_ROWS - count
        each = [step * size // max(1, count) for step, size, count in zip(steps, sizes, counts, strict=True)]
        return cut(np.concatenate(steps), np.concatenate(each))

    def rows_of(self, shard: int, rows: np.ndarray) -> Iterator[tuple[int, Raw]]:
        for place, row in enumerate(rows.tolist()):
            try:
                contents = as_raw(self.splits[shard][row][self.column])
            except Exception as error:  # one damaged row
                contents = error
            yield place, contents


def as_raw(value: Any) -> Raw:
    """The contents of a cell: bytes, or the bytes of an image struct, or nested numbers. Paths are not followed."""
    if isinstance(value, dict):
        value = value.get("bytes")
        if value is None:
            return ValueError("the table holds a path instead of the item itself")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if value is None:
        return ValueError("the cell is empty")
    try:
        return np.asarray(value)
    except Exception as error:  # ragged nested lists
        return error


def open_parquet(shards: list[Shard], text: str, labels: Labels = None) -> Source:
    """Opens Parquet files with an image column (bytes, or a struct with bytes).

    Raises:
        InputError: where a file is damaged or no such column is found.
    """
    stems = [shard.name for shard in shards]
    with opened_parquet(shards[0]) as opened:
        schema = opened.schema_arrow
    column = _image_column(schema, text)
    groups, left_out, fingerprint = groups_of(shards, [column], _holds_items, "images")
    store = ParquetStore(shards, groups, column)
    names = RowNames(stems, np.diff(store.starts).tolist())
    if not len(names):
        raise InputError(f"found 0 images under {text}: the Parquet files have no rows")
    parts = parts_of(stems, np.diff(store.starts).tolist())
    source = Source(
        location=text, kind="parquet", names=names, store=store, fingerprint=digest(fingerprint), parts=parts,
        left_out=left_out, stamp=digest([shard.stamp for shard in shards]),
    )  # fmt: skip
    if labels_wanted(labels):
        source.labels, source.classes = _parquet_labels(shards, schema, labels, text, names, source.notes)
    return source


@contextmanager
def opened_parquet(shard: Shard) -> Iterator[Any]:
    """A Parquet file, with what is wrong with it told."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(shard.handle()) as opened:
            yield opened
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{shard.name} is a damaged Parquet file: {error}; get it again") from error


def groups_of(
    shards: list[Shard], columns: Collection[str], fits: Callable[[Any], bool], holding: str
) -> tuple[list[NDArray[np.int64]], list[dict[str, str]], list[str | bytes | int]]:
    """Of every Parquet file (groups, 2): rows, and the bytes of the columns, of its row groups; files without rows; a fingerprint.

    Raises:
        InputError: where a file has no such column; `fits` says which types hold what `holding` names.
    """
    groups: list[NDArray[np.int64]] = []
    left_out: list[dict[str, str]] = []
    fingerprint: list[str | bytes | int] = []
    look = partial(_look, columns=columns, fits=fits, holding=holding, first=shards[0].name)
    for shard, (found, sample) in zip(shards, in_order(shards, look, shards[0].at_once), strict=True):
        groups.append(found)
        if not found[:, 0].sum():
            left_out.append({"file": shard.name, "reason": "has no rows"})
        fingerprint += [shard.name, shard.size, sample]
    return groups, left_out, fingerprint


def _look(
    shard: Shard, columns: Collection[str], fits: Callable[[Any], bool], holding: str, first: str
) -> tuple[NDArray[np.int64], bytes]:
    with opened_parquet(shard) as opened:
        schema, metadata = opened.schema_arrow, opened.metadata
    for column in columns:
        if column not in schema.names or not fits(schema.field(column).type):
            raise InputError(
                f"{shard.name} has no {column!r} column of {holding} as {first} has; its columns are "
                f"{', '.join(schema.names)}: give the files that belong together"
            )
    found = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        parts = [group.column(i) for i in range(group.num_columns)]
        mine = (part for part in parts if {part.path_in_schema, part.path_in_schema.split(".")[0]} & set(columns))
        found.append((group.num_rows, sum(part.total_uncompressed_size for part in mine)))
    return np.array(found, np.int64).reshape(-1, 2), hashlib.sha256(shard.head()).digest()


def _holds_items(kind: Any) -> bool:
    import pyarrow.types as kinds

    if kinds.is_binary(kind) or kinds.is_large_binary(kind):
        return True
    return bool(kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _image_column(schema: Any, text: str) -> str:
    fits = [field.name for field in schema if _holds_items(field.type)]
    return _pick(fits, IMAGE_COLUMNS, text, "image", list(schema.names))


def _pick(fits: list[str], preferred: Sequence[str], text: str, what: str, columns: list[str]) -> str:
    """The column of items; of the hub's sets it may be named."""
    hub = named_set(text) if text.startswith("hf:") and not is_address(text) else None
    if hub is not None and hub.column is not None:
        if hub.column in fits:
            return hub.column
        holds = f"its {what} columns are {', '.join(fits)}" if fits else f"it has no {what} column"
        raise InputError(
            f"{text} has no {what} column {hub.column!r}; {holds}; all of its columns: {', '.join(columns)}"
        )
    for name in preferred:
        if name in fits:
            return name
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise InputError(f"{text} has no {what} column; its columns are {', '.join(columns)}")
    remedy = (
        f"rename one to {preferred[0]!r}" if hub is None else f"name one: hf:{hub.name}:{hub.config or ''}:{fits[0]}"
    )
    raise InputError(f"{text} has several {what} columns ({', '.join(fits)}); {remedy}")


def _parquet_labels(
    shards: list[Shard], schema: Any, labels: Labels, text: str, names: Sequence[str], notes: list[str]
) -> tuple[np.ndarray, list[str]]:
    import pyarrow.parquet as pq

    if not (labels is True or isinstance(labels, str | Path)):
        return given_labels(labels, len(names))  # type: ignore[arg-type]
    if labels is not True and str(labels) not in schema.names and Path(labels).is_file():
        return find_labels(labels, list(names), None, None, text, notes)
    told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    named = [name for name, kind in told.items() if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"]
    column = _label_column(labels, named, list(schema.names), text)
    values: list[Any] = []
    for shard in shards:
        values += pq.read_table(shard.handle(), columns=[column]).column(0).to_pylist()
    return _numbered(values, (told.get(column) or {}).get("names"))


def _label_column(labels: Labels, named: list[str], columns: list[str], text: str) -> str:
    if labels is not True:
        if str(labels) not in columns:
            raise InputError(f"{text} has no column {str(labels)!r}; {nearest(str(labels), columns)}")
        return str(labels)
    fits = named or [c for c in ASKED_COLUMNS if c in columns]
    if len(fits) > 1:
        fits = [c for c in ASKED_COLUMNS if c in fits] or fits
    if not fits:
        raise InputError(f"{text} has no label column; name one of {', '.join(columns)}")
    if len(fits) > 1 and fits[0] not in ASKED_COLUMNS:
        raise InputError(f"{text} has several label columns ({', '.join(fits)}); name one of them")
    return fits[0]


def _numbered(values: list[Any], names: list[str] | None) -> tuple[np.ndarray, list[str]]:
    if names is None:
        return given_labels(values, len(values))
    numbers = [UNKNOWN_LABEL if v is None or not 0 <= int(v) < len(names) else int(v) for v in values]
    return np.array(numbers, np.int64), list(names)


def open_hub(text: str, labels: Labels = None, wanted: Wanted = IMAGES) -> Source:
    """Opens "hf:NAME", "hf:NAME:CONFIG" or "hf:FOLDER" (of `save_to_disk`), each with ":COLUMN", through `datasets`; runs no code.

    Raises:
        InputError: where it cannot be loaded, or has no column of images; of videos, where these are `wanted`.
    """
    name, config, _ = named_set(text)
    return open_splits(_load(name, config, text), text, labels, wanted)


def open_splits(splits: dict[str, Any], text: str, labels: Labels = None, wanted: Wanted = IMAGES) -> Source:
    """Opens splits of `datasets`.

    Raises:
        InputError: where they have no column of images; of videos, where these are `wanted`.
    """
    features = next(iter(splits.values())).features
    one = str(wanted).removesuffix("s")
    fits = [column for column, kind in features.items() if type(kind).__name__ == one.capitalize()]
    fits = fits or [
        column for column, kind in features.items() if getattr(kind, "dtype", "") in ("binary", "large_binary")
    ]
    column = _pick(fits, IMAGE_COLUMNS if wanted is IMAGES else VIDEO_COLUMNS, text, one, list(features))
    plain = [_undecoded(split, column) for split in splits.values()]
    parts = np.concatenate([np.full(len(s), part_named(key)) for key, s in splits.items()])
    names = RowNames(list(splits), [len(split) for split in splits.values()])
    if not len(names):
        raise InputError(f"found 0 {wanted} under {text}: it has no rows")
    source = Source(
        location=text, kind="hub", names=names, store=HubStore(plain, column),
        fingerprint=digest([text, *(str(p) for k, s in splits.items() for p in (k, len(s), s._fingerprint))]),
        parts=parts if (parts != "").any() else None,
    )  # fmt: skip
    if isinstance(labels, str | Path) and str(labels) not in features and Path(labels).is_file():
        source.labels, source.classes = find_labels(labels, list(names), None, None, text, source.notes)
    elif labels is True or isinstance(labels, str | Path):
        named = [c for c, kind in features.items() if type(kind).__name__ == "ClassLabel"]
        chosen = _label_column(labels, named, list(features), text)
        values = [value for split in splits.values() for value in split[chosen]]
        source.labels, source.classes = _numbered(values, getattr(features[chosen], "names", None))
    elif labels_wanted(labels):
        source.labels, source.classes = given_labels(labels, len(names))
    return source


def _load(name: str, config: str | None, text: str) -> dict[str, Any]:
    import datasets

    try:
        if (Path(name) / "state.json").is_file() or (Path(name) / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)
        else:
            loaded = datasets.load_dataset(name, config)
    except Exception as error:  # the network, the hub and the files each raise their own kinds
        reason = str(error).strip().split("\n")[0][:300]
        raise InputError(
            f"cannot load {text}: {reason}; check the name and the network, or download it and give the Parquet files"
        ) from error
    return dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "all"): loaded}


def _undecoded(split: Any, column: str) -> Any:
    import datasets

    plain = split.select_columns([column])
    kind = {"Image": datasets.Image, "Video": datasets.Video}.get(type(plain.features[column]).__name__)
    return plain if kind is None else plain.cast_column(column, kind(decode=False))
