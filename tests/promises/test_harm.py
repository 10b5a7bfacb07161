"""What disks, numbers and people do to a run: damage, no space, NaN, other settings, odd data (R3-R5, R12, R17-R19, R21, R22)."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from deaths import Server, contents

import withheld
from withheld.errors import CannotWrite, Diverged, InputError
from withheld.learn.checkpoint import Keeper, newest, save_state, step_of, steps_in
from withheld.learn.gradient import Loop
from withheld.lock import locked
from withheld.losses.prediction import squared_error
from withheld.objective import Objective
from withheld.types import Pair, Recipe

Tally = Callable[[str, int, int, str], None]
posix = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="limits and mounts are those of Linux")


class Items:
    """A few random vectors."""

    def __init__(self, count: int = 32, width: int = 8) -> None:
        self.t = torch.randn(count, width, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.t)

    def batch(self, index: np.ndarray, device: torch.device) -> torch.Tensor:
        return self.t[torch.from_numpy(index)].to(device)


def small(width: int = 8) -> Objective:
    torch.manual_seed(0)
    half = width // 2
    return Objective(lambda t: Pair(t[:, :half], t[:, half:]), torch.nn.Linear(half, half), squared_error)


def loop(objective: Objective, steps: int, items: Any = None) -> Loop:
    return Loop(objective, items or Items(), Recipe(base_learning_rate=1e-2, batch_size=8), steps=steps, seed=1)


@pytest.mark.promise("R3")
def test_40_damaged_checkpoints(tmp_path: Path, tally: Tally) -> None:
    """20 files cut at random places, 20 random bits flipped; then every file gone, or empty, or one too many named."""
    kept = tmp_path / "kept"
    loop(small(), 3).run(Keeper(kept, every=0))
    assert sorted(folder.name for folder in kept.iterdir()) == ["step-2", "step-3"]
    names = sorted(path.name for path in (kept / "step-3").iterdir())
    assert names == ["MANIFEST.json", "loop.json", "model.safetensors", "optimizer.safetensors"]
    rng = np.random.default_rng(0)
    damages: list[tuple[str, Callable[[bytes], bytes | None]]] = []
    for i in range(20):
        damages.append((names[i % 4], lambda data: data[: int(rng.integers(len(data)))]))
        damages.append((names[i % 4], lambda data: flipped(data, rng)))
    more = [(name, way) for name in names for way in (lambda data: None, lambda data: b"")]
    noticed = 0
    for number, (name, way) in enumerate([*damages, *more]):
        state = tmp_path / f"state-{number}"
        shutil.copytree(kept, state)
        path = state / "step-3" / name
        data = way(path.read_bytes())
        path.unlink() if data is None else path.write_bytes(data)
        said: list[str] = []
        again = loop(small(), 3)
        assert again.resume(Keeper(state, resume=True, warn=said.append)) == 2, (name, number)
        assert len(said) == 1
        assert "step-3" in said[0]
        assert name in said[0] or name == "MANIFEST.json" or "missing" in said[0] or "cannot be read" in said[0]
        assert "passed over" in said[0]
        noticed += 1
    tally("R3", 40, 40, "checkpoints cut or with a flipped bit: noticed, the one before used")
    tally("R3", noticed - 40, len(more), "checkpoints with a file gone or empty: noticed")


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    at, bit = int(rng.integers(len(data))), int(rng.integers(8))
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


@posix
@pytest.mark.promise("R3")
def test_a_run_goes_on_from_the_checkpoint_before(server: Server, tmp_path: Path, tally: Tally) -> None:
    whole, _ = server.reference("vae")
    ended = server.ask("vae", tmp_path, call=100)
    assert ended["code"] == -9
    last = max(steps_in(tmp_path / "run" / "state"), key=step_of)
    damaged = last / "model.safetensors"
    damaged.write_bytes(flipped(damaged.read_bytes(), np.random.default_rng(3)))
    left, notes = server.finish("vae", tmp_path)
    assert [note for note in notes if str(damaged) in note and "passed over" in note]
    assert left == whole
    tally("R3", 1, 1, "run resumed from the checkpoint before the damaged one, to the same bits")


@pytest.mark.promise("R3")
def test_a_strangers_checkpoint_is_harmless(tmp_path: Path) -> None:
    """Sums that fit, contents that do not: an error, and nothing outside is touched."""
    state = tmp_path / "state"
    other = small(16)
    save_state(state, 5, other, torch.optim.AdamW(other.parameters()))
    with pytest.raises(InputError, match="does not fit this network"):
        loop(small(), 6).resume(Keeper(state, resume=True))
    manifest = state / "step-5" / "MANIFEST.json"
    manifest.write_text(json.dumps({"../../outside": "0" * 64}, indent=1))
    assert "missing" in newest(state)[1][0]
    manifest.write_text("[" * 100_000)
    assert "cannot be read" in newest(state)[1][0]


@posix
@pytest.mark.promise("R4")
@pytest.mark.parametrize("job", ["vae", "mixture"])
def test_no_file_may_grow(job: str, server: Server, tmp_path: Path, tally: Tally) -> None:
    """RLIMIT_FSIZE: every write beyond it fails, as on a full disk; then there is space again."""
    whole, _ = server.reference(job)
    at = tmp_path / "half"
    ended = server.ask(job, at, call=90 if job == "vae" else 60)
    assert ended["code"] == -9
    before = newest(at / "run" / "state")[0]
    assert before is not None
    # A file of the checkpoint does not fit; a few lines of the log do not.
    for size in (3000, 700) if job == "vae" else (700,):
        full = server.ask(job, at, resume=True, size=size)
        assert full["code"] == 74, (full["code"], full["said"])
        assert "no space left" in full["said"].lower()
        assert "Traceback" not in full["said"]
        found, passed = newest(at / "run" / "state")
        assert found is not None
        assert passed == []
    left, _ = server.finish(job, at)
    assert left == whole
    tally("R4", 1, 1, "full disks (a limit on file sizes): exit 74, then resumed to the same bits")


@posix
@pytest.mark.slow
@pytest.mark.promise("R4")
def test_a_small_disk_is_full(server: Server, tmp_path: Path, tally: Tally) -> None:
    """A disk of its own in a namespace: two checkpoints fit, the third does not."""
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no namespace in which a small disk could be mounted")
    np.save(tmp_path / "images.npy", (np.random.default_rng(0).random((40, 16, 16, 3)) * 255).astype(np.uint8))
    code = (
        "import sys, withheld\n"
        "from withheld.cli.ending import ending\n"
        "from withheld.learn.checkpoint import newest\n"
        "from pathlib import Path\n"
        "out, resume = Path(sys.argv[1]), sys.argv[2] == 'resume'\n"
        "try:\n"
        "    ending(lambda: withheld.pretrain('vae', sys.argv[3], out, steps=6, batch_size=8, settings={'width': 16},\n"
        "        resume=resume, save_every=0.0, pictures=False, device='cpu'))\n"
        "except SystemExit as left:\n"
        "    found, passed = newest(out / 'state')\n"
        "    print('LEFT', left.code, found and found.name, passed)\n"
        "    raise\n"
    )
    script = (
        'mkdir -p "$1/disk"; mount -t tmpfs -o size=$4 none "$1/disk"; '
        '"$2" -c "$3" "$1/disk/run" new "$1/images.npy"; echo "CODE $?"; mount -o remount,size=400m "$1/disk"; '
        '"$2" -c "$3" "$1/disk/run" resume "$1/images.npy"; echo "CODE $?"; cat "$1/disk/run/status.json"'
    )
    server.reference("vae")
    once = sum(path.stat().st_size for path in (server.folder / "whole-vae" / "run" / "state" / "step-6").iterdir())
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", script, "bash", str(tmp_path), sys.executable, code, str(int(2.5 * once))],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    codes = [line for line in done.stdout.splitlines() if line.startswith("CODE")]
    assert codes == ["CODE 74", "CODE 0"], (done.stdout, done.stderr[-3000:])
    assert "no space left on device" in done.stderr.lower()
    assert "--resume" in done.stderr
    assert "LEFT 74 step-2 []" in done.stdout
    assert '"state": "done"' in done.stdout
    tally("R4", 1, 1, "full disk (a small tmpfs): exit 74, the last checkpoint good, resumed when there was space")


@posix
@pytest.mark.promise("R5")
def test_a_read_only_folder_is_refused_before_the_data_is_looked_at(tmp_path: Path, tally: Tally) -> None:
    """Root ignores modes, so the folder is mounted read-only in a namespace."""
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no namespace in which a folder could be mounted read-only")
    (tmp_path / "out").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    words = f"'{sys.executable}' -m withheld pretrain mae --data '{tmp_path}/broken.png' --out '{tmp_path}/out/run' --steps 2"
    script = f"mount --bind '{tmp_path}/out' '{tmp_path}/out'; mount -o remount,ro,bind '{tmp_path}/out'; {words}"
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", script], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 74, done.stderr
    assert "read-only" in done.stderr.lower()
    assert "broken.png" not in done.stderr
    tally("R5", 1, 1, "run folder on a read-only disk: exit 74 before the data was looked for")


class Poisoned(Items):
    """Items one of which turns to NaN at a step."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad, self.asked = bad, 0

    def batch(self, index: np.ndarray, device: torch.device) -> torch.Tensor:
        t = super().batch(index, device).clone()
        self.asked += 1
        if self.asked == self.bad:
            t[3, 2] = math.nan
        return t


