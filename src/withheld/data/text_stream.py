"""Blocks of texts that are tokenized and packed on the way, window by window.

Axes: M windows, T tokens of a window, B batch, L tokens of a block.

How many blocks a window gives is known when it has been tokenized, and the order of a run must be known before. So a window has as
many places as a sample says that it will have blocks, and a place shows, epoch after epoch, the blocks of its window in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data import windows as limits
from withheld.data.broken import KEPT
from withheld.data.build import Progress
from withheld.data.sample import spread
from withheld.data.source import digest
from withheld.data.text_shards import Corpus
from withheld.data.tokens import Blocks, Tokens, numbers_of
from withheld.data.windows import Held, Windows
from withheld.errors import InputError

FORMAT = 1
SAMPLED = 16
"""Windows, spread evenly, whose beginnings tell how many tokens a byte makes, and are the tokenizer's sample."""
SAMPLED_CHARACTERS = 200_000
"""Of each of them, tokenized to tell that."""
SET_ASIDE = 256
"""Blocks that are never learned from, at most."""
MIXED = 1 / 16
"""Share of what may be held that blocks are mixed within: a run begins when so much is tokenized."""
CHARACTERS_AT_ONCE = 500_000
ALLOWED_BAD = 0.2
Block = dict[str, Tensor]
Window = tuple[Blocks | None, dict[str, str]]


@dataclass
class Plan:
    """What a sample tells of a corpus before it is read.

    Attributes:
        places: (M,) blocks of every window, about; at least 1.
        aside: of some windows, how many of their first tokens are never learned from.
        sample: the documents that it was told from. trial: those set aside.
        texts, tokens: of all, about.
        skipped: name to reason, of what the sample met.
    """

    places: NDArray[np.int64]
    aside: dict[int, int]
    sample: Tokens
    trial: Tokens
    texts: int
    tokens: int
    skipped: dict[str, str] = field(default_factory=dict)


def sampled(corpus: Corpus) -> list[int]:
    """The windows of the sample: the first, the last, and some between them."""
    return spread(len(corpus), SAMPLED).tolist()


def beginnings(corpus: Corpus, characters: int) -> Iterator[str]:
    """The first documents of every window of the sample, so many characters in all at most."""
    chosen = sampled(corpus)
    each = characters // len(chosen)
    for window in chosen:
        left = each
        for text in corpus.documents(window, {}):
            yield text[:left]
            left -= len(text)
            if left <= 0:
                break


