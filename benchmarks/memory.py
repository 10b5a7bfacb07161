"""What a step needs at most beyond the weights, as it is, in pieces, and with layers computed twice.

    python benchmarks/memory.py            # about a minute of one core

A masked autoencoder (vit-tiny, 96 x 96, batch 32, a quarter of the patches hidden), one process each: the peak of the
resident memory of two steps over what there was before them.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as processes

from withheld.learn.gradient import Loop
from withheld.learn.memory import recompute
from withheld.methods.mae import mae
from withheld.networks.open import open_trunk

BATCH, SIZE = 32, 96
WAYS = {
    "as it is": {},
    "--recompute": {"again": True},
    "--accumulate 4": {"accumulate": 4},
    "both": {"again": True, "accumulate": 4},
}


class Noise:
    """Images that need no memory of their own."""

    def __len__(self) -> int:
        return 1024

    def batch(self, index: Any, device: torch.device) -> torch.Tensor:
        return torch.randn(len(index), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(int(index[0])))


def measured(answer: Any, again: bool = False, accumulate: int = 1) -> None:
    """In a process of its own: megabytes and seconds of a step, and its loss."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    objective, recipe = mae(open_trunk("vit-tiny", size=SIZE, channels=3)[0], ratio=0.25)
    if again:
        recompute(objective)
    loop = Loop(objective, Noise(), recipe.change(batch_size=BATCH), steps=100, accumulate=accumulate)
    objective.train()
    for p in objective.parameters():  # gradients and moments, which every way needs
        p.grad = torch.zeros_like(p)
    loop.optimizer.step()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    begun = time.process_time()
    losses = [loop.step(step)["loss"] for step in range(2)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - pages * resource.getpagesize() / 2**20
    answer.put({"megabytes": peak, "seconds": (time.process_time() - begun) / 2, "loss": losses[-1]})


def main() -> None:
    """Prints the table."""
    context = processes.get_context("spawn")
    found: list[dict[str, float]] = []
    print(
        "| | MB at most | relative | CPU seconds a step, relative | loss of the second step |\n| --- | --- | --- | --- | --- |"
    )
    for name, way in WAYS.items():
        answer = context.SimpleQueue()
        process = context.Process(target=measured, args=(answer,), kwargs=way)
        process.start()
        told = answer.get()
        process.join()
        found.append(told)
        share, slower = (told[what] / found[0][what] for what in ("megabytes", "seconds"))
        print(f"| {name} | {told['megabytes']:.0f} | {share:.2f} | {slower:.2f} | {told['loss']:.6f} |", flush=True)


if __name__ == "__main__":
    main()