@pytest.mark.promise("R12")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["input", "loss", "gradient", "term"])
def test_a_number_that_is_none(where: str, value: float, tmp_path: Path, tally: Tally) -> None:
    """At step 4 of 6: noticed there, nothing of it kept, the weights as they were."""
    objective = small()
    items = Poisoned(4) if where == "input" else Items()
    job = loop(objective, 6, items)
    if where == "input":
        items.t = items.t.clone()
    if where in ("loss", "term"):
        count = [0]

        def loss(prediction: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            count[0] += 1
            bad = value if count[0] == 4 else 0.0
            good = squared_error(prediction, y)
            return {"good": good, "bad": torch.tensor(bad)} if where == "term" else {"loss": good + bad}

        objective.loss = loss
    if where == "gradient":
        count = [0]

        def poison(gradient: torch.Tensor) -> torch.Tensor:
            count[0] += 1
            return gradient + (value if count[0] == 4 else 0.0)

        objective.network.weight.register_hook(poison)
    keeper = Keeper(tmp_path / "state", every=0)
    with pytest.raises(Diverged, match="step 4"):
        job.run(keeper)
    folder, passed = newest(keeper.state)
    assert folder.name == "step-3"
    assert passed == []
    weights = objective.network.weight.detach().clone()
    assert torch.isfinite(weights).all()
    again = small()
    assert loop(again, 6).resume(Keeper(keeper.state, resume=True)) == 3
    assert torch.equal(again.network.weight, weights)
    tally(
        "R12", 1, 1, "NaN or infinity in loss, a term of it, gradient or input: stopped at that step, weights as before"
    )


@posix
@pytest.mark.promise("R12")
def test_a_diverged_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = (np.random.default_rng(0).random((40, 16, 16, 3)) * 255).astype(np.uint8)
    real = Loop.step

    def step(self: Loop, number: int) -> dict[str, Any]:
        if number == 2:
            with torch.no_grad():
                next(self.objective.parameters()).fill_(math.nan)
        return real(self, number)

    monkeypatch.setattr(Loop, "step", step)
    with pytest.raises(Diverged):
        withheld.pretrain("vae", images, tmp_path / "run", steps=4, batch_size=8, pictures=False, device="cpu")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("diverged", 3)


@posix
@pytest.mark.promise("R17")
def test_the_lock_of_a_killed_run_is_free(server: Server, tmp_path: Path, tally: Tally) -> None:
    server.reference("vae")
    assert server.ask("vae", tmp_path, call=40)["code"] == -9
    assert server.ask("vae", tmp_path, resume=True)["code"] == 0
    with locked(tmp_path / "run"):
        busy = server.ask("vae", tmp_path, resume=True)
    assert busy["code"] == 73
    assert str(os.getpid()) in busy["said"]
    assert busy["seconds"] < 60
    tally("R17", 1, 1, "second run on a folder: exit 73, naming host and process; after SIGKILL the folder is free")


@posix
@pytest.mark.promise("R18")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"steps": 9}, "steps: 6 -> 9"),
        ({"batch_size": 4}, "batch_size: 8 -> 4"),
        ({"settings": {"width": 32}}, "settings"),
        ({"seed": 1}, "seed: 0 -> 1"),
    ],
)
def test_other_settings_are_shown(more: dict[str, Any], said: str, server: Server, tmp_path: Path) -> None:
    server.reference("vae")
    whole = server.folder / "whole-vae"
    shutil.copytree(whole, tmp_path / "copy")
    ended = server.ask("vae", tmp_path / "copy", resume=True, more=more)
    assert ended["code"] == 2
    assert said in ended["said"]
    assert contents(tmp_path / "copy" / "run") == contents(whole / "run")


