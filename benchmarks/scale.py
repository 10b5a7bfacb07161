"""What more machines would bring: costs measured here, a model made of them, and simulations of what cannot be measured here.

    python benchmarks/scale.py                 # about a minute on two cores
    python benchmarks/scale.py --simulate      # only what needs no measuring: order for 4,096 ranks, failures against checkpoints

A masked autoencoder (vit-nano, 32 x 32, batch 128 over all processes), one process and two that share its batch over gloo.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as processes

from withheld import distributed
from withheld.data.image import ImageItems
from withheld.learn.gradient import Loop
from withheld.learn.schedule import Order, Windowed, shards_for
from withheld.methods.mae import mae
from withheld.networks.open import open_trunk

BATCH = 128


def sent() -> int:
    """Bytes that have gone over the loopback device of this machine."""
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return 0


def loop_of(steps: int) -> Loop:
    """The same run in every process."""
    images = np.random.default_rng(0).integers(0, 255, (2048, 3, 32, 32), np.uint8)
    items = ImageItems(images, [0.5] * 3, [0.25] * 3)
    torch.manual_seed(0)
    objective, recipe = mae(open_trunk("vit-nano", size=32, channels=3)[0])
    objective.fit_parts(items.batch(np.arange(8), torch.device("cpu")))
    return Loop(objective, items, recipe.change(batch_size=BATCH), steps=steps)


def timed(rank: int, world: int, port: int, steps: int, answer: Any) -> None:
    """In a process: seconds and bytes of a step, of the median step."""
    torch.set_num_threads(1)
    if world > 1:
        os.environ |= {
            "WORLD_SIZE": str(world),
            "RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        distributed.start(torch.device("cpu"))
    loop = loop_of(steps)
    for step in range(3):
        loop.step(step)
    before, times = sent(), []
    for step in range(3, steps):
        begun = time.perf_counter()
        loop.step(step)
        times.append(time.perf_counter() - begun)
    if rank == 0:
        weights = sum(p.numel() for p in loop.parameters if p.requires_grad)
        told = {"seconds": float(np.quantile(times, 0.25)), "bytes": (sent() - before) / len(times), "weights": weights}
        parts = {name: seconds / steps for name, seconds in loop.seconds.items()}
        answer.put({**told, "parts": parts})
    distributed.stop()


def measured(world: int, steps: int) -> dict[str, Any]:
    """`timed` in so many processes."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = int(some.getsockname()[1])
    context = processes.get_context("spawn")
    answer = context.SimpleQueue()
    group = [context.Process(target=timed, args=(rank, world, port, steps, answer)) for rank in range(world)]
    for process in group:
        process.start()
    found = answer.get()
    for process in group:
        process.join()
    return found


def step_seconds(
    items: float, each: float, fixed: float, weights: float, world: int, bytes_a_second: float, delay: float
) -> float:
    """The model: own items, what every step costs, and a ring that moves 2 (W - 1) / W of the gradients in 2 (W - 1) messages."""
    ring = 2 * (world - 1) / world * 4 * weights / bytes_a_second + 2 * (world - 1) * delay if world > 1 else 0.0
    return items / world * each + fixed + ring


