"""Shards that lie elsewhere: the very items of the same shards here, in the same order; what fails; and reading ahead."""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from served import Late, served
from small_files import encoded, photo
from test_source import check_contract
from test_streams import parquet, shards, tar

from withheld.data import elsewhere
from withheld.data import windows as limits
from withheld.data.image import ImageItems
from withheld.data.prepared import prepare
from withheld.data.source import Source, open_source
from withheld.data.text import open_texts
from withheld.data.vectors import open_vectors
from withheld.data.video import open_videos
from withheld.data.windows import Held, Windows, runs
from withheld.errors import InputError, Unreachable
from withheld.learn.schedule import Windowed

KINDS = ["parquet", "tar"]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WINDOW_BYTES", 4_000)
    monkeypatch.setattr(limits, "HELD_BYTES", 64_000)
    monkeypatch.setattr(elsewhere, "WAITS", (0.01, 0.01, 0.01))


@pytest.fixture(autouse=True)
def late() -> Iterator[type[Late]]:
    """The protocol late://, and an empty memory://."""
    fsspec.register_implementation("late", Late, clobber=True)
    Late.store.clear()
    Late.seconds, Late.reads = 0.0, 0
    Late.failures.clear()
    yield Late
    for system in (fsspec.filesystem("memory"), Late):
        system.store.clear()


def put(folder: Path, protocol: str) -> str:
    """Copies the files of a folder to bucket/ of a protocol; returns the address of that."""
    system = fsspec.filesystem(protocol)
    for file in folder.rglob("*"):
        if file.is_file():
            system.pipe_file(f"/bucket/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return f"{protocol}://bucket"


def batches(source: Source, steps: int = 12) -> list[np.ndarray]:
    """What a loop would see, reading ahead as it does."""
    prepared = prepare(source, 16, stream=True)
    windows = prepared.images.windows
    items = ImageItems(prepared, [0.5] * 3, [0.5] * 3, windows=windows)
    order = Windowed(windows.starts, windows.rows, windows.together(4), 8, 3, 4)
    found = []
    for step in range(steps):
        found.append(np.asarray(items.batch(order.step(step), "cpu")))
        items.expect(order.ahead(step + 1, range(4)))
    items.rest()
    assert prepared.images.held.most <= limits.HELD_BYTES
    assert not reading()
    return found


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "withheld read-ahead"]