@pytest.mark.promise("R18")
def test_other_data_is_shown(tmp_path: Path) -> None:
    images = (np.random.default_rng(0).random((40, 16, 16, 3)) * 255).astype(np.uint8)
    options: dict[str, Any] = {"steps": 1, "batch_size": 8, "pictures": False, "device": "cpu"}
    withheld.pretrain("vae", images, tmp_path / "run", **options)
    with pytest.raises(InputError, match=r"items: 40 -> 32") as error:
        withheld.pretrain("vae", images[:32], tmp_path / "run", resume=True, **options)
    assert "fingerprint" in str(error.value)


@pytest.mark.promise("R19")
@pytest.mark.parametrize("kind", ["none", "one", "fewer than a batch", "all alike", "all black"])
def test_little_and_dull_data(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    random = (rng.random((24, 16, 16, 3)) * 255).astype(np.uint8)
    images = {
        "none": random[:0], "one": random[:1], "fewer than a batch": random[:5], "all alike": np.repeat(random[:1], 24, axis=0),
        "all black": np.zeros_like(random),
    }[kind]  # fmt: skip
    options: dict[str, Any] = {"steps": 2, "batch_size": 8, "pictures": False, "device": "cpu"}
    if kind == "none":
        with pytest.raises(InputError):
            withheld.pretrain("mae", images, tmp_path / "run", **options)
        return
    run = withheld.pretrain("mae", images, tmp_path / "run", **options)
    assert all(math.isfinite(line["loss"]) for line in run.log())
    assert np.isfinite(run.encoder().transform(random[:2])).all()


@pytest.mark.promise("R21")
def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = (np.random.default_rng(0).random((40, 16, 16, 3)) * 255).astype(np.uint8)
    options: dict[str, Any] = {"steps": 4, "batch_size": 8, "pictures": False, "device": "cpu", "save_every": 0.0}
    real = Loop.step

    def step(self: Loop, number: int) -> dict[str, Any]:
        if number == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, number)

    monkeypatch.setattr(Loop, "step", step)
    with pytest.raises(torch.OutOfMemoryError):
        withheld.pretrain("vae", images, tmp_path / "run", **options)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["resumable"]) == ("failed", 75, True)
    assert newest(tmp_path / "run" / "state")[0].name == "step-2"
    monkeypatch.undo()
    withheld.pretrain("vae", images, tmp_path / "run", resume=True, **options)


