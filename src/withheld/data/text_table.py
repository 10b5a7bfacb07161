"""Tables with a column of text: csv, tsv, JSON lines, Parquet, and data sets of the Hugging Face hub."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.array import ListStore, labeled
from withheld.data.decode import SUFFIXES, Raw
from withheld.data.json_rows import cell_text, flat, is_worded, rows_of_json, rows_of_lines
from withheld.data.label_columns import LABEL_COLUMNS, columns_named, label_of_rows
from withheld.data.labels import find_labels, given_labels
from withheld.data.layout import part_named
from withheld.data.source import Labels, Source, digest, labels_wanted, stamp_of
from withheld.data.text import gunzipped, part_of
from withheld.data.unicode import table_text
from withheld.data.wanted import OTHERS
from withheld.errors import InputError, nearest
from withheld.hub import named_set
from withheld.wording import plural

TEXT_COLUMNS = (
    "text", "sentence", "review", "document", "content", "body", "comment", "tweet", "article", "message",
    "abstract", "headline", "description", "question", "title",
)  # fmt: skip
PAIRS = (("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"), ("question", "sentence"))
FILES = (*SUFFIXES, *OTHERS["clips"][1])
"""How names of images and clips end."""
MOSTLY = 0.9
csv.field_size_limit(1 << 30)
LONGEST_NAME = 100
"""Characters of a column's name; a first line with more is a row, and would be lost."""

WORDY = 10
"""Characters of the texts of a column on average; what has fewer is a label, a name or a number."""

ALONE = "give that column alone, "
"""How another column of a table in memory is named."""

Rows = list[dict[str, Any]]


def open_text_tables(
    files: list[Path], text: str, labels: Labels, column: str | None, root: Path | None = None
) -> Source:
    """Opens tables that share a column of text; below `root`, which tells those of one name apart.

    Raises:
        InputError: where a row is ragged (file:line), or no column of text is found.
    """
    texts: list[Raw] = []
    names: list[str] = []
    told: list[str | int] = [] if column is None else [column]  # other columns of the same file are other texts
    every: Rows = []
    taken: dict[str, None] = {}
    parts: list[str] = []
    told_of = ""
    notes: list[str] = []
    for file in files:
        rows = list(_rows(file, notes))
        name = file.name if root is None else file.relative_to(root).as_posix()
        if not rows:
            raise InputError(f"{file.name} has no rows")
        chosen = column_of(rows, column, file.name)
        if column is None and not told_of:
            told_of = told_of_columns(
                rows, chosen, f"{text}:" if len(files) == 1 and Path(text).is_file() else f"{file.name}:"
            )
        every += rows
        taken |= dict.fromkeys(chosen)
        for number, row in enumerate(rows):
            texts.append(_joined(row, chosen))
            names.append(name if len(rows) == 1 and file.suffix == ".json" else f"{name}:{number + 1}")
        parts += [part_of(file.name)] * len(rows)
        told += [name, file.stat().st_size, stamp_of(file)]
    label = label_of_rows(every, tuple(taken), labels, files[0].name if len(files) == 1 else text, notes)
    source = Source(text, "table", names, ListStore(texts), digest(told), told=told_of, notes=notes)
    if len(files) > 1 and all(parts) and len(set(parts)) > 1:
        source.parts = np.array(parts)
    if labels is True or (isinstance(labels, str) and not Path(labels).is_file()):
        source.labels, source.classes = given_labels([row.get(label) if label else None for row in every], len(names))
    elif labels_wanted(labels):
        source.labels, source.classes = find_labels(labels, names, None, None, text, source.notes)
    return source


