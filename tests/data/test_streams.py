"""Sources larger than the cache: windows of shards, what is held of them, and what is wrong with some."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_files import encoded, photo
from test_source import check_contract

from withheld.data import windows as limits
from withheld.data.describe import describe
from withheld.data.image import ImageItems
from withheld.data.prepared import prepare
from withheld.data.rows import Streamed
from withheld.data.shards import RowNames
from withheld.data.source import Source, open_source
from withheld.data.windows import Windows, cut
from withheld.errors import InputError
from withheld.learn.schedule import Windowed


def parquet(path: Path, cells: list[Any], groups: int = 5, column: str = "image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: pa.array(cells, pa.binary())}), path, row_group_size=groups)
    return path


def tar(path: Path, cells: list[bytes], long: bool = False) -> Path:
    """As WebDataset writes them: an item and what belongs to it, one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, cell in enumerate(cells):
            for name, data in ((f"{'x' * 120 * long}{i:06}.png", cell), (f"{i:06}.cls", b"7"), (f"{i:06}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def shards(folder: Path, kind: str, sizes: tuple[int, ...] = (7, 13, 1, 9)) -> Path:
    """Images numbered through all shards."""
    at = 0
    for number, size in enumerate(sizes):
        cells = [encoded(photo(at + i), "PNG") for i in range(size)]
        at += size
        write = parquet if kind == "parquet" else tar
        write(folder / f"part-{number:03}.{kind}", cells)
    return folder


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WINDOW_BYTES", 4_000)
    monkeypatch.setattr(limits, "HELD_BYTES", 64_000)


def arrays(source: Source) -> list[np.ndarray]:
    return [np.asarray(image) for _, image in sorted(source.stream(), key=lambda one: one[0])]


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_folder_of_shards_is_one_source(kind: str, tmp_path: Path, small_windows: None) -> None:
    source = open_source(shards(tmp_path / "s", kind))
    check_contract(source)
    assert len(source) == 30
    assert source.names[8] == f"part-001.{kind}:1"
    assert source.names[-1] == f"part-003.{kind}:8"
    assert list(source.names) == [source.names[i] for i in range(30)] == source.names[:]
    for i, array in enumerate(arrays(source)):
        assert np.array_equal(array, photo(i)), i
    windows = source.windows()
    assert windows is not None
    assert len(windows) > 4
    covered = [i for start, rows in zip(windows.starts, windows.rows, strict=True) for i in range(start, start + rows)]
    assert covered == list(range(30))
    ends = np.cumsum([7, 13, 1, 9])
    assert len(np.unique(np.searchsorted(ends, windows.starts, side="right"))) == 4
    shard = lambda i: np.searchsorted(ends, i, side="right")  # noqa: E731
    assert (shard(windows.starts) == shard(windows.starts + windows.rows - 1)).all()  # none in two shards
    by_pattern = open_source(str(tmp_path / "s" / f"*.{kind}"))
    assert by_pattern.fingerprint == source.fingerprint
    assert list(by_pattern.names) == list(source.names)


def test_masks_in_shards_are_no_images(tmp_path: Path, small_windows: None) -> None:
    """The rule of single archives; masks may lie in another shard than their images."""
    photos = {f"VOC/JPEGImages/{i}.png": encoded(photo(i), "PNG") for i in range(12)}
    masks = {f"VOC/SegmentationClass/{i}.png": encoded(photo(90 + i), "PNG") for i in range(9)}
    alone = {f"other/SegmentationClass/{i}.png": encoded(photo(30 + i), "PNG") for i in range(2)}
    mixed = {name: every[name] for every in [photos | masks] for name in sorted(every, key=lambda n: n.split("/")[-1])}
    for number, members in enumerate([dict([*mixed.items()][:12]), dict([*mixed.items()][12:]) | alone, masks]):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    source = open_source(f"{tmp_path}/*.tar")
    found = arrays(source)
    assert len(found) == len(source) == 14, "masks without images beside them are what there is"
    wanted = [photo(i) for i in range(12)] + [photo(30), photo(31)]
    assert sorted(map(np.ndarray.tobytes, found)) == sorted(map(np.ndarray.tobytes, wanted))
    assert len(source.masks) == 18
    assert "18 masks in SegmentationClass are not counted" in str(describe(source))
    assert len(open_source(f"{tmp_path}/[2]*.tar")) == 9


def test_members_with_long_names(tmp_path: Path, small_windows: None) -> None:
    """Their headers are several blocks, which a window must begin with."""
    for number in range(2):
        tar(tmp_path / f"{number}.tar", [encoded(photo(i), "PNG") for i in range(9)], long=True)
    source = open_source(tmp_path)
    for i, array in enumerate(arrays(source)):
        assert np.array_equal(array, photo(i % 9))
    assert all(np.array_equal(np.asarray(source.read(i)), photo(i % 9)) for i in (17, 3, 8, 9))


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_stream_has_the_images_of_the_cache(kind: str, tmp_path: Path, small_windows: None) -> None:
    source = open_source(shards(tmp_path / "s", kind))
    kept, streamed = prepare(source, 16), prepare(source, 16, stream=True)
    assert isinstance(streamed.images, Streamed)
    assert streamed.fingerprint != kept.fingerprint
    index = np.random.default_rng(0).integers(0, 30, 100)
    assert np.array_equal(streamed.images[index], kept.images[index])
    assert np.array_equal(streamed.images[12], kept.images[12])
    held = streamed.images.held
    assert held is not None
    assert held.most <= limits.HELD_BYTES
    assert streamed.mean == pytest.approx(kept.mean, abs=0.05)
    few = streamed.subset([3, 29, 4])
    assert np.array_equal(np.asarray(few.images), np.asarray(kept.images)[[3, 29, 4]])
    assert few.names == [source.names[i] for i in (3, 29, 4)]


def test_what_datasets_saved_streams_too(tmp_path: Path, small_windows: None) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image()})
    cells = [{"bytes": encoded(photo(i), "PNG"), "path": None} for i in range(20)]
    datasets.Dataset.from_dict({"image": cells}, features=features).save_to_disk(str(tmp_path / "d"))
    source = open_source(f"hf:{tmp_path / 'd'}")
    windows = source.windows()
    assert windows is not None
    assert len(windows) > 1
    streamed = prepare(source, 16, stream=True).images
    assert np.array_equal(streamed[np.arange(20)], prepare(source, 16).images)


