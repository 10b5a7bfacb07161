"""Reading what is larger than the cache: windows in a shuffled order, beside rows in any order, of the same shards.

    python benchmarks/streams.py               # a few minutes: makes 100 MB of JPEGs in a temporary folder, no network
    python benchmarks/streams.py --megabytes 1000
    python benchmarks/streams.py --elsewhere   # the second table alone: a store of which every read takes 50 ms and 50 MB/s

Of each way: items decoded in a second, bytes read for a byte of the data, and how much memory grew at most. The batch is 128; rows
in any order are what a source without windows gets. The rates are of the machine and of what else it does; the other two are not.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from withheld.data import windows as limits
from withheld.data.image import ImageItems
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.learn.schedule import Order, Windowed

BATCH = 128
HELD = 20_000_000
LATE, PACE = 0.05, 50e6
COMPUTE = 0.3
"""Seconds of a step beside its items, here a pause."""


def pictures(count: int, seed: int) -> list[bytes]:
    """JPEGs of 256 x 256 of about 20 kB."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
        stream = io.BytesIO()
        small.resize((256, 256), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=80)
        found.append(stream.getvalue())
    return found


def write(folder: Path, kind: str, megabytes: int) -> None:
    """Shards of 10 MB; Parquet in row groups of 100 rows, as `datasets` writes images, or in one."""
    folder.mkdir()
    for number in range(max(1, megabytes // 10)):
        cells = pictures(500, number)
        if kind == "tar":
            with tarfile.open(folder / f"{number:05}.tar", "w") as archive:
                for i, cell in enumerate(cells):
                    member = tarfile.TarInfo(f"{i:06}.jpg")
                    member.size = len(cell)
                    archive.addfile(member, io.BytesIO(cell))
        else:
            groups = 100 if kind == "parquet" else len(cells)
            pq.write_table(pa.table({"image": cells}), folder / f"{number:05}.parquet", row_group_size=groups)


def measured(folder: Path, in_windows: bool, steps: int) -> tuple[float, float, float]:
    """Items a second, bytes read for a byte of the items, and megabytes that memory grew by."""
    size = sum(file.stat().st_size for file in folder.iterdir())
    prepared = prepare(open_source(folder), 64, stream=True)
    images = prepared.images
    found, count = images.windows, len(prepared)
    if not in_windows:
        images.windows = images.held = None
    items = ImageItems(prepared, prepared.mean, prepared.std, windows=images.windows)
    order = Windowed(found.starts, found.rows, found.together(8), BATCH, 0, 8) if in_windows else Order(count, BATCH, 0)
    process = psutil.Process()
    memory, read = process.memory_info().rss, process.io_counters().read_chars
    most, begun = memory, time.perf_counter()
    for step in range(steps):
        items.batch(order.step(step), "cpu")
        most = max(most, process.memory_info().rss)
    seconds = time.perf_counter() - begun
    items_read = steps * BATCH
    bytes_read = process.io_counters().read_chars - read
    return items_read / seconds, bytes_read / (items_read * size / count), (most - memory) / 1e6


class Far(LocalFileSystem):
    """Files of this machine, told late: `LATE` seconds a read, and `PACE` bytes a second."""

    protocol = "far"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("far://"))

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        return _Far(path)


class _Far(io.FileIO):
    def read(self, size: int = -1) -> bytes:
        time.sleep(LATE + size / PACE)
        return super().read(size)


def from_afar(folder: Path, kind: str, ahead: bool, steps: int) -> tuple[float, float]:
    """Seconds a step, and windows a hundred steps that were waited for."""
    prepared = prepare(open_source(f"far://{folder}/*.{kind}"), 64, stream=True)
    found, held = prepared.images.windows, prepared.images.held
    items = ImageItems(prepared, prepared.mean, prepared.std, windows=found)
    order = Windowed(found.starts, found.rows, found.together(8), BATCH, 0, 8)
    items.batch(order.step(0), "cpu")  # the first windows are waited for in any case
    begun, held.waited = time.perf_counter(), 0
    for step in range(1, steps):
        if ahead:
            items.expect(order.ahead(step, range(8)))
        time.sleep(COMPUTE)
        items.batch(order.step(step), "cpu")
    seconds = time.perf_counter() - begun
    items.rest()
    return seconds / (steps - 1), 100 * held.waited / (steps - 1)


def elsewhere(place: Path, megabytes: int) -> None:
    """Prints the table of shards elsewhere."""
    fsspec.register_implementation("far", Far, clobber=True)
    print("| shards | read ahead | seconds a step | windows waited for, in 100 steps |\n| --- | --- | --- | --- |")
    for kind, told in (("parquet", "Parquet, row groups of 100"), ("tar", "tar")):
        folder = place / f"{kind} there"
        write(folder, kind, megabytes)
        for ahead in (False, True):
            seconds, waited = from_afar(folder, kind, ahead, megabytes // 10 * 500 // BATCH)
            print(f"| {told} | {'yes' if ahead else 'no'} | {seconds:.2f} | {waited:.0f} |", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--elsewhere", action="store_true")
    given = parser.parse_args()
    megabytes = given.megabytes
    limits.HELD_BYTES, limits.WINDOW_BYTES = HELD, HELD // 16
    with tempfile.TemporaryDirectory() as place:
        if given.elsewhere:
            elsewhere(Path(place), megabytes)
            return
        print(
            "| shards | order | items a second | bytes read for one | memory grew, MB |\n| --- | --- | --- | --- | --- |"
        )
        for kind, told in (
            ("parquet", "Parquet, row groups of 100"),
            ("large", "Parquet, row groups of 500"),
            ("tar", "tar"),
        ):
            folder = Path(place) / kind
            write(folder, kind, megabytes)
            epoch = megabytes // 10 * 500 // BATCH
            for in_windows, steps in ((True, epoch), (False, min(epoch, 4))):
                rate, read, grew = measured(folder, in_windows, steps)
                order = "windows" if in_windows else "any row"
                print(f"| {told} | {order} | {rate:,.0f} | {read:.1f} | {grew:,.0f} |", flush=True)
        elsewhere(Path(place), megabytes)


if __name__ == "__main__":
    main()
