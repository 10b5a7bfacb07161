"""What our loop takes beside what learning needs: fetching items, order, seeds, logging, checks.

    python benchmarks/loop_overhead.py [--steps 40] [--rounds 12] [--threads 2]

vit-nano, 32x32 color images in memory, batch 256. First a step of the loop beside a bare one of the same objective, split and
optimizer, whose batches lie ready; below 1 by what ours takes more. Then the share of the wall time of each part.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from paired import compare

from withheld.data.image import ImageItems
from withheld.learn.checkpoint import Keeper
from withheld.learn.gradient import Loop
from withheld.learn.log import Log
from withheld.learn.optimizer import build_optimizer
from withheld.methods.mae import mae
from withheld.networks.open import open_trunk
from withheld.objective import Objective
from withheld.types import Recipe

BATCH, EACH = 256, 4


def build(items: ImageItems) -> tuple[Objective, Recipe]:
    """The objective, the same each time."""
    torch.manual_seed(0)
    objective, recipe = mae(open_trunk("vit-nano", size=32, channels=3)[0])
    objective.fit_parts(items.batch(np.arange(8), torch.device("cpu")))
    return objective.train(), recipe.change(batch_size=BATCH)


def main() -> None:
    """Compares, then trains a few steps and shares out the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    images = np.random.default_rng(0).integers(0, 255, (4096, 3, 32, 32), np.uint8)
    items = ImageItems(images, [0.5] * 3, [0.25] * 3)
    objective, recipe = build(items)
    loop = Loop(objective, items, recipe, steps=10**6)
    bare, _ = build(items)
    optimizer = build_optimizer(bare, recipe)
    ready = [items.batch(np.arange(k * BATCH, (k + 1) * BATCH), torch.device("cpu")) for k in range(4)]

    def bare_steps(number: int) -> None:
        for k in range(EACH):
            optimizer.zero_grad(set_to_none=True)
            bare(ready[k])["loss"].backward()
            optimizer.step()

    def loop_steps(number: int) -> None:
        for k in range(EACH):
            loop.step(number * EACH + k)

    loop_steps(0)
    bare_steps(0)
    compare(loop_steps, bare_steps, asked.rounds, ("withheld", "a bare loop"), what="a step of the loop")
    objective, recipe = build(items)
    loop = Loop(objective, items, recipe, steps=asked.steps)
    loop.seconds_per_step()
    with tempfile.TemporaryDirectory() as folder:
        keeper = Keeper(Path(folder) / "state")
        with Log(Path(folder) / "log.jsonl", 0) as log:
            begun = time.perf_counter()
            loop.run(keeper, log.write)
            wall = time.perf_counter() - begun
    learning = sum(loop.seconds[part] for part in ("hide", "forward", "backward", "optimizer"))
    print(json.dumps({part: f"{seconds / wall:.2%}" for part, seconds in loop.seconds.items()}))
    print(
        f"{asked.steps * BATCH / wall:.0f} images/s; outside hiding, forward, backward and optimizer: {1 - learning / wall:.2%}"
    )


if __name__ == "__main__":
    main()
