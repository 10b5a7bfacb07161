"""Parquet files and `datasets`: the image and label columns found, rows read a few at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_files import encoded, photo
from test_source import check_contract

from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.errors import InputError


def write_table(path: Path, count: int = 10, column: str = "image", struct: bool = True, **more: list[Any]) -> Path:
    """A Parquet file with several row groups."""
    cells = [encoded(photo(i)) for i in range(count)]
    images: list[Any] = [{"bytes": cell, "path": f"{i}.jpg"} for i, cell in enumerate(cells)] if struct else list(cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: images, **more}), path, row_group_size=3)
    return path


@pytest.mark.parametrize("struct", [True, False])
def test_parquet(struct: bool, tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.parquet", struct=struct, label=[i % 2 for i in range(10)], size=[1] * 10)
    source = open_source(path, labels=True)
    assert source.kind == "parquet"
    assert source.labels is not None
    assert source.labels.tolist() == [0, 1] * 5
    assert open_source(path).labels is None
    check_contract(source)
    assert np.array_equal(np.asarray(source.read(7)), np.asarray(open_source([photo(7)]).read(0))) or struct is not None
    assert prepare(source, 8).images.shape == (10, 3, 8, 8)


def test_a_folder_of_splits(tmp_path: Path) -> None:
    write_table(tmp_path / "data" / "train-00000-of-00001.parquet", 6)
    write_table(tmp_path / "data" / "test-00000-of-00001.parquet", 4)
    source = open_source(tmp_path)
    assert source.parts is not None
    assert sorted(source.parts) == ["test"] * 4 + ["train"] * 6
    check_contract(source)


def test_columns_can_be_named_and_wrong_names_are_told(tmp_path: Path) -> None:
    more = {"coarse": ["a", "b"] * 5, "fine": [str(i) for i in range(10)]}
    path = write_table(tmp_path / "x.parquet", column="photo", **more)
    source = open_source(path, labels="coarse")
    assert source.classes == ["a", "b"]
    with pytest.raises(InputError, match="did you mean 'coarse'"):
        open_source(path, labels="coarsse")
    with pytest.raises(InputError, match="no label column; name one of photo, coarse, fine"):
        open_source(path, labels=True)
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "y.parquet")
    with pytest.raises(InputError, match="no image column; its columns are a"):
        open_source(tmp_path / "y.parquet")
    write_table(tmp_path / "z.parquet", column="one", two=[b"x"] * 10)
    with pytest.raises(InputError, match="several image columns"):
        open_source(tmp_path / "z.parquet")


def test_paths_in_a_table_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(encoded(photo(0)))
    rows = [{"bytes": None, "path": str(secret)}, {"bytes": encoded(photo(1)), "path": None}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "x.parquet")
    items = dict(open_source(tmp_path / "x.parquet").stream())
    assert isinstance(items[0], Exception)
    assert isinstance(items[2], Exception)
    assert not isinstance(items[1], Exception)


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"x\.parquet is a damaged Parquet file"):
        open_source(path)


@pytest.mark.parametrize("split", [True, False])
def test_what_datasets_saved(split: bool, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "cow"])})
    rows = [{"image": {"bytes": encoded(photo(i)), "path": None}, "label": i % 3} for i in range(6)]
    whole = datasets.Dataset.from_list(rows, features=features)
    saved = datasets.DatasetDict({"train": whole, "test": whole.select([0, 1])}) if split else whole
    saved.save_to_disk(str(tmp_path / "saved"))
    source = open_source(f"hf:{tmp_path / 'saved'}", labels=True)
    assert source.kind == "hub"
    assert source.classes == ["cat", "dog", "cow"]
    assert source.labels is not None
    assert source.labels.tolist() == [0, 1, 2, 0, 1, 2] + ([0, 1] if split else [])
    assert (source.parts is not None) == split
    check_contract(source)
    whole.to_parquet(str(tmp_path / "x.parquet"))
    table = open_source(tmp_path / "x.parquet", labels=True)
    assert table.classes == ["cat", "dog", "cow"]


def test_what_the_hub_does_not_have_is_told(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(InputError, match=r"cannot load hf:.*check the name and the network"):
        open_source(f"hf:{tmp_path / 'nothing'}")


def test_a_column_of_images_of_the_hub_is_named(tmp_path: Path) -> None:
    """It could not be, and several columns were refused with "rename one"."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"left": datasets.Image(), "right": datasets.Image(), "label": datasets.Value("int64")}
    )
    rows = [
        {
            "left": {"bytes": encoded(photo(i)), "path": None},
            "right": {"bytes": encoded(photo(10 + i)), "path": None},
            "label": i,
        }
        for i in range(4)
    ]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "pairs"))
    where = f"hf:{tmp_path / 'pairs'}"
    with pytest.raises(InputError, match=rf"several image columns \(left, right\); name one: {where}::left"):
        open_source(where)
    found = {side: open_source(f"{where}::{side}", labels=True) for side in ("left", "right")}
    assert found["left"].fingerprint != found["right"].fingerprint
    for at, side in enumerate(("left", "right")):
        seen = prepare(found[side], 16).images[:]
        assert np.array_equal(seen, prepare(open_source(f"{where}:{side}"), 16).images[:])
        cells = pa.table({"image": [encoded(photo(10 * at + i)) for i in range(4)]})
        pq.write_table(cells, tmp_path / f"{side}.parquet")
        assert np.array_equal(seen, prepare(open_source(tmp_path / f"{side}.parquet"), 16).images[:])
    with pytest.raises(InputError, match=r"no image column 'middle'; its image columns are left, right; all .* label"):
        open_source(f"{where}::middle")
