"""The other side of mortal.py: asks for attempts, and tells what a run folder holds."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PASSING = {"seconds", "items_per_second", "time", "vitals", "health"}
"""What of a log line no promise holds for: the clock, and vitals, taken as often as the clock allows (the last are compared)."""
LASTING = (
    "held_out_loss",
    "gap",
    "effective_rank",
    "feature_spread",
)  # vitals of the model alone, not of when one looked


class Server:
    """Attempts at runs, each in a process of its own.

    Args:
        folder: where everything is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "mortal.py"), str(folder / "data")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.process.stdin.write("\n")
        self._flush()
        assert "ready" in json.loads(self.process.stdout.readline())
        self.whole: dict[str, tuple[dict[str, str], float]] = {}

    def ask(self, job: str, at: Path, **more: Any) -> dict[str, Any]:
        """One attempt at a job in a folder of its own: {"code", "said", "seconds"}."""
        at.mkdir(parents=True, exist_ok=True)
        ask = {"job": job, "out": str(at / "run"), "cache": str(at / "cache"), **more}
        self.process.stdin.write(json.dumps(ask) + "\n")
        self._flush()
        return json.loads(self.process.stdout.readline())

    def reference(self, job: str) -> tuple[dict[str, str], float]:
        """What an uninterrupted run of a job ends with, and how long it takes."""
        if job not in self.whole:
            at = self.folder / f"whole-{job}"
            done = self.ask(job, at)
            assert done["code"] == 0, done["said"]
            if done["imported"]:  # which takes time, that the next of its kind will not need
                shutil.rmtree(at)
                done = self.ask(job, at)
            self.whole[job] = contents(at / "run"), done["seconds"]
        return self.whole[job]

    def finish(self, job: str, at: Path) -> tuple[dict[str, str], list[str]]:
        """Resumes what is left until it is done; what it then holds, and what it said on the way."""
        done = self.ask(job, at, resume=True)
        assert done["code"] == 0, done["said"]
        heard = [json.loads(line) for line in (at / "run.heard").read_text().splitlines()]
        return contents(at / "run"), [event["text"] for event in heard if event["kind"] == "note"]

    def close(self) -> None:
        """Ends the server."""
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=240)

    def _flush(self) -> None:
        self.process.stdin.flush()


def contents(run: Path) -> dict[str, str]:
    """Digests of what must not depend on how often a run was stopped: weights, optimizer, encoder, log, item order, skipped."""
    last = max((run / "state").glob("step-*"), key=lambda folder: int(folder.name[5:]))
    files = [*last.iterdir(), *(run / "model").iterdir(), *(run / "encoder").glob("*"), run / "skipped.jsonl"]
    found = {str(path.relative_to(run)): _digest(path.read_bytes()) for path in files if path.is_file()}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found["log"] = json.dumps([{k: v for k, v in line.items() if k not in PASSING} for line in lines])
    found["vitals"] = json.dumps({name: lines[-1].get("vitals", {}).get(name) for name in LASTING})
    seen = Path(f"{run}.seen").read_text().splitlines()
    order: dict[int, set[str]] = {}
    for line in seen:
        if line.endswith("]"):  # else it was killed while writing this
            order.setdefault(json.loads(line)[0], set()).add(line)
    assert all(len(items) == 1 for items in order.values()), "a step saw other items when it was done again"
    found["order"] = json.dumps(sorted(line for lines in order.values() for line in lines))
    status = json.loads((run / "status.json").read_text(encoding="utf-8"))
    found["status"] = f"{status['state']} {status['step']}"
    assert not list(run.rglob("*.tmp")), "something was left behind"
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
