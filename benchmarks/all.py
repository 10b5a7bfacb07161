"""Every timing beside its peer, one after the other, as one page: docs/benchmarks.md.

    python benchmarks/all.py [--mnist mnist/] [--text tinyshakespeare/input.txt] [--clips clips/] [--photos photos/]
        [--threads 2] [--only mae_step,...] [--again]

Rows that were measured while others took more than a tenth of the busy CPU are measured again by the next call, the quieter one
is kept; --again measures all of them anew. A benchmark whose data is not named is left out and said.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
TOLD = ("", ", seeds told")
PAGE = HERE.parent / "docs" / "benchmarks.md"
QUIET = 0.1
INTRODUCTION = """# Benchmarks

Written by `make bench`. Peer and ours interleaved in one process, lower quartiles of seconds; above 1, ours is faster. Each file
asserts first that both compute the same. *Others* is the share of the busy CPU that other programs took meanwhile: above 10 % a
ratio is not to be trusted.
"""


class Benchmark(NamedTuple):
    """One file: its arguments, with {mnist} and so on put in, and for each row what was asked for and aimed at."""

    file: str
    arguments: str
    goals: dict[str, tuple[float, float]]


BENCHMARKS = [
    Benchmark("mae_step.py", "--threads {threads}", {"a step of MAE": (1.15, 1.35)}),
    Benchmark("mae_step.py", "--base --rounds 5 --threads {threads}", {"a step of MAE, ViT-B at 224": (1.1, 1.2)}),
    Benchmark("loop_overhead.py", "--threads {threads}", {"a step of the loop": (0.98, 0.995)}),
    Benchmark(
        "masked_lm.py", "--data {text} --threads {threads}",
        {"a step of a masked language model": (1.8, 2.5), "masked words of short documents": (6, 9)},
    ),
    Benchmark("lstm_lm.py", "--threads {threads}", {"a step of an LSTM language model": (1.0, 1.25)}),
    Benchmark("vae.py", "--data {mnist}", {"a step of a VAE": (1.5, 2.0), "a step of a convolutional VAE": (1.1, 1.3)}),
    Benchmark("mixture.py", "", {"EM of a Gaussian mixture": (4, 15), "mean field of a Gaussian mixture": (4, 12)}),
    Benchmark("lab.py", "", {}),
    Benchmark("pretext_splits.py", "", {f"{v} views a seed of exemplar{told}": (4, 10) for v in (1, 8) for told in TOLD}),
    Benchmark("region_ops.py", "", {}),
    Benchmark(
        "views.py", "",
        {f"views of {kind}": (4, 10) for kind in ("32 pixels", "96 pixels", "224 pixels", "224 pixels, half of them blurred")},
    ),
    Benchmark(
        "photographs.py", "--photos {photos}",
        {"a first epoch of photographs": (1.5, 2.5), "a later epoch of photographs": (1.5, 20)},
    ),
    Benchmark(
        "decode.py", "--data {clips}",
        {"decoding of frames beside to_ndarray": (7, 10), "decoding of frames beside OpenCV": (1.15, 1.5)},
    ),
]  # fmt: skip


LIMITS = {
    "1 views a seed of exemplar": "finding the seed reads the gradients of the whole image, which one view has to pay alone; the "
    "other is told where it is. Told as well, ours is in the row below.",
    "a step of MAE, ViT-B at 224": "nearly all of it is matrix products of the encoder, the same in both.",
    "a step of the loop": "the bare loop hides the whole batch at once; ours hides eight shards of it, each with random numbers of "
    "its own, so that any number of processes draws the same, and looks at every gradient. Outside of hiding, forward, backward "
    "and the optimizer it takes 1.3 %.",
    "a step of a VAE": "between 1.12 and 1.26 on different days: three fifths of a step are matrix products, which the example "
    "computes too; what it has besides (a loader that collates single items) is the smaller part.",
    "a first epoch of photographs": "both decode every photograph once, and ours also resizes and writes it; JPEG is decoded at a "
    "fraction of its size only from twice the pixels that are kept. It is paid once.",
    "views of 32 pixels": "between 3.5 and 4.7 in five runs: Pillow's loops over bytes stay in the cache, too.",
    "views of 96 pixels": "between 3.6 and 4.3 in five runs.",
    "views of 224 pixels, half of them blurred": "a Gaussian as products of bands costs 0.4 ms a view, of the 1.1 that it takes; "
    "Pillow's is three box filters over bytes.",
    "decoding of frames beside to_ndarray": "to_ndarray no longer builds a converter a frame, as it did when 7 was asked; if "
    "scaling cost nothing, decoding alone would leave 3.0 to 3.8.",
}
"""Why a row falls short of what was asked."""


def rows_of(page: Path) -> list[dict[str, Any]]:
    """The rows that a page keeps in its last lines, behind a comment."""
    if not page.is_file():
        return []
    lines = page.read_text(encoding="utf-8").splitlines()
    return [json.loads(line[5:-4]) for line in lines if line.startswith("<!-- {")]


def keep(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """The quieter of two measurements."""
    return new if old is None or new["others"] <= max(QUIET, old["others"]) else old


def measure(benchmark: Benchmark, given: dict[str, str]) -> list[dict[str, Any]]:
    """Runs one file and reads what `paired.compare` wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        command = [sys.executable, str(HERE / benchmark.file), *benchmark.arguments.format(**given).split()]
        done = subprocess.run(command, env=os.environ | {"BENCHMARK_ROWS": str(path)}, check=False)
        if done.returncode:
            print(f"{benchmark.file} failed: its rows stay as they were", file=sys.stderr)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    asked = {what: {"sure": sure, "aim": aim} for what, (sure, aim) in benchmark.goals.items()}
    now = {"file": benchmark.file, "date": datetime.date.today().isoformat(), "machine": processor()}
    return [now | row | asked.get(row["what"], {}) for row in map(json.loads, lines)]


