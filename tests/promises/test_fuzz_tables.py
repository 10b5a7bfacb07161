"""1,000 damaged texts, tables, IDX, Parquet and XML files: rows, or one clear error (R10, R11)."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from small_files import encoded, idx_bytes, photo
from test_fuzz import mutant, no_hang
from voc_files import annotation

from withheld.data.boxes import Broken
from withheld.data.labels import read_labels
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.data.text import decode_text, open_texts
from withheld.data.vectors import open_vectors
from withheld.data.voc_xml import boxes_of, read_xml
from withheld.errors import InputError

Tally = Callable[[str, int, int, str], None]
ROWS = 12


def table_files(folder: Path) -> dict[str, bytes]:
    """Small whole files: suffix -> contents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    values = rng.normal(size=(ROWS, 3)).round(4)
    lines = ["a,b,c", *(",".join(map(str, row)) for row in values)]
    texts = [f"The old house number {i} by the sea, and a wind that came at night." for i in range(ROWS)]
    numbers, words = folder / "n.parquet", folder / "w.parquet"
    pq.write_table(pa.table({"a": values[:, 0], "b": values[:, 1]}), numbers)
    pq.write_table(pa.table({"text": texts, "label": ["x", "y"] * (ROWS // 2)}), words)
    return {
        ".csv": "\n".join(lines).encode(),
        ".tsv": "\n".join(lines).replace(",", "\t").encode(),
        ".parquet": numbers.read_bytes(),
        ".words.parquet": words.read_bytes(),
        ".idx": idx_bytes(rng.integers(0, 255, (ROWS, 8, 8))),
        ".idx.gz": gzip.compress(idx_bytes(rng.integers(0, 255, (ROWS, 8, 8)))),
        ".txt": "\n\n".join(texts).encode(),
        ".jsonl": "\n".join(json.dumps({"text": text}) for text in texts).encode(),
        ".words.csv": ("text,label\n" + "\n".join(f'"{text}",x' for text in texts)).encode(),
        ".xml": annotation(96, 72, [("red", (3, 4, 30, 40)), ("blue", (33, 4, 60, 50))]).encode(),
        ".labels.csv": ("file,label\n" + "\n".join(f"{i:03d}.png,{'ab'[i % 2]}" for i in range(ROWS))).encode(),
    }


def read(path: Path, suffix: str) -> int:
    """Everything that is in it; how many rows that are."""
    if suffix in (".csv", ".tsv", ".parquet"):
        found = open_vectors(str(path))
        assert (
            np.isfinite(np.asarray(found.values, dtype=float)).all()
            or np.isnan(np.asarray(found.values, dtype=float)).any()
        )
        return len(found.values)
    if suffix in (".idx", ".idx.gz"):
        return len(prepare(open_source(str(path)), 8, 1))
    if suffix == ".xml":
        return len(boxes_of(read_xml(path), 96, 72).boxes)
    if suffix == ".labels.csv":
        labels, _ = read_labels(path.read_bytes(), path.name, [f"{i:03d}.png" for i in range(ROWS)], None)
        return int((labels >= 0).sum())
    source = open_texts(str(path))
    kept = 0
    for _, raw in source.raw():
        try:
            decode_text(raw)
        except ValueError:
            continue
        kept += 1
    return kept


@pytest.mark.promise("R10")
def test_1000_damaged_texts_and_tables(tmp_path: Path, tally: Tally) -> None:
    files = table_files(tmp_path)
    names, whole = list(files), list(files.values())
    for suffix, data in files.items():
        path = tmp_path / f"whole{suffix}"
        path.write_bytes(data)
        assert read(path, suffix) >= 1, suffix
    rng = np.random.default_rng(4)
    found: Counter[str] = Counter()
    wrong: list[Any] = []
    for i in range(1000):
        data, kind = mutant(whole, i, rng)
        suffix = names[i % len(names)]
        path = tmp_path / f"m{i}{suffix}"
        path.write_bytes(data)
        try:
            with no_hang():
                rows = read(path, suffix)
        except (InputError, Broken):
            found["refused"] += 1
        except Exception as error:
            wrong.append((i, kind, suffix, repr(error)[:150]))
        else:
            found["read"] += 1
            # A container that knows how much there is cannot be half read.
            if kind == "cut" and suffix in (".parquet", ".words.parquet", ".idx", ".idx.gz") and rows < ROWS:
                wrong.append((i, kind, suffix, f"{rows} of {ROWS} rows, in silence"))
        path.unlink()
    assert not wrong, wrong[:20]
    assert found["read"] > 200
    assert found["refused"] > 200
    what = f"mutated texts, tables, IDX, Parquet and XML files: {found['read']} read, {found['refused']} refused, 0 other errors"
    tally("R10", 1000, 1000, what)


@pytest.mark.promise("R11")
def test_a_sheet_of_labels_that_was_damaged_never_labels_another_file(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [f"{i:03d}.png" for i in range(ROWS)]
    for i, name in enumerate(names):
        (folder / name).write_bytes(encoded(photo(i), "PNG"))
    sheet = "file,label\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names))
    rng = np.random.default_rng(1)
    said: list[str] = []
    for cut in rng.integers(1, len(sheet), 30):
        (folder / "labels.csv").write_text(sheet[:cut])
        try:
            source = open_source(str(folder), True)
        except InputError as error:
            said.append(str(error))
            continue
        for i, label in enumerate(source.labels):
            assert label < 0 or source.classes[label] == "ab"[i % 2]
    assert len(said) > 3
    assert all("labels.csv" in message for message in said)
