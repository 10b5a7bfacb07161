"""Runs that die: imports everything once, then forks a process for every attempt, which costs milliseconds instead of seconds.

A server on standard input and output: a line of JSON asks for an attempt, a line of JSON says how it ended.

    {"job": "mae", "out": DIR, "cache": DIR, "resume": false, "after": 0.4, "signal": 9}     killed after 0.4 s
    {"job": "mae", ..., "call": 17}                        kills itself at the 17th call that changes what is on the disk
    {"job": "mae", ..., "size": 20000}                     no file may grow beyond so many bytes: a full disk
    {"job": "words", "words": ["evaluate", ...], ...}      any command
    {"job": "mae", ..., "ranks": 2, "fault": {"rank": 1, "step": 3, "kind": "kill"}}    several processes, one of which fails
    {..., "limit": 240, "grace": 3}     seconds that an attempt may take in all, and after its first process has ended
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "shutil.move"}
STEPS = 6
ENDS = {signal.SIGINT, signal.SIGTERM}


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    """What is run, on small data that is made once: name -> arguments of `pretrain`."""
    import numpy as np

    rng = np.random.default_rng(0)
    images, table, texts = folder / "images.npy", folder / "table.csv", folder / "texts.txt"
    if not texts.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(images, (rng.random((40, 16, 16, 3)) * 255).astype(np.uint8))
        rows = np.concatenate([rng.normal(k * 3, 1, (30, 3)) for k in range(2)])
        table.write_text(
            "a,b,c\n" + "".join(",".join(f"{v:.6f}" for v in row) + "\n" for row in rows), encoding="utf-8"
        )
        words = ["the", "a", "old", "green", "sea", "house", "wind", "bird", "went", "came", "stood", "sang", "over"]
        lines = [" ".join(rng.choice(words, 14)) + "." for _ in range(80)]
        texts.write_text("\n\n".join(lines), encoding="utf-8")
        write_shards(folder / "shards", rng)
        write_text_shards(folder / "text_shards", lines)
    image = {"data": str(images), "batch_size": 8, "steps": STEPS}
    text = {"data": str(texts), "steps": STEPS, "size": 16, "settings": {"tokenizer": "character"}}
    return {
        "mae": {"method": "mae", **image},
        "vae": {"method": "vae", **image, "settings": {"width": 16}},
        "exemplar": {"method": "exemplar", **image},
        "vq_vae2": {"method": "vq_vae2", **image, "settings": {"codes": 8}},
        "byol": {"method": "byol", **image},
        "patch_dictionary": {"method": "patch_dictionary", **image},
        "stream": {"method": "mae", "data": str(folder / "shards"), "stream": True, "held": 30_000, "batch_size": 8, "steps": 9},
        "text_stream": {
            **text, "method": "bert", "data": str(folder / "text_shards"), "stream": True, "held": 6_000, "window": 8_000,
            "size": 64, "batch_size": 16, "steps": 9,
        },
        "dino": {"method": "dino", **image},
        "bert": {"method": "bert", **text, "batch_size": 8},
        "lstm_lm": {"method": "lstm_lm", **text, "batch_size": 4},
        "simcse": {"method": "simcse", **text, "batch_size": 8, "encoder": "bert-tiny", "settings": {"dropout": 1e-7}},
        "mixture": {
            "method": "mixture", "data": str(table), "steps": STEPS, "settings": {"components": 2, "tolerance": 0.0},
        },
    }  # fmt: skip


def write_shards(folder: Path, rng: Any) -> None:
    """Parquet files of noise, some rows of which are broken, in row groups of 4."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder.mkdir()
    for number, rows in enumerate((14, 3, 20)):
        cells = []
        for row in range(rows):
            stream = io.BytesIO()
            Image.fromarray((rng.random((16, 16, 3)) * 255).astype("uint8")).save(stream, "PNG")
            cells.append(stream.getvalue() if (number + row) % 11 else b"broken")
        pq.write_table(pa.table({"image": cells}), folder / f"{number}.parquet", row_group_size=4)


