"""Parquet files and data sets of the Hugging Face hub: a column of images and, on request, one of labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.decode import Raw
from withheld.data.labels import LABEL_COLUMNS, find_labels, given_labels
from withheld.data.layout import PARTS
from withheld.data.source import Labels, Source, Store, digest, stamp_of
from withheld.errors import InputError, nearest
from withheld.types import UNKNOWN_LABEL

IMAGE_COLUMNS = ("image", "img", "images", "picture", "photo", "pixel_values")


class ParquetStore(Store):
    """Rows of Parquet files, read a few at a time."""

    def __init__(self, files: list[Path], counts: list[int], column: str) -> None:
        self.files = files
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.column = column

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        import pyarrow.parquet as pq

        order = np.argsort(positions, kind="stable")
        which = np.searchsorted(self.starts, positions[order], side="right") - 1
        for number in np.unique(which):
            with pq.ParquetFile(self.files[number], buffer_size=1 << 20) as file:
                yield from self._of_file(file, order[which == number], positions, int(self.starts[number]))

    def _of_file(self, file: Any, places: np.ndarray, positions: np.ndarray, begin: int) -> Iterator[tuple[int, Raw]]:
        rows = positions[places] - begin
        ends = np.cumsum([file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)])
        groups = np.searchsorted(ends, rows, side="right")
        for group in np.unique(groups):
            at = int(ends[group - 1]) if group else 0
            wanted = list(zip(rows[groups == group], places[groups == group], strict=True))
            next_one = 0
            for batch in file.iter_batches(batch_size=16, row_groups=[int(group)], columns=[self.column]):
                values = batch.column(0)
                while next_one < len(wanted) and wanted[next_one][0] < at + len(values):
                    row, place = wanted[next_one]
                    yield int(place), as_raw(values[int(row) - at].as_py())
                    next_one += 1
                at += len(values)
                if next_one == len(wanted):
                    break


class HubStore(Store):
    """Rows of `datasets` splits, one after the other."""

    def __init__(self, splits: Sequence[Any], column: str) -> None:
        self.splits = splits
        self.starts = np.concatenate([[0], np.cumsum([len(s) for s in splits])])
        self.column = column

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        for place, position in enumerate(positions):
            number = int(np.searchsorted(self.starts, position, side="right")) - 1
            try:
                contents = as_raw(self.splits[number][int(position - self.starts[number])][self.column])
            except Exception as error:  # one damaged row
                contents = error
            yield place, contents


def as_raw(value: Any) -> Raw:
    """The contents of a cell: bytes, or the bytes of an image struct, or nested numbers. Paths are not followed."""
    if isinstance(value, dict):
        value = value.get("bytes")
        if value is None:
            return ValueError("the table holds a path instead of the image itself")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if value is None:
        return ValueError("the cell is empty")
    try:
        return np.asarray(value)
    except Exception as error:  # ragged nested lists
        return error


def open_parquet(files: list[Path], root: Path, text: str, labels: Labels = None) -> Source:
    """Opens Parquet files with an image column (bytes, or a struct with bytes).

    Raises:
        InputError: where a file is damaged or no such column is found.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts, schema = [], None
    fingerprint: list[str | bytes | int] = []
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                counts.append(opened.metadata.num_rows)
                schema = opened.schema_arrow if schema is None else schema
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{file.name} is a damaged Parquet file: {error}; get it again") from error
        with file.open("rb") as stream:
            sample = hashlib.sha256(stream.read(1 << 16)).digest()
        fingerprint += [str(file.relative_to(root)), file.stat().st_size, sample]
    if schema is None or not sum(counts):
        raise InputError(f"found 0 images under {text}: the Parquet files have no rows")
    told = [_part_of(str(file.relative_to(root))) for file in files]
    parts = np.repeat(np.array(told), counts)
    stems = [file.relative_to(root).as_posix() for file in files]
    names = [f"{stem}:{i}" for stem, n in zip(stems, counts, strict=True) for i in range(n)]
    source = Source(
        location=text, kind="parquet", names=names, store=ParquetStore(files, counts, _image_column(schema, text)),
        fingerprint=digest(fingerprint), parts=parts if any(told) else None,
        stamp=digest([stamp_of(file) for file in files]),
    )  # fmt: skip
    if labels is not None and labels is not False:
        source.labels, source.classes = _parquet_labels(files, schema, labels, text, names)
    return source


