"""Reading what is larger than the cache: windows in a shuffled order, beside rows in any order, of the same shards.

    python benchmarks/streams.py               # a few minutes: makes 100 MB of JPEGs in a temporary folder, no network
    python benchmarks/streams.py --megabytes 1000

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

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from withheld.data import windows as limits
from withheld.data.image import ImageItems
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.learn.schedule import Order, Windowed

BATCH = 128
HELD = 20_000_000


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


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    megabytes = parser.parse_args().megabytes
    limits.HELD_BYTES, limits.WINDOW_BYTES = HELD, HELD // 16
    print("| shards | order | items a second | bytes read for one | memory grew, MB |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
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


if __name__ == "__main__":
    main()
