"""Shards: files of this machine, which libraries open themselves, or files that lie elsewhere, read in ranges through fsspec."""

from __future__ import annotations

import io
import re
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, cast

from withheld.errors import InputError, Unreachable
from withheld.redact import redact

HEAD_BYTES = 1 << 16
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a read that failed is tried again."""
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "http": "aiohttp"}
"""What pip calls what a protocol needs, where fsspec does not say it in so many words."""
TAGS = ("ETag", "etag", "xet_hash", "blob_id", "md5Hash", "LastModified", "last_modified", "mtime", "created")
"""What file systems call that which changes with a file's contents, the best first."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://")
_FINAL = (FileNotFoundError, PermissionError, NotImplementedError, ValueError)


def is_address(data: Any) -> bool:
    """Whether data is told by an address, such as s3://bucket/a.tar."""
    return isinstance(data, str) and _ADDRESS.match(data) is not None


def copied(data: Any, what: str) -> Any:
    """The data, where it lies on this machine.

    Raises:
        InputError: where it is told by an address.
    """
    if is_address(data):
        hint = "; pretrain --stream reads shards of texts where they lie" if what == "texts" else ""
        raise InputError(
            f"{redact(data)}: images are read where they lie, {what} are not: copy them here, or give hf:NAME{hint}"
        )
    return data


class Shard(ABC):
    """A file of many items.

    Attributes:
        name: a relative path, as errors and items tell it.
        size: in bytes.
        chunk: bytes that are asked for at once.
        at_once: how many are looked into at once.
    """

    name: str
    size: int
    chunk: int
    at_once: int

    @property
    @abstractmethod
    def stamp(self) -> bytes | str:
        """What tells this file from another, or from what it was before."""

    @property
    def folder(self) -> Path | None:
        """Where labels may lie beside it, on this machine."""
        return None

    @abstractmethod
    def open(self, together: int | None = None) -> BinaryIO:
        """Its bytes, from the start.

        Args:
            together: how many will be read one after the other; None asks for `chunk` at once.
        """

    @abstractmethod
    def handle(self) -> Any:
        """What libraries read it from: its path where it has one, else its bytes."""

    def head(self) -> bytes:
        """Its first `HEAD_BYTES`."""
        with self.open() as stream:
            return stream.read(HEAD_BYTES)


@dataclass(frozen=True)
class Local(Shard):
    """A file of this machine."""

    path: Path
    name: str
    chunk = 1 << 20
    at_once = 1

    @property
    def size(self) -> int:  # type: ignore[override]
        return self.path.stat().st_size

    @property
    def stamp(self) -> str:
        from withheld.data.source import stamp_of

        return stamp_of(self.path)

    @property
    def folder(self) -> Path:
        return self.path.parent

    def open(self, together: int | None = None) -> BinaryIO:
        return self.path.open("rb")

    def handle(self) -> Path:
        return self.path


@dataclass(frozen=True)
class Remote(Shard):
    """A file elsewhere.

    Args:
        system: an fsspec file system. path: there. tag: changes with the contents, "" where nothing does.
    """

    system: Any
    path: str
    name: str
    size: int
    tag: str
    chunk = 8 << 20
    at_once = 16

    @property
    def stamp(self) -> str:
        return f"{self.path} {self.size} {self.tag}"

    def open(self, together: int | None = None) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(Ranges(self), together or self.chunk))

    def handle(self) -> Ranges:
        return Ranges(self)

    def head(self) -> bytes:
        return Ranges(self).read(HEAD_BYTES)


