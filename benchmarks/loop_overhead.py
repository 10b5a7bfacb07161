"""What our loop takes beside hiding, forward, backward and the optimizer: fetching items, order, seeds, logging, checks.

    python benchmarks/loop_overhead.py [--steps 40]

vit-nano, 32x32 color images in memory, batch 256. Prints the share of the wall time of each part.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from withheld.data.image import ImageItems
from withheld.learn.checkpoint import Keeper
from withheld.learn.gradient import Loop
from withheld.learn.log import Log
from withheld.methods.mae import mae
from withheld.networks.open import open_trunk


def main() -> None:
    """Trains a few steps and shares out the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    images = np.random.default_rng(0).integers(0, 255, (4096, 3, 32, 32), np.uint8)
    items = ImageItems(images, [0.5] * 3, [0.25] * 3)
    objective, recipe = mae(open_trunk("vit-nano", size=32, channels=3)[0])
    objective.fit_parts(items.batch(np.arange(8), torch.device("cpu")))
    loop = Loop(objective, items, recipe.change(batch_size=256), steps=asked.steps)
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
        f"{asked.steps * 256 / wall:.0f} images/s; outside hiding, forward, backward and optimizer: {1 - learning / wall:.2%}"
    )


if __name__ == "__main__":
    main()
