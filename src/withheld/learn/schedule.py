"""Which items a step sees, and which random numbers: pure functions of (seed, step), so resuming needs one integer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from withheld.data.windows import Windows
from withheld.errors import InputError
from withheld.types import Recipe

MANY = 1 << 27
"""Items from which on a shuffled epoch is computed place by place: a list of them would take a gigabyte in every process."""
ROUNDS = 6
WINDOW = 64
"""Batches whose items are sorted together by length."""


class Items(Protocol):
    """What the loop learns from: batches of items by number."""

    def __len__(self) -> int: ...

    def batch(self, index: np.ndarray, device: torch.device) -> Any:
        """The items t of these numbers, on the device."""


@runtime_checkable
class Ragged(Protocol):
    """Items of different lengths: batches of like length are padded least."""

    @property
    def lengths(self) -> np.ndarray:
        """(n,) of every item."""


@runtime_checkable
class InWindows(Protocol):
    """Items that may have to be read window by window."""

    @property
    def read_in(self) -> Windows | None:
        """Windows of the items' numbers; None where they are read in any order. Not `windows`: of clips those are items."""

    def expect(self, index: np.ndarray) -> None:
        """Reads ahead, beside what the caller does, the windows of these items, which are needed next, in this order."""

    def rest(self) -> None:
        """Ends reading ahead."""


def order_of(items: Items, recipe: Recipe, seed: int, shards: int) -> Order | Streams | Windowed:
    """The order that a recipe wants and that the items can be read in."""
    if recipe.order == "streams":
        return Streams(len(items), recipe.batch_size)
    windows = items.read_in if isinstance(items, InWindows) else None
    if windows is not None:
        period = getattr(items, "period", 0)
        return Windowed(windows.starts, windows.rows, windows.together(shards), recipe.batch_size, seed, shards, period)
    return Order(len(items), recipe.batch_size, seed, items.lengths if isinstance(items, Ragged) else None)


def shards_for(batch_size: int, wanted: int = 8, least: int = 1) -> int:
    """The largest power of two up to `wanted` that divides the batch into parts of at least `least` items.

    Raises:
        InputError: where the whole batch has fewer.
    """
    if batch_size < least:
        raise InputError(f"--batch-size {batch_size}: items of a batch exchange parts here: give at least {least}")
    shards = 1
    while shards * 2 <= wanted and batch_size % (shards * 2) == 0 and batch_size // (shards * 2) >= least:
        shards *= 2
    return shards


class Order:
    """The items of every step: shuffled epochs laid end to end and cut into batches, so that no batch is short.

    Args:
        items: how many there are.
        batch_size: of one optimizer step over all ranks.
        seed: of the shuffling.
        lengths: (items,) of ragged items: a batch then holds items of like length, so that little of it is padding. Of every
            `WINDOW` shuffled batches the items are sorted, cut into batches, and the batches shuffled.
    """

    def __init__(self, items: int, batch_size: int, seed: int, lengths: np.ndarray | None = None) -> None:
        self.items, self.batch_size, self.seed, self.lengths = items, batch_size, seed, lengths
        self._epochs: dict[int, np.ndarray] = {}

    def step(self, step: int) -> np.ndarray:
        """The (batch_size,) item numbers of a step."""
        first = step * self.batch_size
        place = np.arange(first, first + self.batch_size)
        epochs, within = np.divmod(place, self.items)
        if self.items >= MANY and self.lengths is None:
            return np.concatenate(
                [shuffled(within[epochs == epoch], self.items, self.seed, int(epoch)) for epoch in np.unique(epochs)]
            )
        if epochs[0] == epochs[-1]:
            return self._epoch(int(epochs[0]))[within]
        return np.concatenate([self._epoch(int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)])

    def epoch_of(self, step: int) -> float:
        """How many times every item has been seen before a step."""
        return step * self.batch_size / self.items

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            self._epochs = {e: order for e, order in self._epochs.items() if e == epoch - 1}
            generator = np.random.default_rng([self.seed, epoch])
            order = generator.permutation(self.items)
            self._epochs[epoch] = order if self.lengths is None else self._alike(order, epoch, generator)
        return self._epochs[epoch]

    def _alike(self, order: np.ndarray, epoch: int, generator: np.random.Generator) -> np.ndarray:
        """The same items; those that fall into one whole batch of this epoch are of like length."""
        assert self.lengths is not None  # noqa: S101 - asked for by the caller
        B = self.batch_size
        first = -epoch * self.items % B  # the epoch before ends within a batch
        whole = (self.items - first) // B
        parts = [order[:first]]
        for start in range(0, max(0, whole), WINDOW):
            some = order[first + start * B : first + min(whole, start + WINDOW) * B]
            batches = some[np.argsort(self.lengths[some], kind="stable")].reshape(-1, B)
            parts.append(batches[generator.permutation(len(batches))].reshape(-1))
        return np.concatenate([*parts, order[first + max(0, whole) * B :]])


