"""The order of items at any size: every item once an epoch, whoever asks for which step."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from withheld.learn import schedule
from withheld.learn.schedule import Order, shards_for, shuffled


@pytest.mark.parametrize("items", [1, 2, 3, 5, 16, 17, 1000, 4096, 70_001])
def test_a_permutation_of_any_number(items: int) -> None:
    order = shuffled(np.arange(items), items, 3, 0)
    assert np.array_equal(np.sort(order), np.arange(items))
    other = shuffled(np.arange(items), items, 3, 1)
    assert items < 4 or not np.array_equal(order, other)


def test_it_is_as_random_as_a_shuffled_list() -> None:
    """Places of items, neighbors and parities: chi-square of 100 bins within what chance gives (p = 0.001 each)."""
    items = 100_000
    order = shuffled(np.arange(items), items, 7, 2)
    for counts in (
        np.histogram2d(np.arange(items), order, bins=10)[0],
        np.histogram2d(order[:-1], order[1:], bins=10)[0],
        np.histogram2d(np.arange(items) % 10, order % 10, bins=10)[0],
    ):
        expected = counts.sum() / counts.size
        assert ((counts - expected) ** 2 / expected).sum() < 148.2  # 99 degrees of freedom
    assert abs(np.corrcoef(np.arange(items), order)[0, 1]) < 0.015


def test_a_trillion_items_take_no_memory() -> None:
    order = Order(10**12, 4096, seed=1)
    tracemalloc.start()
    first, late = order.step(0), order.step(244_140_624)  # the last batch that begins in the first epoch
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    assert len(np.unique(np.concatenate([first, late]))) == 8192
    assert first.max() < 10**12
    assert first.min() >= 0
    assert first.max() > 9 * 10**11
    assert np.array_equal(order.step(17), Order(10**12, 4096, seed=1).step(17))


def test_epochs_of_many_items_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MANY", 100)
    order = Order(1003, 64, seed=5)
    seen = np.concatenate([order.step(step) for step in range(48)])[: 3 * 1003]
    for epoch in range(3):
        assert np.array_equal(np.sort(seen[epoch * 1003 : (epoch + 1) * 1003]), np.arange(1003))


@pytest.mark.promise("R15", "sharding for 4,096 ranks, by simulation")
@pytest.mark.parametrize("ranks", [1, 8, 1024, 4096])
def test_ranks_share_a_batch_without_gap_or_overlap(ranks: int) -> None:
    batch = 16_384
    shards = shards_for(batch, max(8, ranks))
    assert shards % ranks == 0
    index = Order(10**9, batch, seed=2).step(12_345)
    each, mine = batch // shards, shards // ranks
    parts = [index[rank * mine * each : (rank + 1) * mine * each] for rank in range(ranks)]
    assert np.array_equal(np.concatenate(parts), index)
    assert len(np.unique(index)) == batch
