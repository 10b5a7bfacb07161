"""Streams of texts: bytes of memory over one pass, how fast, and how even the blocks of a pass are; no model learns.

    python benchmarks/text_streams.py --megabytes 2 20
    python benchmarks/text_streams.py --data 'books/*.jsonl'

JSON lines of made-up words in four shards, in windows of 0.5 MB of which at most 16 MB of tokens are held; each size in a process
of its own, whose resident memory is compared with that after its first window.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

LENGTH, BATCH, OVERLAP = 128, 32, 1


def write(folder: Path, megabytes: float) -> None:
    """Documents of 20 to 400 words, whose shares fall as in a language."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    words = ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(20_000)]
    share = 1 / np.arange(3, len(words) + 3)
    for shard in range(4):
        with (folder / f"{shard}.jsonl").open("w") as file:
            while file.tell() < megabytes * 250_000:
                count = rng.integers(20, 400)
                file.write(json.dumps({"text": " ".join(rng.choice(words, count, p=share / share.sum()))}) + "\n")


def measure(megabytes: float, data: str | None) -> None:
    """One pass in a fresh process; prints a row of the table."""
    from withheld.data import windows

    windows.WINDOW_BYTES, windows.HELD_BYTES = 4_000_000, 16_000_000
    from withheld.data.text_corpus import open_corpus
    from withheld.data.text_stream import BlockStream, beginnings, make_plan
    from withheld.data.tokenizer import train_tokenizer
    from withheld.learn.schedule import order_of
    from withheld.types import Recipe

    with tempfile.TemporaryDirectory() as name:
        if data is None:
            write(Path(name), megabytes)
        corpus = open_corpus(data or name)
        tokenizer = train_tokenizer("bpe", beginnings(corpus, 1_000_000), 4096, False, LENGTH)
        stream = BlockStream(
            corpus, make_plan(corpus, tokenizer, LENGTH + OVERLAP, OVERLAP), tokenizer, LENGTH + OVERLAP, OVERLAP
        )
        counts: dict[int, int] = {}
        blocks_of = stream.blocks_of

        def counted(window: int) -> Any:
            found = blocks_of(window)
            counts[window] = len(found[0]) if found[0] is not None else 0
            return found

        stream.blocks_of = counted  # type: ignore[method-assign]
        order = order_of(stream, Recipe(batch_size=BATCH), 0, 8)
        stream.batch(order.step(0), "cpu")
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        steps = len(stream) // BATCH
        for step in range(steps):
            stream.batch(order.step(step), "cpu")
        seconds = time.process_time() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
        places = np.concatenate([order.step(step) for step in range(steps)])
        missed = twice = total = 0
        which = stream.read_in.of(places)
        for window in range(len(corpus)):
            count = counts[window]
            seen = Counter((places[which == window] - stream.read_in.starts[window]) % max(1, count))
            total += count
            missed += count - len(seen)
            twice += sum(n > 1 for n in seen.values())
        size = float(corpus.sizes.sum()) / 1e6
        print(
            f"| {size:.0f} | {len(corpus)} | {grown:.0f} | {size / seconds:.1f} | {missed / total:.1%} | {twice / total:.1%} |"
        )


def main() -> None:
    """Every size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[2.0, 20.0])
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--data", help="Texts of your own instead.")
    given = parser.parse_args()
    if given.one:
        measure(given.one, given.data)
        return
    print("| MB of text | windows | memory grew, MB | MB a second of one core | blocks missed in a pass | seen twice |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for size in given.megabytes if given.data is None else [1.0]:
        more = [] if given.data is None else ["--data", given.data]
        subprocess.run([sys.executable, __file__, "--one", str(size), *more], check=True)


if __name__ == "__main__":
    main()