def make_plan(corpus: Corpus, tokenizer: Any, length: int, overlap: int, progress: Progress | None = None) -> Plan:
    """Reads the windows of the sample and tokenizes how they begin.

    Args:
        corpus: the texts. tokenizer: a transformers fast tokenizer.
        length: tokens of a block, `overlap` of which it shares with the one before it.
        progress: is told (done, total).

    Raises:
        InputError: where no text can be read, too many cannot, or there is too little.
    """
    chosen = sampled(corpus)
    skipped: dict[str, str] = {}
    found = []
    for number, window in enumerate(chosen):
        found.append(_look(corpus, window, tokenizer, skipped))
        if progress is not None:
            progress(number + 1, len(chosen))
    texts = sum(one.texts for one in found)
    broken = sum(not reason.startswith(KEPT) for reason in skipped.values())
    if broken > ALLOWED_BAD * (texts + broken) or not texts:
        shown = "\n".join(f"  {name!r}: {reason}" for name, reason in list(skipped.items())[:5])
        raise InputError(
            f"{broken:,} of {texts + broken:,} texts looked at under {corpus.location} cannot be read; the first:\n{shown}"
        )
    looked_at = float(corpus.sizes[chosen].sum())
    expected = [one.expected for one in found]
    rate = sum(expected) / max(1.0, looked_at)
    stride, total = length - overlap, rate * float(corpus.sizes.sum())
    if total < 2 * length:
        raise InputError(
            f"the text has about {total:,.0f} tokens: too few for blocks of {length} to learn from and one to check with; give "
            "more text, or a smaller --size"
        )
    each = -(-max(length, min(SET_ASIDE * length, round(total / 100))) // len(chosen))
    aside = {window: _aside(one, each) for window, one in zip(chosen, found, strict=True)}
    if sum(aside.values()) < length:  # the first windows are far smaller than a block
        aside = {window: _aside(one, length) for window, one in zip(chosen, found, strict=True)}
    tokens = rate * corpus.sizes
    for window, count in aside.items():
        tokens[window] = max(0.0, tokens[window] - count)
    return Plan(
        np.maximum(1, (tokens / stride).astype(np.int64)), {w: n for w, n in aside.items() if n},
        _joined([one.ids for one in found], [one.starts for one in found], None),
        _joined([one.ids for one in found], [one.starts for one in found], list(aside.values())),
        round(texts * float(corpus.sizes.sum()) / max(1.0, looked_at)), round(total), skipped,
    )  # fmt: skip


@dataclass
class _Looked:
    """How a window begins: its first tokens, where documents begin in them (and the end), texts and tokens of the window."""

    ids: NDArray[Any]
    starts: NDArray[np.int64]
    texts: int
    expected: float


def _look(corpus: Corpus, window: int, tokenizer: Any, skipped: dict[str, str]) -> _Looked:
    first: list[str] = []
    texts = characters = taken = 0
    for text in corpus.documents(window, skipped):
        if taken < SAMPLED_CHARACTERS:
            first.append(text)
            taken += len(text)
        texts += 1
        characters += len(text)
    rows = [row for some in _portions(first) for row in numbers_of(tokenizer, some)]
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    ids = np.concatenate(rows) if rows else np.zeros(0, np.int32)
    return _Looked(ids, starts, texts, len(ids) * characters / max(1, taken))


def _aside(one: _Looked, wanted: int) -> int:
    """First tokens of a window that are set aside: whole documents where these are no more than half of it."""
    most = min(len(one.ids), int(one.expected / 2))
    ends = one.starts[1:]
    whole = ends[ends <= most]
    enough = whole[whole >= wanted]
    return int(enough[0]) if len(enough) else int(whole[-1]) if len(whole) else min(wanted, most)


def _joined(ids: list[NDArray[Any]], starts: list[NDArray[np.int64]], counts: list[int] | None) -> Tokens:
    """The first tokens of several windows, one after the other."""
    parts, begins, at = [], [], 0
    for number, (some, bounds) in enumerate(zip(ids, starts, strict=True)):
        count = len(some) if counts is None else counts[number]
        parts.append(some[:count])
        begins += [at + int(b) for b in bounds[bounds < count]]
        at += count
    return _tokens(np.concatenate(parts), np.array([*begins, at], np.int64))


def _tokens(ids: NDArray[Any], starts: NDArray[np.int64]) -> Tokens:
    nothing = np.zeros(len(starts) - 1, np.int64)
    return Tokens(ids, starts, nothing, nothing, nothing, None, [], "")


def _portions(texts: Any) -> Iterator[list[str]]:
    """Texts in lists of some `CHARACTERS_AT_ONCE`."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= CHARACTERS_AT_ONCE:
            yield held
            held, size = [], 0
    if held:
        yield held


def pack(texts: Any, tokenizer: Any, aside: int = 0) -> Tokens:
    """Tokens of the documents of a window, back to back, without so many of its first."""
    rows = [row for some in _portions(texts) for row in numbers_of(tokenizer, some)]
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    ids = np.concatenate(rows)[aside:] if rows else np.zeros(0, np.int32)
    inner = starts[starts > aside] - aside
    return _tokens(ids, np.concatenate([[0], inner]) if len(ids) else np.zeros(1, np.int64))


class _Packed(Held):
    """Windows of a corpus as blocks, None where one has too few tokens for any; and what of each could not be read."""

    def __init__(self, stream: BlockStream, windows: Windows) -> None:
        super().__init__(lambda positions: iter(()), windows)
        self.stream = stream

    def contents(self, number: int) -> Window:
        return self.stream.blocks_of(number)

    def weight(self, items: Window) -> int:
        blocks, bad = items
        packed = 0 if blocks is None else blocks.tokens.ids.nbytes + blocks.tokens.starts.nbytes
        return packed + limits.ROW_BYTES * (1 + len(bad))


class BlockStream:
    """Blocks of a corpus by number, batches as those of `Blocks`; what the loop asks for batches.

    A number is that of a place plus, for every epoch before, `len(self)`: of n places of a window that has b blocks, place k shows
    block (k + epoch n) mod b, so that all its blocks are seen equally often, whatever the sample said of it. What a window has left
    behind its last whole block is left out. A window without a block shows those of the next that has some.

    Args:
        corpus: the texts. plan: of them. tokenizer: a transformers fast tokenizer.
        length, overlap, continues: see `Blocks`.

    Attributes:
        skipped: name to reason, of documents that were met so far.
    """

    def __init__(
        self, corpus: Corpus, plan: Plan, tokenizer: Any, length: int, overlap: int = 0,
        continues: NDArray[np.bool_] | None = None,
    ) -> None:  # fmt: skip
        self.corpus, self.plan, self.tokenizer = corpus, plan, tokenizer
        self.length, self.overlap, self.continues = length, overlap, continues
        places = plan.places
        self.read_in = Windows(np.cumsum(places) - places, places, float(corpus.sizes.mean()), MIXED)
        self.skipped = dict(plan.skipped)
        self.held = _Packed(self, self.read_in)
        self.period = len(self)

    def __len__(self) -> int:
        return self.read_in.count

    @property
    def fingerprint(self) -> str:
        """Of all that the order and the contents of blocks hang on."""
        laid = self.plan.places.tobytes(), repr(sorted(self.plan.aside.items())), limits.HELD_BYTES, MIXED
        kind = self.tokenizer.backend_tokenizer.to_str()
        return digest(
            [self.corpus.fingerprint, "blocks on the way", FORMAT, kind, self.length, self.overlap, *map(str, laid)]
        )

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> Block:
        """Blocks by number."""
        epochs, places = np.divmod(np.asarray(index), len(self))
        windows = self.read_in.of(places)
        found: list[Block] = []
        order: list[NDArray[np.int64]] = []
        for window in dict.fromkeys(windows.tolist()):
            mine = np.flatnonzero(windows == window)
            within = places[mine] - self.read_in.starts[window] + epochs[mine] * self.read_in.rows[window]
            blocks = self._some(int(window))
            found.append(blocks.batch(within % len(blocks), "cpu"))
            order.append(mine)
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return {name: torch.cat([one[name] for one in found])[back].to(device) for name in found[0]}

    def expect(self, index: NDArray[np.int64]) -> None:
        """Reads, tokenizes and packs ahead the windows of these places, which are asked for next, in this order."""
        self.held.expect(index % len(self))

    def rest(self) -> None:
        """Ends reading ahead."""
        self.held.rest()

    def blocks_of(self, window: int) -> Window:
        """The blocks of a window, read now, None where it has none; and name to reason of what could not be read."""
        bad: dict[str, str] = {}
        tokens = pack(self.corpus.documents(window, bad), self.tokenizer, self.plan.aside.get(window, 0))
        enough = len(tokens.ids) >= self.length
        return Blocks(tokens, self.length, self.overlap, self.continues) if enough else None, bad

    def _some(self, window: int) -> Blocks:
        """Those of a window or, where it has none, of the next that has."""
        for step in range(min(1000, len(self.corpus))):
            found: Window = self.held.window((window + step) % len(self.corpus))
            blocks, bad = found
            self.skipped.update(bad)  # here, and not by who reads ahead: what is listed hangs on the step alone
            if blocks is not None:
                return blocks
        raise InputError(
            f"{self.corpus.location}: 1,000 windows in a row have no block of {self.length} tokens, from {window} on; check them"
        )
