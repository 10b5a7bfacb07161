"""Killed with SIGKILL at any moment, also inside a save, a resumed run ends bit-identical (RELIABILITY R1, R2, R13, R14)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from deaths import Server, contents

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kills are sent through a pidfd, which Linux has")

# A masked autoencoder, masked words, a variational autoencoder, a network with running statistics, one whose state goes from
# step to step, the other loop; a student with its teacher; streams with broken rows.
METHODS = ["mae", "bert", "vae", "exemplar", "lstm_lm", "mixture", "byol", "dino", "stream", "text_stream"]
KILLS = 2  # of each
CAMPAIGN = int(os.environ.get("WITHHELD_KILLS", "200"))

Tally = Callable[[str, int, int, str], None]


def killed_at_random(server: Server, job: str, at: Path, rng: np.random.Generator, kills: int) -> int:
    """Kills one run up to so many times at random moments, resumes it to its end; how many kills it survived unchanged."""
    whole, seconds = server.reference(job)
    done = 0
    while done < kills:
        ended = server.ask(job, at, resume=True, after=float(rng.uniform(0, seconds)), signal=signal.SIGKILL)
        assert ended["code"] in (-signal.SIGKILL, 0), ended["said"]
        if ended["code"] == 0:
            if done == 0:  # a machine that was busy when the reference was timed is not now
                server.whole[job] = whole, min(seconds, ended["seconds"])
            break
        done += 1
    left, _ = server.finish(job, at)
    differ = [name for name in whole if whole[name] != left.get(name)]
    assert not differ, f"{job}: other than in an uninterrupted run: {differ}"
    return done


@pytest.mark.promise("R1")
@pytest.mark.parametrize("job", METHODS)
def test_killed_at_random_moments(job: str, server: Server, tmp_path: Path, tally: Tally) -> None:
    rng = np.random.default_rng([1, METHODS.index(job)])
    killed, rounds = 0, 0
    while killed < KILLS and rounds < 20:  # up to two kills in a row, then to the end
        killed += killed_at_random(server, job, tmp_path / str(rounds), rng, KILLS - killed)
        rounds += 1
    assert killed == KILLS
    tally("R1", killed, killed, "kills (SIGKILL) at random moments, resumed to the same bits")


@pytest.mark.slow
@pytest.mark.promise("R1")
def test_a_campaign_of_kills(server: Server, tmp_path: Path, tally: Tally) -> None:
    killed, rounds = dict.fromkeys(METHODS, 0), 0
    while sum(killed.values()) < CAMPAIGN:
        job = METHODS[rounds % len(METHODS)]
        rng = np.random.default_rng([2, rounds])
        wanted = min(CAMPAIGN - sum(killed.values()), int(rng.integers(2, 7)))
        killed[job] += killed_at_random(server, job, tmp_path / "run", rng, wanted)
        shutil.rmtree(tmp_path / "run")
        rounds += 1
    for job, count in killed.items():
        tally("R1", count, count, f"campaign: kills of {job}, resumed to the same bits")


def dies_at(server: Server, job: str, call: int, at: Path) -> int:
    """Dies before a call that changes the disk, is resumed; 1 where that ends as the whole run did."""
    whole, _ = server.reference(job)
    ended = server.ask(job, at, call=call)
    assert ended["code"] == -signal.SIGKILL, ended["said"]
    left, notes = server.finish(job, at)
    assert not [note for note in notes if "passed over" in note], "a checkpoint was damaged"
    differ = [name for name in whole if whole[name] != left.get(name)]
    assert not differ, f"{job} died at call {call}: {differ}"
    shutil.rmtree(at)
    return 1


def calls_of(server: Server, job: str, at: Path) -> int:
    """How many calls of a run change what is on the disk."""
    server.reference(job)
    ended = server.ask(job, at, call=10**9)
    assert ended["code"] == 0, ended["said"]
    count = int((at / "calls").read_text())
    shutil.rmtree(at)
    return count


@pytest.mark.promise("R2")
@pytest.mark.parametrize("job", ["vae", "mixture"])
def test_dies_at_some_calls_to_the_disk(job: str, server: Server, tmp_path: Path, tally: Tally) -> None:
    count = calls_of(server, job, tmp_path / "count")
    assert count > 100
    points = range(2, count, 19)  # 19 has no factor in common with the calls of a save: all kinds come up
    good = sum(dies_at(server, job, call, tmp_path / "run") for call in points)
    tally("R2", good, len(points), "deaths before a call that changes the disk, resumed to the same bits")


@pytest.mark.slow
@pytest.mark.promise("R2")
@pytest.mark.parametrize("job", METHODS)
def test_dies_at_every_call_to_the_disk(job: str, server: Server, tmp_path: Path, tally: Tally) -> None:
    points = range(1, calls_of(server, job, tmp_path / "count") + 1)
    good = sum(dies_at(server, job, call, tmp_path / "run") for call in points)
    tally(
        "R2", good, len(points), f"every call of a run of {job} that changes the disk: deaths, resumed to the same bits"
    )


@pytest.mark.promise("R13")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_at_random_moments(number: int, code: int, server: Server, tmp_path: Path, tally: Tally) -> None:
    """From the first look at the data to the last file of the encoder."""
    whole, seconds = server.reference("vae")
    rng = np.random.default_rng([3, number])
    stopped, attempts = 0, 0
    while stopped < 10 and attempts < 20:
        at = tmp_path / str(attempts)
        attempts += 1
        ended = server.ask("vae", at, after=float(rng.uniform(0, seconds * 0.95)), signal=number)
        assert ended["code"] in (code, 0), (ended["code"], ended["said"])
        assert "Traceback" not in ended["said"]
        stopped += ended["code"] == code
        seconds = min(seconds, ended["seconds"]) if ended["code"] == 0 else seconds
        if ended["code"] and (at / "run" / "run.json").is_file() and (at / "run" / "status.json").is_file():
            status = json.loads((at / "run" / "status.json").read_text(encoding="utf-8"))
            assert status["state"] == "stopped"
            assert status["exit_code"] == code
            assert status["resumable"]
        left, _ = server.finish("vae", at)
        assert left == whole
        shutil.rmtree(at)
    assert stopped >= 8
    name = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
    tally(
        "R13" if number == signal.SIGTERM else "R14",
        stopped,
        stopped,
        f"{name} at random moments: exit {code}, resumed to the same bits",
    )


@pytest.mark.promise("R14")
def test_ctrl_c_twice_is_obeyed_at_once(server: Server, tmp_path: Path, tally: Tally) -> None:
    code = (
        "import os, signal, threading, time, sys\n"
        "from withheld.learn.signals import watch_signals\n"
        "def press():\n"
        "    for _ in range(2):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0.8)\n"
        "with watch_signals() as caught:\n"
        "    threading.Thread(target=press).start()\n"
        "    try:\n"
        "        time.sleep(10)\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(5 if caught == [2] else 6)\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 5


@pytest.mark.promise("R13")
def test_a_killed_run_is_told_from_one_that_runs(server: Server, tmp_path: Path) -> None:
    server.reference("vae")
    ended = server.ask("vae", tmp_path, call=60)
    assert ended["code"] == -signal.SIGKILL
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "running"
    assert contents(Path(server.folder / "whole-vae" / "run"))["status"] == "done 6"