def _image_column(schema: Any, text: str) -> str:
    import pyarrow.types as kinds

    fits = [
        f.name
        for f in schema
        if kinds.is_binary(f.type)
        or kinds.is_large_binary(f.type)
        or (kinds.is_struct(f.type) and f.type.get_field_index("bytes") >= 0)
    ]
    return _pick(fits, IMAGE_COLUMNS, text, "image", list(schema.names))


def _pick(fits: list[str], preferred: Sequence[str], text: str, what: str, columns: list[str]) -> str:
    for name in preferred:
        if name in fits:
            return name
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise InputError(f"{text} has no {what} column; its columns are {', '.join(columns)}")
    raise InputError(f"{text} has several {what} columns ({', '.join(fits)}); rename one to {preferred[0]!r}")


def _parquet_labels(
    files: list[Path], schema: Any, labels: Labels, text: str, names: list[str]
) -> tuple[np.ndarray, list[str]]:
    import pyarrow.parquet as pq

    if not (labels is True or isinstance(labels, str | Path)):
        return given_labels(labels, len(names))  # type: ignore[arg-type]
    if labels is not True and str(labels) not in schema.names and Path(labels).is_file():
        return find_labels(labels, names, None, None, text)
    told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    named = [name for name, kind in told.items() if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"]
    column = _label_column(labels, named, list(schema.names), text)
    values: list[Any] = []
    for file in files:
        values += pq.read_table(file, columns=[column]).column(0).to_pylist()
    return _numbered(values, (told.get(column) or {}).get("names"))


def _label_column(labels: Labels, named: list[str], columns: list[str], text: str) -> str:
    if labels is not True:
        if str(labels) not in columns:
            raise InputError(f"{text} has no column {str(labels)!r}; {nearest(str(labels), columns)}")
        return str(labels)
    fits = named or [c for c in LABEL_COLUMNS if c in columns]
    if len(fits) > 1:
        fits = [c for c in LABEL_COLUMNS if c in fits] or fits
    if not fits:
        raise InputError(f"{text} has no label column; name one of {', '.join(columns)}")
    if len(fits) > 1 and fits[0] not in LABEL_COLUMNS:
        raise InputError(f"{text} has several label columns ({', '.join(fits)}); name one of them")
    return fits[0]


def _numbered(values: list[Any], names: list[str] | None) -> tuple[np.ndarray, list[str]]:
    if names is None:
        return given_labels(values, len(values))
    numbers = [UNKNOWN_LABEL if v is None or not 0 <= int(v) < len(names) else int(v) for v in values]
    return np.array(numbers, np.int64), list(names)


def _part_of(name: str) -> str:
    words = name.lower().replace("\\", "/").replace("-", "/").replace("_", "/").replace(".", "/").split("/")
    return next((PARTS[word] for word in words if word in PARTS), "")


def open_hub(text: str, labels: Labels = None) -> Source:
    """Opens "hf:NAME", "hf:NAME:CONFIG" or "hf:FOLDER" (of `save_to_disk`) through `datasets`; no code is run.

    Raises:
        InputError: where it cannot be loaded, or has no image column.
    """
    name, _, config = text.removeprefix("hf:").partition(":")
    splits = _load(name, config or None, text)
    features = next(iter(splits.values())).features
    fits = [column for column, kind in features.items() if type(kind).__name__ == "Image"]
    column = _pick(fits, IMAGE_COLUMNS, text, "image", list(features))
    plain = [_undecoded(split, column) for split in splits.values()]
    parts = np.concatenate([np.full(len(s), PARTS.get(key.lower(), "")) for key, s in splits.items()])
    names = [f"{key}:{i}" for key, split in splits.items() for i in range(len(split))]
    if not names:
        raise InputError(f"found 0 images under {text}: it has no rows")
    source = Source(
        location=text, kind="hub", names=names, store=HubStore(plain, column),
        fingerprint=digest([text, *(str(p) for k, s in splits.items() for p in (k, len(s), s._fingerprint))]),
        parts=parts if (parts != "").any() else None,
    )  # fmt: skip
    if isinstance(labels, str | Path) and str(labels) not in features and Path(labels).is_file():
        source.labels, source.classes = find_labels(labels, names, None, None, text)
    elif labels is True or isinstance(labels, str | Path):
        named = [c for c, kind in features.items() if type(kind).__name__ == "ClassLabel"]
        chosen = _label_column(labels, named, list(features), text)
        values = [value for split in splits.values() for value in split[chosen]]
        source.labels, source.classes = _numbered(values, getattr(features[chosen], "names", None))
    elif labels is not None and labels is not False:
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

    return split.select_columns([column]).cast_column(column, datasets.Image(decode=False))
