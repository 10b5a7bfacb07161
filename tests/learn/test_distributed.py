"""One process or two: the same items, the same hidden patches, the same losses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import withheld
from withheld.learn.gradient import Loop


def learn(out: Path) -> list[tuple[int, str]]:
    """Trains 4 steps, and says of every item that this process had in a step what was hidden of it."""
    images = (np.random.default_rng(0).random((64, 16, 16, 3)) * 255).astype(np.uint8)
    seen: list[tuple[int, str]] = []
    pieces = Loop.pieces

    def watched(self: Loop, *given: Any) -> Iterator[Any]:
        for found in pieces(self, *given):
            for at, y in zip(found.x["at"], found.y, strict=True):
                seen.append((given[0], hashlib.sha256(at.numpy().tobytes() + y.numpy().tobytes()).hexdigest()))
            yield found

    with mock.patch.object(Loop, "pieces", watched):
        withheld.pretrain("mae", images, out, steps=4, batch_size=16, seed=5, pictures=False, device="cpu")
    return seen


def launch(out: Path) -> list[tuple[int, str]]:
    """The same by two processes, as a user starts them: this file is their program."""
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*runner, __file__, str(out)], capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.replace("SEEN", "\nSEEN").splitlines() if line.startswith("SEEN")]
    assert len(lines) == 2
    return [each for line in lines for each in json.JSONDecoder().raw_decode(line[4:])[0]]


def hidden(seen: list[tuple[int, str]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for step, digest in seen:
        found.setdefault(step, []).append(digest)
    return found


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.promise("R15", "hidden patches under torchrun")
def test_two_processes_agree_with_one(tmp_path):
    pytest.importorskip("torch.distributed")
    hidden_one, hidden_two = hidden(learn(tmp_path / "one")), hidden(launch(tmp_path / "two"))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 4
    np.testing.assert_allclose(one, two, rtol=1e-6)
    assert hidden_one.keys() == hidden_two.keys() == {0, 1, 2, 3}
    for step in hidden_one:
        assert len(hidden_one[step]) == 16
        assert sorted(hidden_one[step]) == sorted(hidden_two[step])
    assert json.loads((tmp_path / "two" / "run.json").read_text())["world"] == 2
    assert json.loads((tmp_path / "two" / "status.json").read_text())["state"] == "done"


if __name__ == "__main__":
    print("SEEN" + json.dumps(learn(Path(sys.argv[1]))), flush=True)