def same(there: Source, here: Source) -> None:
    assert there.fingerprint == here.fingerprint
    assert list(there.names) == list(here.names)
    assert there.kind == here.kind
    windows, others = there.windows(), here.windows()
    assert windows is not None
    assert others is not None
    assert np.array_equal(windows.starts, others.starts)
    assert np.array_equal(windows.rows, others.rows)
    assert prepare(there, 16, stream=True).fingerprint == prepare(here, 16, stream=True).fingerprint
    for one, other in zip(batches(there), batches(here), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", ["memory", "late", "file"])
def test_the_items_of_the_same_shards_here(kind: str, protocol: str, tmp_path: Path) -> None:
    shards(tmp_path / "s", kind)
    address = f"file://{(tmp_path / 's').as_posix()}" if protocol == "file" else put(tmp_path / "s", protocol)
    there, here = open_source(f"{address}/*.{kind}"), open_source(str(tmp_path / "s" / f"*.{kind}"))
    check_contract(there)
    same(there, here)
    alone = open_source(f"{address}/part-001.{kind}")
    same(alone, open_source(tmp_path / "s" / f"part-001.{kind}"))


@pytest.mark.parametrize("kind", KINDS)
def test_by_http(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="addresses of http need aiohttp")
    shards(tmp_path / "s", kind)
    with served(tmp_path / "s") as (address, failing):
        there = open_source(f"{address}/*.{kind}")
        same(there, open_source(str(tmp_path / "s" / f"*.{kind}")))
        same(open_source(f"{address}/part-003.{kind}?key=1"), open_source(tmp_path / "s" / f"part-003.{kind}"))
        images = prepare(there, 16, stream=True).images
        failing += [500, 503]  # and then it goes on
        whole = images[np.arange(30)]
        assert not failing
        assert not images.skipped
        assert np.array_equal(whole, prepare(open_source(tmp_path / "s"), 16).images)
        failing += [500] * 4
        with pytest.raises(
            Unreachable, match=rf"part-00.\.{kind} cannot be read, tried 4 times .*500.*check the network"
        ):
            prepare(there, 16, stream=True)
        with pytest.raises(InputError, match=r"there is nothing at http://.*/none.tar; check the address"):
            open_source(f"{address}/none.tar")
    with served(tmp_path) as (gone, _):
        pass
    with pytest.raises(Unreachable, match=r"cannot be listed \(.*check the network"):
        open_source(f"{gone}/part-*.{kind}")


def test_a_server_without_ranges(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="addresses of http need aiohttp")
    parquet(tmp_path / "a.parquet", [encoded(photo(i), "PNG") for i in range(90)])
    with (
        served(tmp_path, ranges=False) as (address, _),
        pytest.raises(Unreachable, match=r"a.parquet cannot be read any more \(ValueError: .*(range requests|seek)"),
    ):
        open_source(f"{address}/a.parquet")


def test_tars_elsewhere_are_indexed_once(tmp_path: Path, late: type[Late]) -> None:
    """Whoever opens them next, such as a resumed run, reads how they begin; another file of that name is read again."""
    shards(tmp_path / "s", "tar")
    there = f"{put(tmp_path / 's', 'late')}/*.tar"
    first = open_source(there)
    late.reads = 0
    again = open_source(there)
    assert late.reads == 4  # how each begins
    same(again, first)
    (tmp_path / "s" / "part-001.tar").unlink()
    tar(tmp_path / "s" / "part-001.tar", [encoded(photo(90 + i), "PNG") for i in range(2)])
    put(tmp_path / "s", "late")
    same(open_source(there), open_source(str(tmp_path / "s" / "*.tar")))


def test_labels_and_parts_elsewhere(tmp_path: Path) -> None:
    for name, first, size in (("test-0", 50, 4), ("train-0", 0, 11)):
        cells = [encoded(photo(first + i), "PNG") for i in range(size)]
        table = pa.table({"image": cells, "label": [i % 2 for i in range(size)]})
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet")
    source = open_source(f"{put(tmp_path, 'memory')}/*.parquet", labels=True)
    assert source.labels is not None
    assert source.labels.tolist() == [i % 2 for i in range(4)] + [i % 2 for i in range(11)]
    train = source.part("train")
    assert train is not None
    assert len(train) == 11
    assert np.array_equal(prepare(train, 16).images, prepare(open_source(tmp_path / "train-0.parquet"), 16).images)


def test_a_tar_alone_has_windows_where_names_are_in_order(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [encoded(photo(i), "PNG") for i in range(40)])
    windows = open_source(path).windows()
    assert windows is not None
    assert windows.count == 40
    assert len(windows) > 1
    assert np.array_equal(prepare(open_source(path), 16, stream=True).images[:], prepare(open_source(path), 16).images)
    assert runs(np.array([3000, 3000, 500, 200, 9000, 1])).rows.tolist() == [1, 3, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_for_long_is_no_broken_item(kind: str, tmp_path: Path, late: type[Late]) -> None:
    """Whichever read it is: nothing is skipped, and the next try sees it all."""
    shards(tmp_path / "s", kind)
    images = prepare(open_source(f"{put(tmp_path / 's', 'late')}/*.{kind}"), 16, stream=True).images
    late.reads = 0
    whole = images[np.arange(30)]
    for at in range(late.reads):
        images.held._held.clear()
        images.held.bytes = 0
        late.failures[:] = []
        start = late.reads

        class Once(list[Exception]):
            def __bool__(self) -> bool:
                return late.reads - start > at and len(self) > 0  # noqa: B023

        late.failures = Once([ConnectionResetError("gone")] * 4)
        with pytest.raises(
            Unreachable, match=r"cannot be read, tried 4 times \(ConnectionResetError: gone\)"
        ) as caught:
            images[np.arange(30)]
        assert caught.value.exit_code == 75
        late.failures = []
        assert not images.skipped
        assert np.array_equal(images[np.arange(30)], whole)


def test_a_shard_that_changes_or_goes_away(tmp_path: Path, late: type[Late]) -> None:
    shards(tmp_path / "s", "tar")
    images = prepare(open_source(f"{put(tmp_path / 's', 'memory')}/*.tar"), 16, stream=True).images
    memory = fsspec.filesystem("memory")
    images.held._held.clear()
    memory.pipe_file("/bucket/part-001.tar", b"other")
    with pytest.raises(Unreachable, match=r"part-001.tar cannot be read any more .*it has 5 bytes, and had"):
        images[np.arange(30)]
    memory.rm("/bucket/part-001.tar")
    with pytest.raises(Unreachable, match=r"part-001.tar cannot be read any more \(FileNotFoundError"):
        images[np.arange(30)]
    assert not images.skipped


def test_what_is_wrong_with_an_address_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no file is called like 'memory://bucket/\*.tar'"):
        open_source("memory://bucket/*.tar")
    with pytest.raises(InputError, match=r"there is nothing at memory://bucket/a.tar; check the address"):
        open_source("memory://bucket/a.tar")
    with pytest.raises(InputError, match=r"Protocol not known.*hf://, s3://, gs://, https://"):
        open_source("nowhere://bucket/a.tar")
    for protocol, module, package in (
        ("s3", "s3fs", "s3fs"),
        ("gs", "gcsfs", "gcsfs"),
        ("https", "aiohttp", "aiohttp"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
        for known in ("http", "https"):
            sys.modules["fsspec.registry"]._registry.pop(known, None)
        with pytest.raises(
            InputError, match=f"{protocol}:// need a package that is not installed: pip install {package}"
        ):
            open_source(f"{protocol}://bucket/*.tar")
    tar(tmp_path / "a.tar", [encoded(photo(0), "PNG")])
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/a.tar.gz", gzip.compress((tmp_path / "a.tar").read_bytes()))
    memory.pipe_file("/bucket/b.zip", b"PK\x03\x04" + bytes(600))
    for name in ("a.tar.gz", "b.zip"):
        with pytest.raises(InputError, match=r"Parquet files and plain tars are read; copy others here"):
            open_source(f"memory://bucket/{name}")
    for opened in (open_texts, open_videos, open_vectors):
        with pytest.raises(InputError, match=r"images are read where they lie, .* are not: copy them here"):
            opened("memory://bucket/a.csv")
        with pytest.raises(InputError, match=r"images are read where they lie"):
            opened("hf://datasets/me/birds/a.csv")
    with pytest.raises(InputError, match=r"https?://\[removed\]@host|memory://\[removed\]@bucket"):
        open_source("memory://me:secret@bucket/a.tar")


def rows(count: int, each: int) -> Windows:
    return Windows(np.arange(count) * each, np.full(count, each), float(each * (64 + 1000)))


def test_windows_are_read_ahead_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most what may be held, those needed first in front, and none of them again."""
    monkeypatch.setattr(limits, "HELD_BYTES", 6 * 10 * 1064)
    read: list[int] = []

    def raw(positions: np.ndarray) -> Iterator[tuple[int, Any]]:
        read.append(int(positions[0]) // 10)
        yield from ((int(at), bytes(1000)) for at in positions)

    held = Held(raw, rows(40, 10))
    held.expect(np.array([50, 10, 70, 30, 90, 110, 130, 150]))
    deadline = time.monotonic() + 10
    while reading() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert read == [5, 1, 7, 3, 9, 11]
    assert held.bytes == held.most == limits.HELD_BYTES
    assert [at for at, _ in held.raw(np.array([10, 11, 55]))] == [10, 11, 55]
    assert held.waited == 0
    list(held.raw(np.array([200])))  # not expected: what is needed last makes room
    assert held.waited == 1
    assert 11 not in held._held
    assert len(read) == 7
    held.expect(np.array([30, 90, 110, 130]))
    while reading() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert read[7:] == [11, 13]
    assert held.most <= limits.HELD_BYTES


def test_larger_windows_than_the_mean_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_BYTES", 20_000)
    read: list[int] = []

    def raw(positions: np.ndarray) -> Iterator[tuple[int, Any]]:
        read.append(int(positions[0]))
        yield from ((int(at), bytes(7000)) for at in positions)

    held = Held(raw, Windows(np.arange(10), np.ones(10, np.int64), 2_000.0))
    for _ in range(3):
        held.expect(np.arange(10))
        held.rest()
        held.expect(np.arange(10))
        deadline = time.monotonic() + 10
        while reading() and time.monotonic() < deadline:
            time.sleep(0.001)
    assert set(held._held) == {0, 1}
    assert set(read) == {0, 1, 2}  # the third has no room, which is known once it was read
    assert held.most <= limits.HELD_BYTES


def test_an_error_ahead_is_told_to_who_asks() -> None:
    broken = True

    def raw(positions: np.ndarray) -> Iterator[tuple[int, Any]]:
        if broken and positions[0] >= 10:
            raise Unreachable("no network")
        yield from ((int(at), b"x") for at in positions)

    held = Held(raw, rows(4, 10))
    held.expect(np.array([0, 10, 20]))
    held.rest()
    assert not reading()
    list(held.raw(np.arange(10)))
    with pytest.raises(Unreachable, match=r"no network"):
        list(held.raw(np.array([10])))
    broken = False
    assert len(list(held.raw(np.array([10, 20])))) == 2


def test_what_comes_next_is_what_is_expected() -> None:
    """Whatever shards and windows there are: the windows of every step were expected before it."""
    rng = np.random.default_rng(0)
    for shards_of_batch, together, batch in ((1, 1, 4), (4, 2, 16), (8, 3, 64)):
        sizes = rng.integers(1, 30, 50)
        windows = Windows(np.cumsum(sizes) - sizes, sizes, 1.0)
        order = Windowed(windows.starts, windows.rows, together, batch, 7, shards_of_batch)
        each = batch // shards_of_batch
        for step in range(3 * order.items // batch):
            for mine in (range(shards_of_batch), range(shards_of_batch // 2, shards_of_batch)):
                some = windows.of(order.step(step)[mine.start * each : mine.stop * each])
                expected = windows.of(order.ahead(step, mine))
                assert set(some) <= set(expected)
                first = windows.of(order.step(step)[mine.start * each : mine.start * each + 1])[0]
                assert first in expected[: together * len(mine)]  # in front


def test_nothing_is_waited_for_where_computing_takes_as_long_as_reading(
    tmp_path: Path, late: type[Late], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HELD_BYTES", 4_000_000)
    monkeypatch.setattr(limits, "WINDOW_BYTES", 400_000)
    for number in range(4):
        parquet(tmp_path / f"{number}.parquet", [encoded(photo(i), "PNG") for i in range(400)], 50)
    there = f"{put(tmp_path, 'late')}/*.parquet"
    waited, seen = [], []
    for ahead in (False, True):
        prepared = prepare(open_source(there), 16, stream=True)
        windows, held = prepared.images.windows, prepared.images.held
        items = ImageItems(prepared, [0.5] * 3, [0.5] * 3, windows=windows)
        order = Windowed(windows.starts, windows.rows, 1, 16, 0, 1)
        held.waited, late.seconds = 0, 0.002
        for step in range(64):
            seen.append(items.batch(order.step(step), "cpu"))
            if ahead:
                items.expect(order.ahead(step + 1, range(1)))
            deadline = time.monotonic() + 10
            while reading() and time.monotonic() < deadline:  # computing
                time.sleep(0.001)
        waited.append(held.waited)
        items.rest()
        late.seconds = 0.0
    assert waited[0] == 21
    assert waited[1] <= 5
    assert all(np.array_equal(one, other) for one, other in zip(seen[:64], seen[64:], strict=True))