@pytest.mark.promise("R22")
def test_2000_steps_in_flat_memory(tmp_path: Path, tally: Tally) -> None:
    """With checkpoints and a log, of a network so small that nothing else could grow."""
    process = psutil.Process()
    seen: list[tuple[int, int]] = []
    job = loop(small(), 2000)

    def listen(line: dict[str, Any]) -> None:
        if line["step"] % 100 == 0:
            seen.append((process.memory_info().rss, process.num_fds() if hasattr(process, "num_fds") else 0))

    job.run(Keeper(tmp_path / "state", every=0.5), listen)
    first, last = seen[4], seen[-1]  # what is imported on the way has been by then
    assert last[0] < first[0] * 1.05
    assert last[1] <= first[1]
    assert len(list((tmp_path / "state").iterdir())) == 2
    tally(
        "R22",
        2000,
        2000,
        f"steps with memory flat (+{max(0, last[0] / first[0] - 1):.1%}) and {last[1] - first[1]} more open files",
    )


@pytest.mark.promise("R5")
def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "run" / "run.json.tmp").mkdir(parents=True)
    images = (np.random.default_rng(0).random((40, 16, 16, 3)) * 255).astype(np.uint8)
    with pytest.raises(CannotWrite) as error:
        withheld.pretrain("vae", images, tmp_path / "run", steps=1, batch_size=8, pictures=False, device="cpu")
    assert error.value.exit_code == 74
