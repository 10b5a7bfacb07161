"""The prepared cache: folders that appear whole or not at all, safe for two processes, the least used leave first."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from withheld.errors import CannotWrite

MOST_BYTES = 20_000_000_000
DONE = "prepared.json"
"""The file of an entry that is whole; when it was last used is when that was last changed."""


def cache_folder() -> Path:
    """`WITHHELD_CACHE`, or the place the platform has for caches."""
    given = os.environ.get("WITHHELD_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "withheld" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "withheld"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "withheld"


def entries_folder() -> Path:
    """Where prepared sets lie, made where missing.

    Raises:
        CannotWrite: where it cannot be made.
    """
    folder = cache_folder() / "prepared"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def allowance() -> int:
    """Bytes the cache may hold: the smaller of 20 GB and half of the disk that is free without it."""
    folder = entries_folder()
    free = shutil.disk_usage(folder).free + sum(size for _, size, _ in _entries(folder))
    return min(MOST_BYTES, free // 2)


@contextmanager
def locked(key: str) -> Iterator[Path]:
    """Holds the entry of a key against other processes; yields the folder it has or will have."""
    folder = entries_folder()
    lock = FileLock(folder / f"{key}.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield folder / key
    finally:
        lock.release()


@contextmanager
def filling(entry: Path, needed: int | None = None) -> Iterator[Path]:
    """Gives a folder to fill, which takes the entry's place at the end; of what fails nothing stays. Call while locked.

    Raises:
        CannotWrite: saying how many bytes are `needed`, where that is known.
    """
    for stale in entry.parent.glob(f"{entry.name}.tmp-*"):  # a killed process left it
        shutil.rmtree(stale, ignore_errors=True)
    temporary = entry.with_name(f"{entry.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir()
        yield temporary
        files = [path for path in temporary.rglob("*") if path.is_file()]
        for path in files:
            sync(path)
        make_room(sum(path.stat().st_size for path in files), entry.name)
        if entry.exists():
            shutil.rmtree(entry)
        os.rename(temporary, entry)
    except OSError as error:
        raise cannot_write(entry.parent, error, needed) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def touch(entry: Path) -> None:
    """Notes that an entry was used."""
    try:
        os.utime(entry / DONE)
    except OSError:
        return  # a cache that cannot be written to still serves


def make_room(needed: int, keep: str) -> None:
    """Removes the least recently used other entries until `needed` bytes fit into the allowance."""
    folder = entries_folder()
    entries = [entry for entry in _entries(folder) if entry[2].name.split(".tmp-")[0] != keep]
    total = sum(size for _, size, _ in entries)
    allowed = allowance()
    for _, size, path in sorted(entries):
        if total + needed <= allowed:
            return
        if _remove(path):
            total -= size


def _remove(path: Path) -> bool:
    lock = FileLock(path.with_name(f"{path.name.split('.tmp-')[0]}.lock"), timeout=0)
    try:
        with lock:
            shutil.rmtree(path, ignore_errors=True)
    except (Timeout, OSError):
        return False
    return not path.exists()


def _entries(folder: Path) -> list[tuple[float, int, Path]]:
    """(last use, bytes, folder) of everything in the cache, unfinished ones as old as they are."""
    found = []
    for path in folder.iterdir():
        if not path.is_dir():
            continue
        try:
            size = sum(file.stat().st_size for file in path.iterdir())
            done = path / DONE
            found.append(((done if done.exists() else path).stat().st_mtime, size, path))
        except OSError:
            continue  # another process removed it meanwhile
    return found


def sync(path: Path) -> None:
    """Makes sure that a file has reached the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(folder: Path, error: OSError, needed: int | None = None) -> CannotWrite:
    """The error to raise where the cache cannot be written, with the remedy."""
    need = f", {needed / 1e6:,.0f} MB are needed" if needed is not None else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(folder if folder.exists() else folder.anchor or ".").free
        reason = f"no space left for the prepared data in {folder}: {free / 1e6:,.0f} MB are free{need}"
    else:
        reason = f"cannot write the prepared data to {folder}: {error.strerror or error}"
    return CannotWrite(f"{reason}; free some space, or set WITHHELD_CACHE to a folder on another disk")
