"""Decoding on several threads (Pillow lets other threads run meanwhile), results in the order of the items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from withheld.data.decode import Raw, decode
from withheld.data.image import to_array
from withheld.data.scale import Scale, to_block
from withheld.data.source import Source
from withheld.errors import InputError

CHUNK_ITEMS = 32
CHUNK_BYTES = 8 << 20
ARRAY_BYTES = 8 << 20

P = TypeVar("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Form:
    """What every image becomes: uint8 of (channels, size, size), other types by a fixed scale."""

    size: int
    channels: int
    scale: Scale | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.size, self.size

    def of(self, raw: Raw) -> np.ndarray:
        """One item, (C, H, W) uint8. Raises anything."""
        return to_array(decode(raw, self.size, self.channels == 1), self.size, self.channels, self.scale)


Block = tuple[np.ndarray, list[int], list[tuple[int, str]]]


def blocks(source: Source, form: Form) -> Iterator[Block]:
    """Yields (images (n, C, H, W) uint8, their positions, [(position, reason) of the others]), of all items."""
    first = source.array(0, 1)
    if first is None:
        yield from decoded(source.raw(), form)
        return
    step = max(1, ARRAY_BYTES // max(1, first.nbytes))
    for start in range(0, len(source), step):
        part = source.array(start, start + step)
        try:
            images = to_block(np.asarray(part), form.size, form.channels, form.scale)
        except ValueError as error:
            raise InputError(f"{source.location} {error}; give other data, or an encoder for such images") from error
        yield images, [*range(start, start + len(images))], []


def decoded(items: Iterable[tuple[int, Raw]], form: Form) -> Iterator[Block]:
    """The same of some items."""
    yield from threaded(items, lambda chunk: _decode_chunk(chunk, form))


def threaded(items: Iterable[tuple[int, Raw]], work: Callable[[list[tuple[int, Raw]]], T]) -> Iterator[T]:
    """Yields the result of `work` on chunks of items, in their order; few chunks are held at a time."""
    yield from in_order(_chunks(items), work, os.cpu_count() or 1)


def in_order(parts: Iterable[P], work: Callable[[P], T], threads: int) -> Iterator[T]:
    """Yields the result of `work` on each part, in their order, computed on several threads; few parts are held at a time."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) >= 2 * threads + 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _chunks(items: Iterable[tuple[int, Raw]]) -> Iterator[list[tuple[int, Raw]]]:
    chunk: list[tuple[int, Raw]] = []
    held = 0
    for position, raw in items:
        chunk.append((position, raw))
        held += len(raw) if isinstance(raw, bytes) else 0
        if len(chunk) == CHUNK_ITEMS or held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _decode_chunk(chunk: list[tuple[int, Raw]], form: Form) -> Block:
    images = np.empty((len(chunk), *form.shape), np.uint8)
    kept: list[int] = []
    bad: list[tuple[int, str]] = []
    for position, raw in chunk:
        try:
            images[len(kept)] = form.of(raw)
        except Exception as error:  # damaged files raise SyntaxError, RuntimeError and others besides OSError
            bad.append((position, reason_of(error)))
        else:
            kept.append(position)
    return images[: len(kept)], kept, bad


def reason_of(error: Exception) -> str:
    """Why an item cannot be used, in one line without a path of this machine."""
    text = " ".join(str(error).split())
    if "cannot identify image file" in text:
        return "is not an image of a format that is read"
    known = getattr(error, "strerror", None)  # of OSError and of FFmpeg's errors, which name the file
    text = known if isinstance(known, str) and known else text
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
