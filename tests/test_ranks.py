"""Methods whose loss looks at the whole batch: two processes are one process."""

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
import sys
import numpy as np
import withheld
from withheld import distributed

rng = np.random.default_rng(0)
images = (rng.random((48, 16, 16, 3)) * 255).astype(np.uint8)
for method in sys.argv[2:]:
    encoder = "resnet-nano" if method in ("simclr", "byol", "vicreg", "lejepa") else "vit-nano"
    withheld.pretrain(
        method, images, sys.argv[1] + "/" + method, steps=4, batch_size=16, seed=5, pictures=False, device="cpu",
        encoder=encoder,
    )
"""


def launch(out: Path, processes: int) -> None:
    out.mkdir()
    script = out / "job.py"
    script.write_text(SCRIPT)
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(runner if processes > 1 else [sys.executable]), str(script), str(out), *METHODS]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=env)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    launch(folder / "one", 1)
    launch(folder / "two", 2)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_learn_as_one(method, both):
    lines = [
        [json.loads(line) for line in (both / name / method / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    losses, norms = ([[line[key] for line in run] for run in lines] for key in ("loss", "gradient_norm"))
    assert len(losses[0]) == 4
    np.testing.assert_allclose(*losses, rtol=1e-5)
    np.testing.assert_allclose(*norms, rtol=1e-3)
    assert json.loads((both / "two" / method / "run.json").read_text())["world"] == 2