def open_text_rows(rows: Rows, text: str, labels: Labels) -> Source:
    """Opens the rows of a table in memory.

    Raises:
        InputError: where it has no rows, or no column of text.
    """
    if not rows:
        raise InputError(f"{text} has no rows")
    chosen, notes = column_of(rows, None, text), list[str]()
    texts: list[Raw] = [_joined(row, chosen) for row in rows]
    label = label_of_rows(rows, chosen, labels, text, notes)
    names = [f"row:{i}" for i in range(len(rows))]
    told = told_of_columns(rows, chosen, ALONE)
    source = Source(text, "array", names, ListStore(texts), digest(map(str, texts)), told=told, notes=notes)
    return labeled(source, True if label else labels, [row[label] for row in rows] if label else None)


def column_of(rows: Rows, named: str | None, shown: str) -> tuple[str, ...]:
    """The column of text of a table; two for pairs of sentences.

    Raises:
        InputError: where there is none.
    """
    columns = columns_named(rows)
    if named is not None:
        if named not in columns:
            raise InputError(f"{shown} has no column {named!r}: {nearest(named, columns)}; it has {', '.join(columns)}")
        return (named,)
    lower = {str(name).lower(): name for name in columns}
    for pair in PAIRS:
        if all(name in lower for name in pair):
            return tuple(lower[name] for name in pair)
    for name in TEXT_COLUMNS:
        if name in lower:
            return (lower[name],)
    lengths = _lengths(rows)
    best = max(lengths, key=lambda c: lengths[c])
    if lengths[best] < WORDY:
        how = "give it alone" if shown.endswith("in memory") else f"name it, as in {shown}:COLUMN"
        raise InputError(f"{shown} has no column of text among {', '.join(map(str, columns))}; {how}")
    _check_texts(rows[:200], best, shown)
    return (best,)


def _check_texts(rows: Rows, column: str, shown: str) -> None:
    """The longest column of a file of labels holds the names of images or clips, and no text."""
    cells = [str(row[column]).strip() for row in rows if row.get(column)]
    if sum(cell.lower().endswith(FILES) for cell in cells) > MOSTLY * len(cells):
        raise InputError(
            f"{shown} holds no texts: its column {column!r} names files ({cells[0][-60:]!r}); where it tells their labels, give "
            f"the folder they lie in as the data, and {shown} as --labels"
        )


def told_of_columns(rows: Rows, chosen: tuple[str, ...], remedy: str) -> str:
    """Which column was taken, where others hold text too; "" where none does.

    Args:
        remedy: how another one is named, without its name: "reviews.csv:".
    """
    others = [c for c, long in _lengths(rows).items() if long >= WORDY and c not in chosen]
    others = [c for c in others if str(c).lower() not in LABEL_COLUMNS]
    if not others:
        return ""
    taken = f"the column {chosen[0]!r} is" if len(chosen) == 1 else f"the columns {' and '.join(map(repr, chosen))} are"
    more = f"{', '.join(map(repr, others[:4]))}{', ...' if len(others) > 4 else ''}"
    return f"{taken} taken for the text, and not {more}; to take another one: {remedy}{others[0]}"


def _lengths(rows: Rows) -> dict[str, float]:
    """Characters of every column's texts, on average, of the first rows."""
    some = rows[:200]
    return {c: float(np.mean([_length(r.get(c)) for r in some])) for c in columns_named(rows)}


def _length(cell: Any) -> int:
    """Characters of a text, of several, or of the messages of a chat."""
    return len(cell_text(cell)) if is_worded(cell) else 0


def _joined(row: dict[str, Any], columns: tuple[str, ...]) -> str:
    return "\n".join(cell_text(row[c]) for c in columns if row.get(c) is not None)


def _rows(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in (".parquet", ".pq"):
        yield from _parquet(path)
    elif suffix in (".jsonl", ".ndjson"):
        yield from rows_of_lines(table_text(_bytes_of(path), path.name), path.name)
    elif suffix == ".json":
        yield from rows_of_json(table_text(_bytes_of(path), path.name), path.name)
    else:
        yield from _delimited(path, suffix, notes)


def _bytes_of(path: Path) -> bytes:
    try:
        return gunzipped(path.read_bytes())
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path.name} cannot be gunzipped: {error}; get it again, or gunzip it") from None