def simulate_order(items: int, batch: int, ranks: int) -> None:
    """Who sees what, for thousands of ranks: nothing twice, nothing left out, the same after a resume with other ranks."""
    begun = time.process_time()
    order, shards = Order(items, batch, seed=0), shards_for(batch, max(8, ranks))
    late = items // batch // 2
    steps = (0, 1, late, items // batch - 1)
    seen = np.concatenate([order.step(step) for step in steps])
    assert len(np.unique(seen)) == len(seen)
    assert shards % ranks == 0
    each = batch // ranks
    again = Order(items, batch, seed=0).step(late)
    halved = np.concatenate([again[rank * 2 * each : (rank + 1) * 2 * each] for rank in range(ranks // 2)])
    assert np.array_equal(halved, order.step(late))
    seconds = (time.process_time() - begun) / 6
    took = f"order of a step in {1e3 * seconds:.0f} ms of one core"
    print(f"{items:>17,} items, batch {batch:,}, {ranks:,} ranks: {each} items each, {took}")


def simulate_windows(items: int, rows: int, batch: int, ranks: int) -> None:
    """The same of a stream: ranks read windows of their own, whatever step they begin with."""
    starts = np.arange(0, items, rows)
    counts = np.full(len(starts), rows)
    shards = shards_for(batch, max(8, ranks))
    order = Windowed(starts, counts, 1, batch, 0, shards)
    begun = time.process_time()
    order.step(0)
    first, late = time.process_time() - begun, order.each // (batch // shards) // 2
    steps = np.stack([order.step(step) for step in range(late, late + 4)])
    seconds = (time.process_time() - begun - first) / 4
    assert len(np.unique(steps)) == steps.size
    assert np.array_equal(Windowed(starts, counts, 1, batch, 0, shards).step(late), steps[0])
    read = [set((mine // rows).ravel().tolist()) for mine in steps.reshape(4, ranks, -1).swapaxes(0, 1)]
    twice = sum(map(len, read)) - len(set.union(*read))
    told = f"{twice} of {sum(map(len, read)):,} windows read by two, {(starts.nbytes + counts.nbytes) / 1e6:.0f} MB of windows"
    took = f"order of a step in {1e3 * seconds:.0f} ms, of an epoch's first in {first:.1f} s"
    print(f"{items:>17,} items in windows of {rows}, batch {batch:,}, {ranks:,} ranks: {told}, {took}")


def lived(work: float, interval: float, save: float, restart: float, between: float, rng: np.random.Generator) -> float:
    """Hours that a run of `work` hours takes where something fails every `between` hours on average (exponential)."""
    clock, kept, failure = 0.0, 0.0, rng.exponential(between)
    while kept < work:
        length = min(interval, work - kept)
        end = clock + length + save
        if end <= failure:
            clock, kept = end, kept + length
        else:
            clock = failure + restart
            failure = clock + rng.exponential(between)
    return clock


def simulate_failures(work: float = 300.0, save: float = 1 / 60, restart: float = 5 / 60, runs: int = 60) -> None:
    """Share of the time that is progress, by how often something fails and how often a checkpoint is written."""
    rng = np.random.default_rng(0)
    intervals = (2 / 60, 5 / 60, 10 / 60, 20 / 60, 1.0, 4.0)
    print(f"{work:.0f} hours of work, a minute to save, 5 to start again; share of the time that is progress:")
    print("fails every | " + " | ".join(f"{60 * i:.0f} min" for i in intervals) + " | Young's sqrt(2 save M) | there")
    for between in (1.0, 4.0, 24.0, 168.0):
        shares = [work / np.mean([lived(work, i, save, restart, between, rng) for _ in range(runs)]) for i in intervals]
        best = math.sqrt(2 * save * between)
        there = work / np.mean([lived(work, best, save, restart, between, rng) for _ in range(runs)])
        told = " | ".join(f"{share:.1%}" for share in shares)
        print(f"{between:>5.0f} h | {told} | {60 * best:.0f} min | {there:.1%}")
        assert there > max(shares) - 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--simulate", action="store_true")
    asked = parser.parse_args()
    if not asked.simulate:
        one, two = measured(1, asked.steps), measured(2, asked.steps)
        fixed = one["parts"]["optimizer"]
        each = (one["seconds"] - fixed) / BATCH
        print(json.dumps({"one process": one, "two": two}, indent=1))
        print(f"an item costs {1e3 * each:.2f} ms, a step {1e3 * fixed:.1f} ms more whatever its batch (the optimizer)")
        moved, ideal = two["bytes"], 2 * 4 * two["weights"]
        print(
            f"two processes move {moved / 1e6:.2f} MB a step; 4 bytes a weight there and back are {ideal / 1e6:.2f} MB"
        )
        share = two["seconds"] - (BATCH / 2 * each + fixed)
        print(f"two processes take {1e3 * two['seconds']:.0f} ms a step, one {1e3 * one['seconds']:.0f} ms")
        print(f"beyond half the items and the optimizer {1e3 * share:.0f} ms: agreeing, and two on one memory bus")
    for items, batch, ranks in ((10**6, 4096, 8), (10**9, 16_384, 1024), (10**12, 65_536, 4096)):
        simulate_order(items, batch, ranks)
    for items, batch, ranks in ((10**6, 4096, 8), (10**9, 16_384, 1024)):
        simulate_windows(items, 100, batch, ranks)
    simulate_failures()


if __name__ == "__main__":
    main()