class Ranges(io.RawIOBase):
    """A file elsewhere as a stream: every read asks for a range of bytes, and is tried again where it fails.

    Raises:
        Unreachable: where it fails after several tries, or the file is another than it was.
    """

    def __init__(self, shard: Remote) -> None:
        self.shard, self.at = shard, 0
        self._file: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + (0, self.at, self.shard.size)[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(0, self.shard.size - self.at))
        buffer[:count] = self._range(self.at, count) if count else b""
        self.at += count
        return count

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _range(self, start: int, count: int) -> bytes:
        for wait in (*WAITS, None):
            try:
                return self._once(start, count)
            except Exception as error:  # every file system has errors of its own
                self._drop()
                told = redact(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
                if isinstance(error, _FINAL):
                    raise Unreachable(
                        f"{self.shard.name} cannot be read any more ({told}); is it still there?"
                    ) from error
                if wait is None:
                    raise Unreachable(
                        f"{self.shard.name} cannot be read, tried {len(WAITS) + 1} times ({told}); check the network"
                    ) from error
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _once(self, start: int, count: int) -> bytes:
        if self._file is None:
            self._file = self.shard.system.open(self.shard.path, "rb", cache_type="none")
            size = getattr(self._file, "size", None)
            if isinstance(size, int) and size != self.shard.size:
                raise ValueError(f"it has {size:,} bytes, and had {self.shard.size:,}")
        self._file.seek(start)
        found = self._file.read(count)
        if len(found) != count:
            raise EOFError(f"{len(found):,} bytes came of {count:,}")
        return bytes(found)


def shards_at(address: str) -> list[Shard]:
    """The files that an address or a pattern of addresses stands for, in the order of their names; names are those below the
    innermost folder that holds them all, as of a pattern of local files.

    Raises:
        InputError: where there are none, or a package is missing.
        Unreachable: where the network fails.
    """
    try:
        system, path = _system(address)
        found = system.glob(path, detail=True) if any(c in path for c in "*[") else {path: system.info(path)}
        infos = {name: info if info.get("size") is not None else system.info(name) for name, info in found.items()}
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"there is nothing at {redact(address)}; check the address, and whether it may be read"
        ) from error
    except (PermissionError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{redact(address)} cannot be read: {redact(str(error)[:300])}; check the address and the keys"
        ) from error
    except Exception as error:  # every file system has errors of its own
        raise Unreachable(
            f"{redact(address)} cannot be listed ({redact(f'{type(error).__name__}: {str(error)[:200]}')}); check the network and "
            "the keys, or copy the files here"
        ) from error
    return shards_of(system, {name: info for name, info in infos.items() if info.get("type") != "directory"}, address)


def shards_of(system: Any, infos: dict[str, dict[str, Any]], address: str) -> list[Shard]:
    """Files of a file system as shards.

    Args:
        infos: of every path, what the file system tells of it.

    Raises:
        InputError: where there are none, or one has no size.
    """
    if not infos:
        raise InputError(
            f"no file is called like {redact(address)!r}; quote the pattern, so that the shell leaves it as it is"
        )
    paths = sorted(infos, key=lambda path: PurePosixPath(_plain(path)))
    root = common([PurePosixPath(_plain(path)) for path in paths])
    found: list[Shard] = []
    for path in paths:
        size = infos[path].get("size")
        if not isinstance(size, int):
            raise InputError(
                f"{redact(path)} does not tell its size, so it cannot be read in parts; copy it here and give the copy"
            )
        tag = next((str(infos[path][key]) for key in TAGS if infos[path].get(key)), "")
        name = PurePosixPath(_plain(path)).relative_to(root).as_posix()
        found.append(Remote(system=system, path=path, name=name, size=size, tag=tag))
    return found


def common(files: list[Any]) -> Any:
    """The innermost folder that holds all of some paths."""
    parents: list[PurePath] = [*files[0].parents]
    return next(folder for folder in parents if all(folder in file.parents for file in files))


def _plain(path: str) -> str:
    """Without what follows the path in an address."""
    return path.partition("?")[0]


def _system(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    protocol = address.partition("://")[0].lower()
    try:
        system, path = url_to_fs(address)
    except ImportError as error:
        package = PACKAGES.get(
            {"https": "http", "s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}.get(protocol, protocol)
        )
        remedy = f"pip install {package}" if package else str(error)
        raise InputError(
            f"{redact(address)}: addresses of {protocol}:// need a package that is not installed: {remedy}"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{redact(address)}: {error}; there are hf://, s3://, gs://, https:// and others of fsspec"
        ) from error
    return system, path
