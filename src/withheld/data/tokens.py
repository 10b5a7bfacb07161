"""Token arrays: every document tokenized once into the prepared cache, memory-mapped from then on.

Axes in comments: N documents, T tokens of all, B batch, L tokens of an item.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data import cache
from withheld.data.build import Progress
from withheld.data.source import Source, digest
from withheld.data.text import documents
from withheld.data.tokenizer import encode, end_of, pieces, start_of
from withheld.errors import InputError
from withheld.wording import plural

FORMAT = 1
AT_A_TIME = 2_000_000
"""Characters tokenized in one call."""


class Parted(NamedTuple):
    """How a document is parted, and the name of that way."""

    name: str
    into: Callable[[str], list[str]]


@dataclass
class Tokens:
    """Tokenized documents, back to back.

    Attributes:
        ids: (T,) numbers, each document between its special tokens.
        starts: (N + 1,) where each begins.
        characters, words: (N,) of the text, as white space parts words; what likelihoods are compared by.
        kept: (N,) position in the source. parts: (N,) "train", "test", "val", "" or None.
        skipped: {"file", "reason"}. fingerprint: of source and tokenizer.
    """

    ids: NDArray[Any]
    starts: NDArray[np.int64]
    characters: NDArray[np.int64]
    words: NDArray[np.int64]
    kept: NDArray[np.int64]
    parts: NDArray[Any] | None
    skipped: list[dict[str, str]]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.kept)

    def document(self, i: int) -> NDArray[Any]:
        """The tokens of one document."""
        return np.asarray(self.ids[self.starts[i] : self.starts[i + 1]])

    def part(self, name: str) -> Tokens | None:
        """The documents of "train", "test" or "val"; None where there are none."""
        if self.parts is None or not (self.parts == name).any():
            return None
        return dataclasses.replace(self.subset(self.parts == name), fingerprint=digest([self.fingerprint, name]))

    def subset(self, chosen_N: NDArray[np.bool_]) -> Tokens:
        """Some of the documents; the fingerprint stays that of all."""
        lengths = self.starts[1:] - self.starts[:-1]
        return dataclasses.replace(
            self, ids=self.ids if chosen_N.all() else self.ids[np.repeat(chosen_N, lengths)],
            starts=np.concatenate([[0], np.cumsum(lengths[chosen_N])]).astype(np.int64),
            characters=self.characters[chosen_N], words=self.words[chosen_N], kept=self.kept[chosen_N],
            parts=None if self.parts is None else self.parts[chosen_N],
        )  # fmt: skip


def prepare_tokens(
    source: Source,
    tokenizer: Any,
    progress: Progress | None = None,
    allow_bad: float = 0.2,
    parted: Parted | None = None,
) -> Tokens:
    """Tokenizes every document once into the cache, or finds it there.

    Args:
        source: the texts.
        tokenizer: a transformers fast tokenizer.
        progress: is told (done, total).
        allow_bad: share of the documents that may be unreadable.
        parted: what parts a document, such as into sentences, each of which then counts as one; with a name for the cache.

    Raises:
        InputError: where no document is good, or more than `allow_bad` cannot be read. CannotWrite: the cache.
    """
    facts = [source.fingerprint, FORMAT, tokenizer.backend_tokenizer.to_str()]
    fingerprint = digest(facts if parted is None else [*facts, parted.name])
    key = digest([fingerprint, source.stamp])[:32]
    with cache.locked(key) as entry:
        if not (entry / "prepared.json").is_file():
            with cache.filling(entry) as folder:
                _build(source, tokenizer, folder, progress, parted)
        else:
            cache.touch(entry)
        facts = json.loads((entry / "prepared.json").read_text(encoding="utf-8"))
        counts = np.load(entry / "counts.npy")
        ids = np.memmap(entry / "ids.bin", dtype=facts["type"], mode="r") if facts["tokens"] else np.zeros(0, np.uint16)
    skipped = source.left_out + facts["skipped"]
    good = len(np.unique(counts[:, 3]))
    source.check_readable("texts", good, len(source) - good, skipped, allow_bad)
    return Tokens(
        ids, np.concatenate([[0], np.cumsum(counts[:, 0])]).astype(np.int64), counts[:, 1], counts[:, 2], counts[:, 3],
        None if source.parts is None else source.parts[counts[:, 3]], skipped, fingerprint,
    )  # fmt: skip


def _kind_of(tokenizer: Any) -> type[np.uint16] | type[np.int32]:
    return np.uint16 if len(tokenizer) <= 1 << 16 else np.int32


def numbers_of(tokenizer: Any, texts: list[str]) -> list[NDArray[Any]]:
    """The tokens of every text, between its special ones."""
    start, end, kind = start_of(tokenizer), end_of(tokenizer), _kind_of(tokenizer)
    parts = [(place, piece) for place, text in enumerate(texts) for piece in pieces(text)]
    found: list[list[list[int]]] = [[] for _ in texts]
    for (place, _), ids in zip(parts, encode(tokenizer, [piece for _, piece in parts]), strict=True):
        found[place].append(ids)
    return [np.asarray([*start, *(token for part in several for token in part), *end], kind) for several in found]


def _build(source: Source, tokenizer: Any, folder: Path, progress: Progress | None, parted: Parted | None) -> None:
    kind = _kind_of(tokenizer)
    skipped: list[dict[str, str]] = []
    counts: list[tuple[int, int, int, int]] = []
    waiting: list[tuple[int, str]] = []
    total = size = 0
    with (folder / "ids.bin").open("wb") as file:

        def flush() -> None:
            nonlocal total
            for (position, text), ids in zip(
                waiting, numbers_of(tokenizer, [text for _, text in waiting]), strict=True
            ):
                file.write(ids.tobytes())
                counts.append((len(ids), len(text), len(text.split()), position))
                total += len(ids)
            waiting.clear()
            if progress is not None and counts:
                progress(counts[-1][3] + 1, len(source))

        for position, text in documents(source, skipped):
            waiting += [(position, part) for part in ([text] if parted is None else parted.into(text))]
            size += len(text)
            if size > AT_A_TIME:
                flush()
                size = 0
        flush()
    np.save(folder / "counts.npy", np.array(counts, np.int64).reshape(-1, 4))
    facts = {"tokens": total, "type": np.dtype(kind).name, "skipped": skipped}
    (folder / "prepared.json").write_text(json.dumps(facts), encoding="utf-8")
    for path in folder.iterdir():
        cache.sync(path)


def without_end(tokens: Tokens, share: float, least: int) -> tuple[Tokens, Tokens]:
    """The text without its end, and its end."""
    total = int(tokens.starts[-1])
    held = max(least, round(share * total))
    if held + least > total:
        raise InputError(
            f"the text has {plural(total, 'token')}: too few for blocks of {least - 1} to learn from and one to check with; give "
            "more text, or a smaller --size"
        )
    at = total - held
    return _range(tokens, 0, at), _range(tokens, at, total)


def _range(tokens: Tokens, start: int, stop: int) -> Tokens:
    inner = tokens.starts[(tokens.starts > start) & (tokens.starts < stop)]
    starts = np.concatenate([[start], inner, [stop]]).astype(np.int64) - start
    first = int(np.searchsorted(tokens.starts, start, side="right")) - 1
    at = np.arange(first, first + len(starts) - 1)
    return dataclasses.replace(
        tokens, ids=tokens.ids[start:stop], starts=starts, characters=tokens.characters[at], words=tokens.words[at],
        kept=tokens.kept[at], parts=None,
    )  # fmt: skip


class Blocks:
    """Documents packed back to back into blocks of equal length, no padding; what the loop asks for batches.

    A batch is a dict: "item" (B, L) int64 tokens, "document" (B, L) int64, which document a token belongs to, counted
    within the block, and "word" (B, L), which word, where the tokenizer says so.

    Args:
        tokens: the documents.
        length: L.
        overlap: tokens that a block shares with the one before it; 1 for next-token targets, which are one longer.
        continues: (V,) whether a token goes on with the word before it; None where words do not matter.
        streams: B contiguous streams for truncated back-propagation; then "first" (B,) tells where a stream begins.
    """

    def __init__(
        self,
        tokens: Tokens,
        length: int,
        overlap: int = 0,
        continues: NDArray[np.bool_] | None = None,
        streams: int = 0,
    ) -> None:
        self.tokens, self.length, self.overlap, self.continues = tokens, length, overlap, continues
        self.streams = streams
        self.stride = length - overlap
        self.count = (len(tokens.ids) - overlap) // self.stride
        if streams:
            self.count = self.count // streams * streams
        if self.count < max(1, streams):
            need = self.stride * max(1, streams) + overlap
            raise InputError(
                f"the text has {plural(len(tokens.ids), 'token')}, fewer than "
                f"{f'{streams} streams of' if streams else 'one block of'} "
                f"{length}: {need:,} are needed; give more text, a smaller --size"
                + (" or a smaller --batch-size" if streams else "")
            )

    def __len__(self) -> int:
        return self.count

    @property
    def steps(self) -> int:
        """Blocks of a stream."""
        return self.count // max(1, self.streams)

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> dict[str, Tensor]:
        """Blocks by number."""
        index = np.asarray(index)
        first = index * self.stride
        places = first[:, None] + np.arange(self.length)
        ids = self.tokens.ids[places].astype(np.int64)
        which = np.searchsorted(self.tokens.starts, places, side="right")
        found = {"item": ids, "document": which - which[:, :1]}
        if self.continues is not None:
            begins = ~self.continues[ids]
            begins |= np.diff(which, axis=1, prepend=which[:, :1] - 1) > 0
            found["word"] = begins.cumsum(axis=1)
        if self.streams:
            found["first"] = index % self.steps == 0
        return {name: torch.from_numpy(np.ascontiguousarray(part)).to(device) for name, part in found.items()}


def padded(rows: list[Any], pad: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Rows of different lengths as "item" and "mask" (True where real)."""
    longest = max(1, max((len(row) for row in rows), default=1))
    item = np.full((len(rows), longest), pad, np.int64)
    mask = np.zeros((len(rows), longest), bool)
    for i, row in enumerate(rows):
        item[i, : len(row)] = row
        mask[i, : len(row)] = True
    return {"item": torch.from_numpy(item).to(device), "mask": torch.from_numpy(mask).to(device)}
