"""The order of a stream: compared with a naive enumeration, complete, without gaps over resumes and ranks."""

from __future__ import annotations

import numpy as np
import pytest

from withheld.data.clips import ClipItems, find_windows, prepare_clips
from withheld.data.video import open_videos
from withheld.learn.schedule import Order, Windowed, order_of
from withheld.types import Recipe

ROWS = np.array([7, 3, 11, 1, 8, 5, 9, 2, 6, 10])
STARTS = np.array([0, 7, 12, 23, 24, 40, 45, 54, 60, 66])  # rows between them belong to nobody
ITEMS = {i for start, rows in zip(STARTS, ROWS, strict=True) for i in range(start, start + rows)}


def naive_epoch(seed: int, epoch: int, together: int) -> list[int]:
    """As the docstring says: shuffle windows, lay a few together, shuffle what is in them."""
    order = list(np.random.default_rng([seed, epoch]).permutation(len(ROWS)))
    found: list[int] = []
    group = 0
    while order:
        some, order = order[:together], order[together:]
        items = [i for w in some for i in range(STARTS[w], STARTS[w] + ROWS[w])]
        group += 1
        found += [int(i) for i in np.random.default_rng([seed, epoch, group]).permutation(items)]
    return found


def naive_steps(seed: int, steps: int, batch: int, shards: int, together: int) -> list[list[int]]:
    each = len(ITEMS) // shards
    streams: list[list[int]] = [[] for _ in range(shards)]
    for epoch in range(steps * batch // len(ITEMS) + 2):
        order = naive_epoch(seed, epoch, together)
        for shard in range(shards):
            streams[shard] += order[shard * each : (shard + 1) * each]
    some = batch // shards
    return [[i for stream in streams for i in stream[s * some : (s + 1) * some]] for s in range(steps)]


@pytest.mark.parametrize("together", [1, 3, 20])
@pytest.mark.parametrize(("batch", "shards"), [(8, 8), (16, 4), (12, 1), (64, 2)])
def test_the_order_is_the_naive_one(batch: int, shards: int, together: int) -> None:
    order = Windowed(STARTS, ROWS, together, batch, 5, shards)
    assert [order.step(s).tolist() for s in range(40)] == naive_steps(5, 40, batch, shards, together)


def test_a_step_needs_no_steps_before_it() -> None:
    """A fresh order, asked for any step in any sequence, says what one that ran through says."""
    whole = Windowed(STARTS, ROWS, 2, 8, 3, 4)
    steps = [whole.step(s).tolist() for s in range(60)]
    for s in (59, 0, 31, 7, 58):
        assert Windowed(STARTS, ROWS, 2, 8, 3, 4).step(s).tolist() == steps[s]
    again = Windowed(STARTS, ROWS, 2, 8, 3, 4)
    assert all(again.step(s).tolist() == steps[s] for s in np.random.default_rng(0).permutation(60))


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_an_epoch_has_every_item_once(shards: int) -> None:
    each = len(ITEMS) // shards
    order = Windowed(STARTS, ROWS, 2, shards, 0, shards)  # one item of every shard a step
    for epoch in range(3):
        seen = np.concatenate([order.step(epoch * each + s) for s in range(each)]).tolist()
        assert len(seen) == len(set(seen)) == len(ITEMS) - len(ITEMS) % shards
        assert set(seen) <= ITEMS
    assert order.epoch_of(each) == 1
    assert order.step(0).tolist() != order.step(each).tolist()  # another epoch, another order
    assert Windowed(STARTS, ROWS, 2, shards, 1, shards).step(0).tolist() != order.step(0).tolist()


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_read_other_windows_than_each_other(ranks: int) -> None:
    """A window lies in the shares of two shards only where one ends and the next begins."""
    rows = np.full(800, 50)
    starts = np.cumsum(rows) - rows
    order = Windowed(starts, rows, 4, 64, 0, 8)
    read: list[set[int]] = [set() for _ in range(ranks)]
    for s in range(order.each // 8):
        for rank, index in enumerate(order.step(s).reshape(ranks, -1)):
            read[rank] |= set((index // 50).tolist())
    assert sum(map(len, read)) <= 800 + 4 * (ranks - 1)
    assert len(set.union(*read)) == 800


def test_only_a_few_windows_are_open_at_a_time() -> None:
    rows = np.full(400, 20)
    order = Windowed(np.cumsum(rows) - rows, rows, 3, 32, 0, 8)
    for s in range(order.each // 4):
        assert len(np.unique(order.step(s) // 20)) <= 8 * 3 * 2


def test_fewer_items_than_shards() -> None:
    order = Windowed(np.array([0]), np.array([3]), 1, 8, 0, 8)
    assert set(order.step(0).tolist()) == {0, 1, 2}


def test_windows_of_clips_are_items_and_no_order() -> None:
    clips = prepare_clips(
        open_videos([np.random.default_rng(i).integers(0, 256, (12, 32, 32, 3), np.uint8) for i in (1, 2)]), 16
    )
    items = ClipItems(clips, find_windows(clips, 4, 0.0), 4, [0.0] * 3, [1.0] * 3)
    assert len(items.windows) > 4
    assert isinstance(order_of(items, Recipe(batch_size=2), seed=0, shards=1), Order)
