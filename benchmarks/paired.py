"""Timing two things side by side in one process: interleaved rounds, quartiles, and how much CPU others took meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def _busy() -> float:
    """Seconds that all processors of the machine were busy; 0 where the system does not tell."""
    try:
        return sum(map(float, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:4])) / 100
    except OSError:
        return 0.0


def compare(
    ours: Callable[[int], object],
    theirs: Callable[[int], object],
    rounds: int,
    names: tuple[str, str],
    unit: str = "",
    what: str = "",
) -> float:
    """Runs A, B, A, B ... and prints the ratio of the lower quartiles, theirs over ours: above 1, ours is faster.

    Args:
        unit: where given, both return how much of it they have done, and seconds for a thousand of it are compared.
        what: is compared, for the table of `benchmarks/all.py`; a file named by BENCHMARK_ROWS gets a line of it.
    """
    times: dict[str, list[float]] = {name: [] for name in names}
    busy, own = _busy(), time.process_time()
    for number in range(rounds):
        for name, run in zip(names, (ours, theirs), strict=True):
            begun = time.perf_counter()
            done = run(number)
            seconds = time.perf_counter() - begun
            times[name].append(1000 * seconds / float(done) if unit else seconds)  # type: ignore[arg-type]
    spent = _busy() - busy
    others = max(0.0, 1 - (time.process_time() - own) / spent) if spent else float("nan")
    low = {name: float(np.quantile(values, 0.25)) for name, values in times.items()}
    for name, values in times.items():
        if unit:
            print(f"{name:14s} {1000 / low[name]:,.0f} {unit} a second")
        print(
            f"{name:14s} min {min(values):.4f} s   lower quartile {low[name]:.4f} s   median {np.median(values):.4f} s"
        )
    ratio = low[names[1]] / low[names[0]]
    warning = "" if not others > 0.1 else "   NOT QUIET: run again"
    print(f"ratio of lower quartiles {ratio:.3f}   (others took {others:.0%} of the busy CPU){warning}")
    if what and os.environ.get("BENCHMARK_ROWS"):
        row = {
            "what": what,
            "ours": low[names[0]],
            "peer": names[1],
            "theirs": low[names[1]],
            "ratio": ratio,
            "others": others,
        }
        with open(os.environ["BENCHMARK_ROWS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"rounds": rounds, "threads": torch.get_num_threads()}) + "\n")
    return ratio
