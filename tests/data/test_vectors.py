"""Tables: what is read, what is left out, and what is said of a slip."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from withheld.data.row_labels import row_labels
from withheld.data.vectors import VectorItems, is_table, open_vectors
from withheld.errors import InputError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_a_head_leaves_labels_and_words_out(tmp_path):
    table = open_vectors(write(tmp_path / "t.csv", "a,b,species,name\n1,2.5,setosa,x\n3,,virginica,y\n"))
    assert table.columns == ["a", "b"]
    np.testing.assert_array_equal(table.values, [[1, 2.5], [3, np.nan]])
    assert sum("left out" in note for note in table.notes) == 2


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "?", "null", "None", "<NA>"])
def test_what_tables_write_for_a_missing_value_is_missing(tmp_path, missing):
    table = open_vectors(write(tmp_path / "t.csv", f"a,b\n1,2\n{missing},4\n5,6\n"))
    np.testing.assert_array_equal(table.values, [[1, 2], [np.nan, 4], [5, 6]])


def test_only_slips_are_named_and_no_missing_values(tmp_path):
    rows = "".join(f"{i}\n" for i in range(2, 40))
    with pytest.raises(InputError, match=r"are no numbers \(line 4: '1o'\): mend"):
        open_vectors(write(tmp_path / "t.csv", f"a\nNA\n1\n1o\n?\n{rows}"))


def test_label_columns_are_not_learned_from(tmp_path):
    table = open_vectors(write(tmp_path / "t.csv", "a,b,label\n1,2,0\n3,4,1\n"))
    assert table.columns == ["a", "b"]
    assert "label" in table.notes[0]


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t")])
def test_csv_without_a_head_and_other_delimiters(tmp_path, name, mark):
    table = open_vectors(write(tmp_path / name, f"1{mark}2\n3{mark}4\n5{mark}6\n"))
    np.testing.assert_array_equal(table.values, [[1, 2], [3, 4], [5, 6]])
    assert table.columns == ["x0", "x1"]


def test_a_slip_names_column_and_line(tmp_path):
    rows = "\n".join(["1,2"] * 5 + ["3,oops"] + ["1,2"] * 5)
    with pytest.raises(InputError, match=r"'b'.*line 7: 'oops'.*leave them empty"):
        open_vectors(write(tmp_path / "t.csv", f"a,b\n{rows}\n"))


def test_a_column_that_is_mostly_empty_may_hold_words(tmp_path):
    table = open_vectors(write(tmp_path / "t.csv", "a,name\n1,\n2,\n3,\n4,x\n"))
    assert table.columns == ["a"]


def test_an_empty_column_is_left_out(tmp_path):
    table = open_vectors(write(tmp_path / "t.csv", "a,b,c\n1,,2\n3,,4\n"))
    assert table.columns == ["a", "c"]
    assert "'b' has no value at all" in table.notes[0]


def test_an_infinite_cell_of_a_csv_is_named_by_its_line(tmp_path):
    with pytest.raises(InputError, match=r"t\.csv:3: column 'b' is infinite"):
        open_vectors(write(tmp_path / "t.csv", "a,b\n1,2\n3,-inf\n"))


def test_a_column_can_be_kept_aside_as_labels(tmp_path):
    table = open_vectors(write(tmp_path / "t.csv", "a,kind,b\n1,7,2\n3,,4\n5,9,6\n"), label="kind")
    assert table.columns == ["a", "b"]
    labels, classes = row_labels("kind", table)
    assert (labels.tolist(), classes) == ([0, -100, 1], ["7", "9"])
    with pytest.raises(InputError, match=r"--labels knid: there is no such file, and no such column"):
        row_labels("knid", open_vectors(tmp_path / "t.csv", label="knid"))


def test_infinite_cells_are_named(tmp_path):
    values = np.ones((10, 3))
    values[4, 1] = np.inf
    np.save(tmp_path / "t.npy", values)
    with pytest.raises(InputError, match=r"row 4: column 'x1' is infinite"):
        open_vectors(tmp_path / "t.npy")


def test_features_as_embed_writes_them(tmp_path):
    block = np.arange(12, dtype=np.float32).reshape(4, 3)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), 3)
    pq.write_table(pa.table({"file": ["a", "b", "c", "d"], "features": lists}), tmp_path / "f.parquet")
    np.savez(tmp_path / "f.npz", names=np.array(["a", "b", "c", "d"]), features=block)
    for name in ("f.parquet", "f.npz"):
        table = open_vectors(tmp_path / name)
        np.testing.assert_array_equal(table.values, block)
        assert len(table.columns) == 3


def test_an_npy_file_is_mapped_and_sliced(tmp_path):
    values = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    np.save(tmp_path / "t.npy", values)
    table = open_vectors(tmp_path / "t.npy")
    assert isinstance(table.values, np.memmap)
    items = VectorItems(table.values)
    for index in (np.arange(10, 20), np.array([5, 3, 99]), np.array([7])):
        batch = items.batch(index, "cpu")
        assert batch.dtype == torch.float32
        np.testing.assert_array_equal(batch.numpy(), values[index])
    items.batch(np.arange(10), "cpu").zero_()  # a copy: the file stays as it is
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), values)


def test_bytes_are_pixels():
    batch = VectorItems(np.array([[0, 255], [51, 102]], np.uint8)).batch(np.arange(2), "cpu")
    np.testing.assert_allclose(batch.numpy(), [[0, 1], [0.2, 0.4]], rtol=1e-6)


def test_fingerprints_follow_the_values():
    values = np.random.default_rng(0).normal(size=(50, 2))
    assert open_vectors(values).fingerprint == open_vectors(values.copy()).fingerprint
    assert open_vectors(values).fingerprint != open_vectors(values + 1e-9).fingerprint


@pytest.mark.parametrize("name", ["none.csv", "none.npy"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(InputError, match="no file"):
        open_vectors(tmp_path / name)


def test_damaged_files_are_named(tmp_path):
    for name in ("t.npy", "t.npz", "t.parquet"):
        (tmp_path / name).write_bytes(b"not at all")
        with pytest.raises(InputError, match=name):
            open_vectors(tmp_path / name)


def test_what_counts_as_a_table(tmp_path):
    assert is_table("a.csv")
    assert is_table(np.zeros((3, 2)))
    assert not is_table("photos/")
    assert not is_table(np.zeros((3, 8, 8)))


def test_decimal_commas_of_spreadsheets(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n0,5;-1,25\n;3\n1,5;2,0\n")
    assert np.array_equal(
        open_vectors(tmp_path / "t.csv").values, [[0.5, -1.25], [np.nan, 3], [1.5, 2]], equal_nan=True
    )
    (tmp_path / "p.csv").write_text("a;b\n0.5;-1.25\n1.5;2.0\n")
    assert open_vectors(tmp_path / "p.csv").values.tolist() == [[0.5, -1.25], [1.5, 2.0]]


def test_a_column_that_counts_the_rows_is_no_measurement(tmp_path):
    (tmp_path / "t.csv").write_text("id,year,x\n7,2001,0.5\n8,2002,0.1\n9,2003,0.7\n")
    table = open_vectors(tmp_path / "t.csv")
    assert table.columns == ["year", "x"]
    assert table.notes == ["column 'id' counts the rows and was left out"]
    (tmp_path / "u.csv").write_text("id,x\n7,0.5\n7,0.1\n9,0.7\n")
    assert open_vectors(tmp_path / "u.csv").columns == ["id", "x"]


def test_utf_16_as_spreadsheets_save_it_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n1,2.5\n3,4\n".encode("utf-16"))
    table = open_vectors(path)
    assert table.columns == ["a", "b"]
    np.testing.assert_array_equal(table.values, [[1, 2.5], [3, 4]])
    path.write_bytes("a,b\n1,2".encode("utf-16") + b"\0")
    with pytest.raises(InputError, match=r"begins as UTF-16 and is not.*save the file as UTF-8"):
        open_vectors(path)


def test_numbers_that_python_has_exactly_are_rounded_and_it_is_said(tmp_path):
    """Nanoseconds and decimals: more digits than a float64 has."""
    times = [1_700_000_000_000_000_001 + 1000 * i for i in (0, 5, 2)]
    table = open_vectors(write(tmp_path / "t.csv", "time,v\n" + "".join(f"{t},{i}.5\n" for i, t in enumerate(times))))
    assert table.values[:, 0].tolist() == [float(t) for t in times]
    assert any("'time'" in note and "rounded" in note for note in table.notes)
    prices = [Decimal("1.50"), None, Decimal("0.10")]
    pq.write_table(pa.table({"price": prices, "u": pa.array([2**64 - 1, 5, 7], pa.uint64())}), tmp_path / "t.parquet")
    found = open_vectors(tmp_path / "t.parquet")
    wanted = [[1.5, float(2**64 - 1)], [np.nan, 5.0], [float(Decimal("0.10")), 7.0]]
    np.testing.assert_array_equal(found.values, wanted)
