"""Several processes train as one, and end together: equal losses, any number of them on resume, none left behind (R15, R16)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from deaths import Server
from safetensors.torch import load_file

from withheld.run import method_names

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="processes are watched through a pidfd, which Linux has"
)

# Gathered losses, running statistics, a codebook that follows the codes, state carried from step to step, the other loop.
METHODS = [
    "mae",
    "simcse",
    "exemplar",
    "vq_vae2",
    "patch_dictionary",
    "lstm_lm",
    "mixture",
    "stream",
    "text_stream",
    *sorted({"byol", "dino"} & set(method_names())),
]
# Sums of other orders differ in the last bit, and AdamW makes the most of it where a gradient is nearly zero: after some steps.
DRIFT = 2e-5
Tally = Callable[[str, int, int, str], None]


def losses(at: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (at / "run" / "log.jsonl").read_text().splitlines()]


def order(at: Path) -> list[str]:
    """The items of every step, in the order of steps; every process must have had the same."""
    lines = set(Path(f"{at / 'run'}.seen").read_text().splitlines())
    steps = sorted(json.loads(line)[0] for line in lines)
    assert steps == list(range(len(steps)))
    return sorted(lines)


@pytest.fixture(scope="module")
def whole(server: Server) -> Callable[[str], Path]:
    """A run of one process, made once."""

    def made(job: str) -> Path:
        at = server.folder / f"one-{job}"
        if not at.is_dir():
            done = server.ask(job, at)
            assert done["code"] == 0, done["said"]
        return at

    return made


@pytest.mark.promise("R15")
@pytest.mark.parametrize("job", METHODS)
def test_two_processes_are_one(
    job: str, server: Server, whole: Callable[[str], Path], tmp_path: Path, tally: Tally
) -> None:
    done = server.ask(job, tmp_path, ranks=2)
    assert done["codes"] == [0, 0], done["said"]
    assert order(tmp_path) == order(whole(job))
    skipped = [(at / "run" / "skipped.jsonl").read_text() for at in (tmp_path, whole(job))]
    assert skipped[0] == skipped[1]  # of a stream, whichever rank met a broken row
    assert skipped[0].count("\n") == (3 if "stream" in job else 0)
    # A temperature of 0.05 makes 20 times as much of a rounding.
    np.testing.assert_allclose(losses(tmp_path)[:2], losses(whole(job))[:2], rtol=3e-6 if job == "simcse" else 1e-6)
    np.testing.assert_allclose(losses(tmp_path), losses(whole(job)), rtol=DRIFT)
    if (
        job == "patch_dictionary"
    ):  # whose features are brought to the mean and variance of whole images of all processes
        same_files(*(at / "run" / "encoder" for at in (tmp_path, whole(job))), least=1)
    tally("R15", 1, 1, "methods whose losses are those of one process to 1e-6, with the same items")


@pytest.mark.promise("R15")
def test_uneven_slices_of_a_table(server: Server, whole: Callable[[str], Path], tmp_path: Path) -> None:
    """Three slices of 25, 25 and 10 rows for two processes."""
    done = server.ask("mixture", tmp_path, ranks=2, more={"batch_size": 25})
    assert done["codes"] == [0, 0], done["said"]
    np.testing.assert_allclose(losses(tmp_path), losses(whole("mixture")), rtol=1e-9)


@pytest.mark.promise("R15")
@pytest.mark.parametrize("job", ["exemplar", "patch_dictionary", "lstm_lm", "stream", "text_stream"])
def test_two_then_one_then_two(
    job: str, server: Server, whole: Callable[[str], Path], tmp_path: Path, tally: Tally
) -> None:
    """Stopped after steps 2 and 4, each time continued by another number of processes."""
    for ranks, step in ((2, 1), (1, 3)):
        fault = {"rank": ranks - 1, "step": step, "kind": "end"}
        done = server.ask(job, tmp_path, ranks=ranks, resume=step > 1, fault=fault)
        assert done["codes"] == [143] * ranks, done["said"]
        assert json.loads((tmp_path / "run" / "status.json").read_text())["step"] == step + 1
    done = server.ask(job, tmp_path, ranks=2, resume=True)
    assert done["codes"] == [0, 0], done["said"]
    assert order(tmp_path) == order(whole(job))
    np.testing.assert_allclose(losses(tmp_path), losses(whole(job)), rtol=DRIFT)
    tally("R15", 1, 1, "runs that went from 2 processes to 1 and back, losses and items unchanged")


@pytest.mark.promise("R16")
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", ["kill", "hang", "raise"])
def test_a_rank_that_fails_ends_all(
    kind: str, rank: int, server: Server, whole: Callable[[str], Path], tmp_path: Path, tally: Tally
) -> None:
    two = server.folder / "two-vae"
    if not two.is_dir():
        assert server.ask("vae", two, ranks=2)["codes"] == [0, 0]
    fault = {"rank": rank, "step": 3, "kind": kind}
    done = server.ask("vae", tmp_path, ranks=2, fault=fault, timeout=4, grace=0.5 if kind == "hang" else 60)
    assert done["codes"][1 - rank] == 75, (done["codes"], done["said"])
    assert done["codes"][rank] == {"kill": -9, "hang": -999, "raise": 75}[kind]
    assert done["seconds"] < 60
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["exit_code"] == 75
    assert status["resumable"]
    assert status["state"] == "failed"
    assert "--resume" in done["said"]
    again = server.ask("vae", tmp_path, ranks=2, resume=True)
    assert again["codes"] == [0, 0], again["said"]
    assert losses(tmp_path) == losses(two)
    tally(
        "R16",
        1,
        1,
        "failures of a rank (killed, stopped, raising; rank 0 and rank 1) that ended all with exit 75, and were resumed",
    )


@pytest.mark.promise("R16")
def test_only_the_first_rank_writes(server: Server, tmp_path: Path) -> None:
    done = server.ask("vae", tmp_path, ranks=2, watch=1)
    assert done["codes"] == [0, 0], done["said"]
    opened = {line.split(" ", 1)[1] for line in (tmp_path / "opened").read_text().splitlines() if line.startswith("1 ")}
    assert not [path for path in opened if path.startswith(f"{tmp_path / 'run'}{os.sep}")], opened
    assert "0 " in (tmp_path / "opened").read_text()
    assert (tmp_path / "run" / "encoder").is_dir()


@pytest.mark.promise("R15")
def test_a_number_of_minutes_becomes_the_same_number_of_steps(server: Server, tmp_path: Path) -> None:
    done = server.ask("vae", tmp_path, ranks=2, more={"steps": None, "minutes": 0.05})
    assert done["codes"] == [0, 0], done["said"]
    assert len(losses(tmp_path)) == json.loads((tmp_path / "run" / "run.json").read_text())["steps"] >= 1


@pytest.mark.slow
@pytest.mark.promise("R16")
@pytest.mark.parametrize("kind", ["SIGKILL", "SIGSTOP"])
def test_torchrun_leaves_nobody_behind(kind: str, tmp_path: Path, tally: Tally) -> None:
    """As a user starts it: torchrun, two processes, one of which dies or stops answering."""
    import signal

    images = tmp_path / "images.npy"
    np.save(images, (np.random.default_rng(0).random((64, 16, 16, 3)) * 255).astype(np.uint8))
    words = [
        "pretrain",
        "mae",
        "--data",
        str(images),
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "100000",
        "--batch-size",
        "16",
    ]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "withheld",
        *words,
    ]
    agent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 180
    log = tmp_path / "run" / "log.jsonl"
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        assert agent.poll() is None
        time.sleep(0.2)
    ranks = [child for child in psutil.Process(agent.pid).children(recursive=True) if "withheld" in child.cmdline()]
    victim = next(child for child in ranks if child.environ().get("RANK") == "1")
    begun = time.monotonic()
    victim.send_signal(getattr(signal, kind))
    said, _ = agent.communicate(timeout=120)
    seconds = time.monotonic() - begun
    assert agent.returncode == 1, said
    assert seconds < 60, seconds
    assert not [child for child in ranks if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["exit_code"], status["resumable"]) == (75, True)
    tally("R16", 1, 1, f"torchrun, a rank gets {kind}: all ended in {seconds:.0f} s, nobody left behind")


@pytest.mark.promise("R15")
@pytest.mark.parametrize("job", ["mae", pytest.param("bert", marks=pytest.mark.slow)])
def test_shares_of_the_weights_are_the_weights(job: str, server: Server, tmp_path: Path, tally: Tally) -> None:
    """FSDP2 with AdamW and with Muon: losses of two whole processes; stopped, and continued by one process that has all."""
    two = server.ask(job, tmp_path / "two", ranks=2)
    assert two["codes"] == [0, 0], two["said"]
    shared = server.ask(job, tmp_path / "shared", ranks=2, more={"shard": True})
    assert shared["codes"] == [0, 0], shared["said"]
    np.testing.assert_allclose(losses(tmp_path / "shared"), losses(tmp_path / "two"), rtol=1e-5)
    same_files(tmp_path / "shared" / "run", tmp_path / "two" / "run")
    fault = {"rank": 1, "step": 2, "kind": "end"}
    part = server.ask(job, tmp_path / "part", ranks=2, more={"shard": True, "recompute": job == "bert"}, fault=fault)
    assert part["codes"] == [143, 143], part["said"]
    alone = server.ask(job, tmp_path / "part", resume=True)
    assert alone["code"] == 0, alone["said"]
    assert order(tmp_path / "part") == order(tmp_path / "two")
    np.testing.assert_allclose(losses(tmp_path / "part"), losses(tmp_path / "two"), rtol=DRIFT)
    tally(
        "R15",
        1,
        1,
        "methods in shares of two processes (FSDP2): losses of whole ones, and resumed by one",
    )


@pytest.mark.slow
@pytest.mark.promise("R15")
def test_what_one_process_began_is_continued_in_shares(
    server: Server, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    begun = server.ask("mae", tmp_path, fault={"rank": 0, "step": 2, "kind": "end"})
    assert begun["code"] == 143, begun["said"]
    taken = server.ask("mae", tmp_path, ranks=2, resume=True, more={"shard": True})
    assert taken["codes"] == [0, 0], taken["said"]
    np.testing.assert_allclose(losses(tmp_path), losses(whole("mae")), rtol=DRIFT)


def same_files(one: Path, other: Path, least: int = 4) -> None:
    """The same tensors under the same names, checkpoint, encoder and model, to rounding."""
    found = sorted(path.relative_to(other) for path in other.rglob("*.safetensors"))
    assert found == sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert len(found) >= least
    for path in found:
        a, b = load_file(one / path), load_file(other / path)
        assert {name: t.shape for name, t in a.items()} == {name: t.shape for name, t in b.items()}
        for name, t in a.items():
            assert float((t - b[name]).float().norm()) <= 1e-3 * max(1.0, float(t.float().norm())), (path, name)
