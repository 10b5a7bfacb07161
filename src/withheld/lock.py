"""One process at a time writes to a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from withheld.errors import CannotWrite, RunInUse


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a run folder for this process.

    Raises:
        RunInUse: where another process holds it. CannotWrite: where nothing can be written.
    """
    from filelock import FileLock, Timeout

    from withheld.learn.checkpoint import writing

    if folder.exists() and not folder.is_dir():
        raise CannotWrite(f"--out {folder} is a file: name a folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / "run.lock"), folder / "run.lock.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunInUse(f"{folder} is in use by {_who(holder)}: wait for it, or choose another --out") from None
    except OSError as error:
        raise CannotWrite(f"--out {folder}: cannot write here: {error.strerror or error}") from None
    with writing(holder):
        holder.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}), encoding="utf-8")
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process holds a run folder; nothing is written. False where that cannot be asked."""
    from filelock import FileLock, Timeout

    if not (folder / "run.lock").is_file():
        return False
    try:
        with FileLock(folder / "run.lock", timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _who(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