def _delimited(path: Path, suffix: str, notes: list[str]) -> Iterator[dict[str, Any]]:
    content = table_text(_bytes_of(path), path.name, notes)
    first = content.split("\n", 1)[0]
    mark = "\t" if suffix == ".tsv" else max(",;\t", key=first.count)
    if mark != "\t":
        yield from _cells(content, path, mark, csv.QUOTE_MINIMAL)
        return
    # published .tsv files hold quotes that quote nothing; in those of spreadsheets and pandas a quoted text may hold lines
    try:
        rows = list(_cells(content, path, mark, csv.QUOTE_NONE))
    except InputError:
        try:
            rows = list(_cells(content, path, mark, csv.QUOTE_MINIMAL))
        except InputError:
            rows = []
        if not rows:
            raise
    yield from rows


def _cells(content: str, path: Path, mark: str, quoting: Any) -> Iterator[dict[str, Any]]:
    """Rows by column. Texts hold marks that str.splitlines takes for ends of lines."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=mark, quoting=quoting)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if max(map(len, header)) > LONGEST_NAME:
                    raise InputError(
                        f"{path.name}:{reader.line_num}: the first line must name the columns, and this one holds a text of "
                        f"{max(map(len, header)):,} characters; add a line above it, such as text,label"
                    )
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path.name}:{reader.line_num}: {plural(len(cells), 'column')} where the first line has {len(header)}; "
                    "put quotes around text that holds the separator"
                )
            yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{path.name}:{reader.line_num}: {error}; check the quotes of this line") from None


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from map(flat, batch.to_pylist())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path.name} is a damaged Parquet file: {error}; get it again") from None


def open_text_hub(text: str, labels: Labels) -> Source:
    """Opens "hf:NAME", "hf:NAME:CONFIG" or "hf:FOLDER", each with ":COLUMN" (hf:NAME::COLUMN), through `datasets`; no code is run.

    Raises:
        InputError: where it cannot be loaded, or has no column of text.
    """
    from withheld.data.table import _load

    name, config, column = named_set(text)
    return open_text_splits(_load(name, config, text), text, labels, column, f"hf:{name}:{config or ''}:")


def open_text_splits(
    splits: dict[str, Any], text: str, labels: Labels, column: str | None = None, remedy: str = ALONE
) -> Source:
    """Opens splits of `datasets`.

    Args:
        column: of text, where it is named. remedy: how another one is named, without its name.

    Raises:
        InputError: where they have no column of text.
    """
    from withheld.data.table import _label_column, _numbered

    features = next(iter(splits.values())).features
    rows = [dict(row) for row in next(iter(splits.values())).select(range(min(200, len(next(iter(splits.values()))))))]
    if not rows:
        raise InputError(f"{text} has no rows")
    chosen = column_of(rows, column, text)
    texts: list[Raw] = [_joined(row, chosen) for split in splits.values() for row in split.select_columns(list(chosen))]
    names = [f"{key}:{i}" for key, split in splits.items() for i in range(len(split))]
    parts = np.concatenate([np.full(len(s), part_named(key)) for key, s in splits.items()])
    prints = [str(p) for k, s in splits.items() for p in (k, len(s), s._fingerprint)]
    source = Source(text, "hub", names, ListStore(texts), digest([text, *prints]))
    source.told = "" if column else told_of_columns(rows, chosen, remedy)
    if (parts != "").any():
        source.parts = parts
    if labels is True or isinstance(labels, str):
        named = [c for c, kind in features.items() if type(kind).__name__ == "ClassLabel"]
        told = _label_column(labels, named, list(features), text)
        values = [value for split in splits.values() for value in split[told]]
        source.labels, source.classes = _numbered(values, getattr(features[told], "names", None))
    elif labels_wanted(labels):
        source.labels, source.classes = given_labels(labels, len(names))  # type: ignore[arg-type]
    return source