def processor() -> str:
    """What the machine calls its processor, and how many there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return f"{os.cpu_count()} x {name}"


def page_of(rows: list[dict[str, Any]]) -> str:
    """The page."""
    heads = ("what", "peer", "ratio", "asked", "aim", "met", "others", "threads", "file")
    text = [INTRODUCTION, "| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        sure, aim = row.get("sure"), row.get("aim")
        met = "" if sure is None else "aim" if row["ratio"] >= aim else "asked" if row["ratio"] >= sure else "**no**"
        noisy = "" if row["others"] <= QUIET else " (not quiet)"
        text.append(
            f"| {row['what']} | {row['peer']} | {row['ratio']:.2f} | {sure or ''} | {aim or ''} | {met} "
            f"| {row['others']:.0%}{noisy} | {row['threads']} | `{row['file']}` |"
        )
    short = [row["what"] for row in rows if row.get("sure") is not None and row["ratio"] < row["sure"]]
    if short:
        text += ["", "Where less was reached than asked:", ""]
        text += [f"- {what}: {LIMITS.get(what, 'the reason is not known yet.')}" for what in short]
    machines = sorted({f"{row['machine']} ({row['date']})" for row in rows})
    text += ["", "Measured on " + "; ".join(machines) + ".", ""]
    return "\n".join(text + [f"<!-- {json.dumps(row)} -->" for row in rows]) + "\n"


def main() -> None:
    """Measures what is missing or was not quiet, and writes the page after every file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist")
    parser.add_argument("--text")
    parser.add_argument("--clips")
    parser.add_argument("--photos")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--only", default="", help="names of files, without .py")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("-o", "--out", type=Path, default=PAGE)
    asked = parser.parse_args()
    rows = {(row["file"], row["what"]): row for row in rows_of(asked.out)}
    given = {name: value for name, value in vars(asked).items() if isinstance(value, str)}
    for benchmark in BENCHMARKS:
        name = benchmark.file.removesuffix(".py")
        missing = [
            part
            for part in ("mnist", "text", "clips", "photos")
            if f"{{{part}}}" in benchmark.arguments and part not in given
        ]
        of_file = {what: row for (file, what), row in rows.items() if file == benchmark.file}
        known = [of_file.get(what) for what in benchmark.goals] or list(of_file.values())
        if (asked.only and name not in asked.only.split(",")) or not (HERE / benchmark.file).is_file():
            continue
        if missing:
            print(f"{benchmark.file} left out: name its data with --{missing[0]}")
            continue
        if known and not asked.again and all(row is not None and row["others"] <= QUIET for row in known):
            continue
        print(f"== {benchmark.file}", flush=True)
        for row in measure(benchmark, given):
            key = row["file"], row["what"]
            rows[key] = row if asked.again else keep(rows.get(key), row)
        asked.out.write_text(page_of(list(rows.values())), encoding="utf-8")


if __name__ == "__main__":
    main()