def test_only_the_training_shards(tmp_path: Path, small_windows: None) -> None:
    for name, first, size in (("test-0", 50, 4), ("train-0", 0, 11), ("train-1", 11, 6)):
        parquet(tmp_path / f"{name}.parquet", [encoded(photo(first + i), "PNG") for i in range(size)])
    train = open_source(tmp_path).part("train")
    assert train is not None
    windows = train.windows()
    assert windows is not None
    assert windows.count == 17
    assert windows.starts[0] == 0
    assert np.array_equal(prepare(train, 16, stream=True).images[:], prepare(train, 16).images)
    alone = open_source(str(tmp_path / "train-*.parquet")).part("train")
    assert alone is not None
    assert isinstance(alone.names, RowNames)  # and no list of all rows
    assert np.array_equal(prepare(alone, 16, stream=True).images[:], prepare(train, 16).images)


def test_blocks_are_cut_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WINDOW_BYTES", 1000)
    rows, sizes = np.array([3, 0, 10, 2, 7]), np.array([100, 0, 3000, 50_000, 0])
    found = cut(rows, sizes)
    assert found.rows.tolist() == [3, 2, 3, 2, 3, 1, 1, 7]  # 10 rows of 3,640 bytes in four; no less than a row
    assert found.starts.tolist() == [0, 3, 5, 8, 10, 13, 14, 15]
    assert found.count == 22
    assert found.of(np.array([0, 4, 5, 14, 21])).tolist() == [0, 1, 2, 6, 7]


def test_rows_set_aside_are_in_no_window() -> None:
    rows = np.random.default_rng(0).integers(1, 40, 300)
    windows = Windows(np.cumsum(rows) - rows, rows, 1.0)
    aside, rest = windows.apart(100)
    left = {i for start, n in zip(rest.starts, rest.rows, strict=True) for i in range(start, start + n)}
    assert len(aside) == len(set(aside)) >= 80
    assert not left & set(aside.tolist())
    assert left | set(aside.tolist()) == set(range(windows.count))
    assert len(np.unique(windows.of(aside))) <= 32  # few windows, and from first to last
    assert windows.of(aside).max() > 280
    some = windows.within(np.arange(0, windows.count, 2))
    assert some.count == len(range(0, windows.count, 2))


def test_broken_rows_are_passed_over_and_named(tmp_path: Path, small_windows: None) -> None:
    cells: list[Any] = [encoded(photo(i), "PNG") for i in range(40)]
    cells[3], cells[17], cells[18], cells[39] = b"nonsense", None, b"", cells[39][:50]
    parquet(tmp_path / "a.parquet", cells[:20])
    parquet(tmp_path / "b.parquet", cells[20:])
    streamed = prepare(open_source(tmp_path), 16, stream=True)
    whole = prepare(open_source([Image.fromarray(photo(i)) for i in range(40)]), 16, 3).images
    stands_for = [i if i not in (3, 17, 18, 39) else {3: 4, 17: 19, 18: 19, 39: 0}[i] for i in range(40)]
    assert np.array_equal(streamed.images[:], whole[stands_for])
    assert sorted(streamed.images.skipped) == [3, 17, 18, 39]
    assert {line["file"] for line in streamed.skipped} == {
        "a.parquet:3",
        "a.parquet:17",
        "a.parquet:18",
        "b.parquet:19",
    }


