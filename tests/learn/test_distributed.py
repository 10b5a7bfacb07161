"""One process or two: the same items, the same hidden patches, the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import hashlib, json, os, sys
import numpy as np, torch
import withheld
from withheld import distributed

rng = np.random.default_rng(0)
images = (rng.random((64, 16, 16, 3)) * 255).astype(np.uint8)
seen = []
from withheld.learn.gradient import Loop
pieces = Loop.pieces
def watched(self, step):
    for found in pieces(self, step):
        for k in range(len(found.y)):
            seen.append((step, hashlib.sha256(found.x["at"][k].numpy().tobytes() + found.y[k].numpy().tobytes()).hexdigest()))
        yield found
Loop.pieces = watched
withheld.pretrain("mae", images, sys.argv[1], steps=4, batch_size=16, seed=5, pictures=False, device="cpu")
print("SEEN" + json.dumps([int(os.environ.get("RANK", 0)), seen]), flush=True)
"""


def launch(out: Path, processes: int) -> tuple[list[float], dict[int, list[str]]]:
    script = out.parent / "job.py"
    script.write_text(SCRIPT)
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(runner if processes > 1 else [sys.executable]), str(script), str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    hidden: dict[int, list[str]] = {}
    for line in done.stdout.replace("SEEN", "\nSEEN").splitlines():
        if line.startswith("SEEN"):
            _, seen = json.JSONDecoder().raw_decode(line[4:])[0]
            for step, digest in seen:
                hidden.setdefault(step, []).append(digest)
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    return losses, hidden


@pytest.mark.promise("R15", "hidden patches under torchrun")
def test_two_processes_agree_with_one(tmp_path):
    pytest.importorskip("torch.distributed")
    one, hidden_one = launch(tmp_path / "one", 1)
    two, hidden_two = launch(tmp_path / "two", 2)
    assert len(one) == 4
    np.testing.assert_allclose(one, two, rtol=1e-6)
    assert hidden_one.keys() == hidden_two.keys() == {0, 1, 2, 3}
    for step in hidden_one:
        assert len(hidden_one[step]) == 16
        assert sorted(hidden_one[step]) == sorted(hidden_two[step])
    assert json.loads((tmp_path / "two" / "run.json").read_text())["world"] == 2
    assert json.loads((tmp_path / "two" / "status.json").read_text())["state"] == "done"