def shuffled(place: np.ndarray, items: int, *seeds: int) -> np.ndarray:
    """The items at some places of a shuffled epoch, without a list of the others.

    A Feistel network over the next power of four, walked until it is an item (Black and Rogaway 2002, Ciphers with arbitrary finite
    domains): a permutation of any number of items, in memory for the places asked for only.

    Args:
        place: (n,) from 0 on. items: how many there are, up to 2^62. seeds: each gives another order.
    """
    half = np.uint64(((items - 1).bit_length() + 1) // 2 or 1)
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = np.random.SeedSequence(seeds).generate_state(ROUNDS, np.uint64)
    found = place.astype(np.uint64)
    outside = np.ones(len(found), bool)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        found[outside] = left << half | right
        outside = found >= np.uint64(items)
    return found.astype(np.int64)


def _mixed(value: np.ndarray) -> np.ndarray:
    """Every bit of the answer hangs on every bit asked (splitmix64, Steele, Lea and Flood 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class Windowed:
    """The items of every step of a source that is read window by window, when it is too large to be read in any order.

    The windows are shuffled, a few at a time are laid together and their items shuffled: that is an epoch. Each shard of the batch
    goes through a share of it of its own, epochs laid end to end, so that ranks read different windows. All of it follows from
    (seed, epoch): nothing is buffered, and nothing has to be saved.

    Args:
        starts: (M,) number of the first item of every window. rows: (M,) how many follow each other from there.
        together: windows that a shard draws from at once.
        batch_size: of one optimizer step over all ranks.
        seed: of the shuffling.
        shards: of the batch. Items that they cannot share evenly, fewer than there are shards, sit an epoch out, others each time.
        period: is added to the numbers of each next epoch, for items that hang on it.
    """

    def __init__(
        self,
        starts: np.ndarray,
        rows: np.ndarray,
        together: int,
        batch_size: int,
        seed: int,
        shards: int,
        period: int = 0,
    ) -> None:
        self.starts, self.rows, self.together, self.period = starts, rows, together, period
        self.batch_size, self.seed, self.shards = batch_size, seed, shards
        self.items = int(rows.sum())
        self.each = max(1, self.items // shards)
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._groups: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def step(self, step: int) -> np.ndarray:
        """The (batch_size,) item numbers of a step, shard after shard."""
        some = self.batch_size // self.shards
        epochs, within = np.divmod(np.arange(step * some, (step + 1) * some), self.each)
        return np.concatenate(
            [
                self._at(int(epoch), (shard * self.each + within[epochs == epoch]) % self.items) + epoch * self.period
                for shard in range(self.shards)
                for epoch in np.unique(epochs)
            ]
        )

    def epoch_of(self, step: int) -> float:
        """How many times every item has been seen before a step."""
        return step * (self.batch_size // self.shards) / self.each

    def ahead(self, step: int, shards: Iterable[int]) -> np.ndarray:
        """First items of the windows that some shards of the batch draw from in a step and in their next group, those needed first
        in front.
        """
        some = self.batch_size // self.shards
        found: list[tuple[int, np.ndarray]] = []
        for shard in shards:
            epoch, within = divmod(step * some, self.each)
            away = 0
            while True:
                order, ends = self._epoch(epoch)
                place = (shard * self.each + within) % self.items
                group = int(np.searchsorted(ends, place, side="right"))
                found.append((away, self.starts[order[group * self.together : (group + 1) * self.together]]))
                if away >= some:
                    break
                left = min(int(ends[group]) - place, self.each - within)
                away, within = away + left, within + left
                if within == self.each:
                    epoch, within = epoch + 1, 0
        found.sort(key=lambda one: one[0])
        return np.concatenate([starts for _, starts in found])

    def _at(self, epoch: int, place: np.ndarray) -> np.ndarray:
        """The items at some places of an epoch."""
        _, ends = self._epoch(epoch)
        groups = np.searchsorted(ends, place, side="right")
        found = np.empty(len(place), np.int64)
        for group in np.unique(groups):
            here = groups == group
            items = self._group(epoch, int(group))
            found[here] = items[place[here] - (int(ends[group]) - len(items))]
        return found

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows in the order of an epoch, and where each group of them ends."""
        if epoch not in self._epochs:
            self._epochs = {e: order for e, order in self._epochs.items() if e == epoch - 1}
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
            ends = np.cumsum(self.rows[order])
            last = np.minimum(np.arange(self.together, len(order) + self.together, self.together), len(order)) - 1
            self._epochs[epoch] = order, ends[last]
        return self._epochs[epoch]

    def _group(self, epoch: int, group: int) -> np.ndarray:
        """Items of the windows that are laid together, shuffled."""
        key = epoch, group
        if key not in self._groups:
            windows = self._epoch(epoch)[0][group * self.together : (group + 1) * self.together]
            items = np.concatenate([np.arange(self.starts[w], self.starts[w] + self.rows[w]) for w in windows])
            # a seed sequence is filled up with zeros: (seed, epoch, 0) would be (seed, epoch)
            self._groups[key] = np.random.default_rng([self.seed, epoch, group + 1]).permutation(items)
            if len(self._groups) > 2 * self.shards + 2:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


class Streams:
    """The items of every step where order matters: item i is block i % n of stream i // n, of which there are B.

    Args:
        items: B times n.
        batch_size: B.
    """

    def __init__(self, items: int, batch_size: int) -> None:
        self.batch_size, self.each = batch_size, max(1, items // batch_size)

    def step(self, step: int) -> np.ndarray:
        """The (batch_size,) item numbers of a step: the next block of every stream."""
        return np.arange(self.batch_size) * self.each + step % self.each

    def epoch_of(self, step: int) -> float:
        """How many times every item has been seen before a step."""
        return step / self.each


def seed_everything(*numbers: int) -> None:
    """Seeds torch's global generators from a few numbers, such as (seed, step, shard).

    Only of devices in use: `torch.manual_seed` formats a stack trace for every absent one, at every call.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