def test_a_damaged_page_costs_its_row_group(tmp_path: Path, small_windows: None) -> None:
    path = parquet(tmp_path / "a.parquet", [encoded(photo(i), "PNG") for i in range(40)])
    data = bytearray(path.read_bytes())
    at = data.index(encoded(photo(22), "PNG")[-40:])
    data[at - 3000 : at] = bytes(3000)
    path.write_bytes(data)
    items = dict(open_source(path).stream())
    assert len(items) == 40
    bad = [i for i, item in items.items() if isinstance(item, Exception)]
    assert bad
    assert min(bad) >= 10
    assert max(bad) < 30
    for i in set(items) - set(bad):
        if not 15 <= i < 25:
            assert np.array_equal(np.asarray(items[i]), photo(i))


def test_what_is_wrong_with_shards_is_said(tmp_path: Path) -> None:
    good = [encoded(photo(i), "PNG") for i in range(3)]
    parquet(tmp_path / "empty" / "a.parquet", good)
    parquet(tmp_path / "empty" / "b.parquet", [])
    assert open_source(tmp_path / "empty").left_out == [{"file": "b.parquet", "reason": "has no rows"}]
    parquet(tmp_path / "other" / "a.parquet", good)
    parquet(tmp_path / "other" / "b.parquet", good, column="picture")
    with pytest.raises(
        InputError, match=r"b\.parquet has no 'image' column .* as a\.parquet has; its columns are picture"
    ):
        open_source(tmp_path / "other")
    tar(tmp_path / "cut" / "a.tar", good)
    whole = tar(tmp_path / "cut" / "b.tar", good)
    whole.write_bytes(whole.read_bytes()[: len(good[0]) + 512 * 5 + 100])
    with pytest.raises(InputError, match=r"b\.tar is damaged after 1 image: .*; get it again, or remove it"):
        open_source(tmp_path / "cut")
    tar(tmp_path / "none" / "a.tar", good)
    tar(tmp_path / "none" / "b.tar", [])
    assert open_source(tmp_path / "none").left_out == [{"file": "b.tar", "reason": "holds no images"}]
    tar(tmp_path / "zipped" / "a.tar", good)
    with tarfile.open(tmp_path / "zipped" / "b.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "none" / "a.tar", "a.png")
    with pytest.raises(InputError, match=r"b\.tar\.gz is gzipped, .*: gunzip it"):
        open_source(tmp_path / "zipped")
    parquet(tmp_path / "mixed" / "a.parquet", good)
    tar(tmp_path / "mixed" / "b.tar", good)
    with pytest.raises(InputError, match="2 files that are not of one kind"):
        open_source(str(tmp_path / "mixed" / "*"))
    with pytest.raises(InputError, match=r"no file is called like '.*nothing-\*\.tar'"):
        open_source(str(tmp_path / "nothing-*.tar"))
    with pytest.raises(InputError, match="labels of several archives are not read"):
        open_source(tmp_path / "none", labels=True)


def test_a_shard_that_goes_away_ends_the_run(tmp_path: Path, small_windows: None) -> None:
    images = prepare(open_source(shards(tmp_path / "s", "tar")), 16, stream=True).images
    (tmp_path / "s" / "part-001.tar").unlink()
    images.held._held.clear()
    with pytest.raises(InputError, match="can no longer be read"):
        images[np.arange(30)]


def test_memory_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over 200 MB of shards, of which 20 MB may be held."""
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(limits, "WINDOW_BYTES", 1_250_000)
    monkeypatch.setattr(limits, "HELD_BYTES", 20_000_000)
    rng = np.random.default_rng(0)
    for number in range(10):
        noise = rng.integers(0, 256, (405, 128, 128, 3), np.uint8)
        cells = []
        for one in noise:
            stream = io.BytesIO()
            Image.fromarray(one).save(stream, "BMP")
            cells.append(stream.getvalue())
        parquet(tmp_path / f"{number}.parquet", cells, 50) if number % 2 else parquet(
            tmp_path / f"{number}.parquet", cells, 405
        )
        del noise, cells
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 195_000_000
    prepared = prepare(open_source(tmp_path), 8, stream=True)
    windows, held = prepared.images.windows, prepared.images.held
    order = Windowed(windows.starts, windows.rows, windows.together(8), 64, 0, 8)
    items = ImageItems(prepared, [0.5] * 3, [0.5] * 3, windows=windows)
    process, resident, seen = psutil.Process(), [], []
    for step in range(len(items) // 64):
        index = order.step(step)
        items.batch(index, "cpu")
        items.expect(order.ahead(step + 1, range(8)))
        seen.append(index)
        resident.append(process.memory_info().rss)
    items.rest()
    assert len(np.unique(np.concatenate(seen))) == len(items) // 64 * 64
    assert held.most <= 20_000_000
    # half of the data; windows and what is read ahead are a tenth, what others left in this process varies by 50 MB
    assert max(resident) - max(resident[:3]) < 100_000_000
    growth = max(resident[len(resident) // 2 :]) - max(resident[: len(resident) // 2])
    assert growth < 40_000_000, growth  # of 100 MB read meanwhile; other threads of the process have some of it
