"""Files nobody here made, at the speed a user may expect (with much room for a busy machine)."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from withheld.data.few import affordable, few_label_splits
from withheld.data.image import native_size
from withheld.data.prepared import Prepared, prepare
from withheld.data.source import Source, open_source


def prepared_within(source: Source, size: int, seconds: float) -> Prepared:
    """Prepares, and again from the cache at once."""
    started = time.monotonic()
    prepared = prepare(source, size)
    assert time.monotonic() - started < seconds
    started = time.monotonic()
    again = prepare(source, size)
    assert time.monotonic() - started < 2
    assert np.array_equal(again.images[:10], prepared.images[:10])
    return prepared


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx(name: str, shared_data: Path) -> None:
    source = open_source(shared_data / name, labels=True)
    assert native_size(source) == (28, 28)
    assert len(source.classes) == 10
    assert source.parts is not None
    train = source.part("train")
    assert train is not None
    prepared = prepared_within(train, 28, 30)
    assert prepared.images.shape == (len(train), 1, 28, 28)
    known = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}[name]
    assert (prepared.mean[0], prepared.std[0]) == pytest.approx(known, abs=1e-4)


def test_a_tar_of_many_small_photographs(shared_data: Path) -> None:
    source = open_source(shared_data / "cifar10-jpg", labels=True)
    assert source.kind == "tar"
    assert len(source.classes) == 10
    test = source.part("test")
    assert test is not None
    prepared = prepared_within(test.subset(np.arange(0, len(test), 4)), 32, 30)
    assert prepared.images.shape[1:] == (3, 32, 32)
    assert len(prepared.skipped) == 0


def test_a_folder_of_photographs(shared_data: Path) -> None:
    source = open_source(shared_data / "caltech-101-subset", labels=True)
    assert len(source.classes) == 100
    assert source.left_out == []
    prepared = prepared_within(source, 96, 60)
    assert prepared.images.shape == (len(source), 3, 96, 96)
    assert prepared.labels is not None
    assert affordable(prepared.labels, prepared.parts, [1, 10, 100])[0] == [1, 10]
    draws = few_label_splits(prepared.labels, prepared.parts, 10, 5)
    assert all(len(draw.train) == 1000 for draw in draws)


def test_frames_and_masks_of_videos(shared_data: Path) -> None:
    source = open_source(shared_data / "DAVIS-2016-val-subset" / "JPEGImages")
    assert native_size(source) == (480, 854)
    prepared = prepare(source.subset(np.arange(0, len(source), 20)), 64)
    assert prepared.images.shape[1:] == (3, 64, 64)
