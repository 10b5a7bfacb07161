"""Methods whose loss looks at the whole batch: two processes are one process, in losses and gradients, step after step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

METHODS = ["simclr", "vicreg", "lejepa", "byol", "dino"]
SCRIPT = """
import json, os, sys
import torch
from withheld import distributed
from withheld.learn.gradient import Loop
from withheld.networks.open import open_trunk
from withheld.run import load_method

class Doubles:
    images = torch.randn(48, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    def __len__(self):
        return 48
    def batch(self, index, device):
        return self.images[torch.from_numpy(index)]

distributed.start(torch.device("cpu"))
found = {}
for method in sys.argv[1:]:
    torch.manual_seed(0)
    trunk, _ = open_trunk("vit-nano" if method == "dino" else "resnet-nano", size=16, channels=3)
    objective, recipe = load_method(method)(trunk)
    objective.double()
    # plain SGD: Adam's first steps turn the rounding of a gradient that is 0 into a step of full length
    recipe = recipe.change(batch_size=16, optimizer="sgd", base_learning_rate=0.05, warmup=0.0)
    loop = Loop(objective, Doubles(), recipe, steps=3, seed=5)
    objective.train()
    found[method] = [(line["loss"], line["gradient_norm"]) for line in map(loop.step, range(3))]
    weights = [p.detach().flatten() for p in objective.parameters()] + [b.double().flatten() for b in objective.buffers()]
    found[method].append((float(torch.cat(weights).square().sum()), float(distributed.world())))
    del loop
if distributed.rank() == 0:
    print("FOUND" + json.dumps(found), flush=True)
distributed.barrier()
distributed.stop()
os._exit(0)  # what gloo's threads do while the interpreter ends is not asked here
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict[str, list[list[float]]]]:
    script: Path = tmp_path_factory.mktemp("ranks") / "job.py"
    script.write_text(SCRIPT)
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    found = []
    for command in ([sys.executable], runner):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, str(script), *METHODS], capture_output=True, text=True, timeout=400, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.split("FOUND")[1].splitlines()[0]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_learn_as_one(method, both):
    one, two = (np.array(run[method]) for run in both)
    np.testing.assert_allclose(one[:3], two[:3], rtol=2e-6)
    assert one[3, 0] == pytest.approx(two[3, 0], rel=1e-6)  # weights, batch statistics, center
    assert (one[3, 1], two[3, 1]) == (1, 2)
    assert one[0, 1] > 1e-3  # there is a gradient to compare