def write_text_shards(folder: Path, lines: list[str]) -> None:
    """JSON lines, some of which are broken."""
    folder.mkdir()
    for number in range(3):
        rows: list[Any] = [{"text": line} for line in lines[number::3]]
        rows[5 * number + 2] = {"text": number}
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def attempt(ask: dict[str, Any], tasks: dict[str, dict[str, Any]], rank: int) -> int:
    """In the child: does it, and returns the exit code that the command line would have."""
    from withheld import distributed
    from withheld.cli import main
    from withheld.cli.ending import ending

    os.environ["WITHHELD_CACHE"] = ask["cache"]
    if ask.get("ranks", 1) > 1:
        distributed.TIMEOUT = timedelta(seconds=ask.get("timeout", 20))
        os.environ |= {"WORLD_SIZE": str(ask["ranks"]), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ask["port"])}
    if rank == ask.get("fault", {}).get("rank"):
        fail(**ask["fault"])
    if "call" in ask:
        count_changes(Path(ask["out"]).parent, ask["call"])
    if "watch" in ask:
        note_opened(Path(ask["out"]).parent / "opened", rank)
    if "size" in ask:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (ask["size"], resource.RLIM_INFINITY))
    try:
        if ask["job"] == "words":
            reachable(main, ask["words"])
        ending(lambda: reachable(run, ask, tasks))
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def reachable(do: Any, *given: Any) -> None:
    """Lets a signal that has waited since before the fork arrive now: earlier, nobody is there yet to obey it."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
        do(*given)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)


def run(ask: dict[str, Any], tasks: dict[str, dict[str, Any]]) -> None:
    """A pretraining run that keeps a checkpoint after every step and notes which items each step saw."""
    import withheld
    from withheld.data import prepared, text_stream, windows
    from withheld.learn import schedule

    job = dict(tasks[ask["job"]])
    if "held" in job:  # and of the broken rows some are met at first, the others on the way
        windows.HELD_BYTES, prepared.STREAMED_SAMPLE, text_stream.SAMPLED = job.pop("held"), 4, 2
        windows.WINDOW_BYTES = job.pop("window", windows.WINDOW_BYTES)
    method, data = job.pop("method"), job.pop("data")
    seen = os.open(ask["out"] + ".seen", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for kind in (schedule.Order, schedule.Streams, schedule.Windowed):
        kind.step = noted(kind.step, seen)  # type: ignore[method-assign]
    heard = os.open(ask["out"] + ".heard", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def listen(event: dict[str, Any]) -> None:
        if event["kind"] != "plan":
            note(heard, event)

    withheld.pretrain(
        method, data, ask["out"], **{**job, **ask.get("more", {})}, resume=ask.get("resume", False), save_every=0.0,
        pictures=False, device="cpu", listen=listen,
    )  # fmt: skip


def fail(rank: int, step: int, kind: str) -> None:
    """Lets this process fail in a step: it dies, it stops answering, it raises, or it is asked to end."""
    from withheld.learn import alternate, gradient

    def failing(self: Any, number: int) -> Any:
        if number == step and kind == "raise":
            raise RuntimeError("a cosmic ray")
        if number == step:
            kinds = {"kill": signal.SIGKILL, "hang": signal.SIGSTOP, "end": signal.SIGTERM}
            os.kill(os.getpid(), kinds[kind])
        return before[type(self)](self, number)

    before = {kind: kind.step for kind in (gradient.Loop, alternate.Alternation)}
    for loop in before:
        loop.step = failing  # type: ignore[method-assign]


def note(file: int, told: Any) -> None:
    """Adds a line; a limit on file sizes is meant for the run, and not for these notes."""
    with contextlib.suppress(OSError):
        os.write(file, (json.dumps(told, default=str) + "\n").encode())


def noted(step: Any, seen: int) -> Any:
    """`Order.step` that writes down what it answers."""

    def wrapped(self: Any, number: int) -> Any:
        items = step(self, number)
        note(seen, [number, items.tolist()])
        return items

    return wrapped


def count_changes(below: Path, last: int) -> None:
    """Counts every call that changes what lies below a folder, and dies before number `last` does what it would."""
    from withheld.learn import checkpoint

    root, left = str(below.resolve()), [last]
    total = os.open(str(below / "calls"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def tick() -> bool:
        left[0] -= 1
        os.pwrite(total, str(last - left[0]).encode(), 0)
        return left[0] == 0

    def audit(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[1], str) and set(given[1]) & set("wax+")
        if (writes or event in CHANGES) and given and str(given[0]).startswith(root) and tick():
            os.kill(os.getpid(), signal.SIGKILL)

    def save(tensors: Any, path: Any, *rest: Any) -> None:
        if tick():  # before, and again when half of it is on the disk
            os.kill(os.getpid(), signal.SIGKILL)
        written(tensors, path, *rest)
        if tick():
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def sync(handle: int) -> None:
        if tick():
            os.kill(os.getpid(), signal.SIGKILL)
        flushed(handle)

    written, flushed = checkpoint.save_file, os.fsync
    checkpoint.save_file, os.fsync = save, sync
    sys.addaudithook(audit)


def note_opened(path: Path, rank: int) -> None:
    """Notes every file that is opened for writing, by which rank."""
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def audit(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[1], str) and set(given[1]) & set("wax+"):
            os.write(notes, f"{rank} {given[0]}\n".encode())

    sys.addaudithook(audit)


def serve() -> None:
    """Answers until standard input ends."""
    import torch

    torch.set_num_threads(1)
    from transformers import conversion_mapping

    import withheld.learn.alternate
    import withheld.pretraining
    import withheld.text_encoder
    import withheld.video_encoder

    conversion_mapping.get_checkpoint_conversion_mapping("vit")  # kept, or every process that saves an encoder makes it
    sys.stdin.readline()  # wait to be greeted, so that data is made once
    tasks = jobs(Path(sys.argv[1]))
    for job in tasks.values():
        withheld.run.load_method(job["method"])
    answer, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    print(json.dumps({"ready": sorted(tasks)}), file=answer, flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        begun, before = time.monotonic(), sum(os.times()[2:4])
        ask["port"] = free_port()
        children = [born(ask, tasks, rank) for rank in range(ask.get("ranks", 1))]
        codes = wait(children, ask)
        new = imported(Path(ask["out"] + ".modules"))
        said = [file.read_text(errors="replace")[-4000:] if file.exists() else "" for file in spoken(ask)]
        told = {
            "code": codes[0],
            "codes": codes,
            "said": "\n".join(said),
            "seconds": time.monotonic() - begun,
            "imported": new,
        }
        told["cpu"] = sum(os.times()[2:4]) - before
        print(json.dumps(told), file=answer, flush=True)


def spoken(ask: dict[str, Any]) -> list[Path]:
    """Where each rank says what it says; one that was killed at birth has said nothing."""
    return [Path(f"{ask['out']}.said{rank}") for rank in range(ask.get("ranks", 1))]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


def born(ask: dict[str, Any], tasks: dict[str, dict[str, Any]], rank: int) -> int:
    """Forks the process of a rank; returns its id."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)
    handle = os.open(spoken(ask)[rank], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    code = 99
    try:
        code = attempt(ask, tasks, rank)
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    if "size" not in ask and rank == 0:
        Path(ask["out"] + ".modules").write_text("\n".join(sys.modules), encoding="utf-8")
    os._exit(code)


def imported(path: Path) -> int:
    """Imports what an attempt had to import, so that the next need not; how many modules."""
    before = len(sys.modules)
    if not path.is_file():
        return 0
    for name in path.read_text(encoding="utf-8").split():
        if name not in sys.modules and name.split(".")[0] in {
            "withheld",
            "sklearn",
            "scipy",
            "skimage",
            "transformers",
        }:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    return len(sys.modules) - before


def wait(children: list[int], ask: dict[str, Any]) -> list[int]:
    """Sends what was asked for when its time has come; returns the exit codes, minus the signal that killed a process.

    -999 is one that had not ended within the limit.
    """
    handles = {os.pidfd_open(child): child for child in children}
    waiting, begun, sent, first = set(handles), time.monotonic(), "after" not in ask, 1e9
    while waiting:
        limit = min(ask.get("limit", 240), ask.get("grace", 240) + first) if sent else ask["after"]
        ended = select.select(list(waiting), [], [], max(0, begun + limit - time.monotonic()))[0]
        waiting -= set(ended)
        first = min(first, time.monotonic() - begun) if ended else first
        if not ended and sent:
            break
        if not ended:
            sent = True
            for handle in waiting:
                os.kill(handles[handle], ask.get("signal", signal.SIGKILL))
    for handle in waiting:
        os.kill(handles[handle], signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    late = {handles[handle] for handle in waiting}
    for handle in handles:
        os.close(handle)
    return [-999 if child in late else code for child, code in zip(children, codes, strict=True)]


if __name__ == "__main__":
    serve()
