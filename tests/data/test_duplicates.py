"""Near-duplicates: copies are found, look-alikes are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_files import photo

from withheld.data import duplicates
from withheld.data.duplicates import copies_each, grouped, hashes, matching, near_duplicates, thumbnails
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.modalities.image import Images

PICTURES = np.stack([photo(i, 64, 64).transpose(2, 0, 1) for i in range(40)])


def changed(picture: np.ndarray, kind: str) -> np.ndarray:
    """The same picture saved in another way."""
    image = Image.fromarray(picture.transpose(1, 2, 0))
    if kind == "compressed":
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=60)
        image = Image.open(stream)
    elif kind == "smaller":
        image = image.resize((40, 40), Image.Resampling.BILINEAR).resize((64, 64), Image.Resampling.BILINEAR)
    else:
        image = image.point(lambda value: min(255, int(value * 1.1)))
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("sizes", "sample"),
    [
        ([1] * 2000, 2000),
        ([1] * 1800 + [200], 2000),  # one blank image in ten
        ([1] * 19_800 + [200], 2048),
        ([10] * 2000, 2048),
        ([2] * 10_000, 2048),
        ([30] * 100, 2048),
        ([1] * 190_000 + [10_000], 20_000),
        ([1] * 1_278_000 + [2] * 1000, 2048),
        ([4000], 2048),
    ],
)
def test_copies_each_is_by_how_many_items_are_more_than_those_that_differ(sizes: list[int], sample: int) -> None:
    group, true = np.repeat(np.arange(len(sizes)), sizes), sum(sizes) / len(sizes) - 1
    found = []
    for seed in range(20):
        chosen = np.random.default_rng(seed).permutation(len(group))[:sample]
        found.append(copies_each(np.unique(group[chosen], return_inverse=True)[1], len(group)))
    assert np.median(found) == pytest.approx(true, rel=0.25, abs=0.02)
    assert max(found) < 1.5 * true + 0.1  # no sample calls a healthy set sick


def test_of_few_pairs_the_least_that_is_likely_is_taken() -> None:
    """Of one pair by chance: a mean of -log(0.95), where none would be met 95 times in 100."""
    found = copies_each(np.append(np.arange(19), 0), 40)  # 20 of 40 items
    assert found == pytest.approx(2 * -np.log(0.95) / 20 / 0.5, rel=1e-9)


def test_who_is_near_whom_is_one_group() -> None:
    assert grouped(np.array([[0, 3], [3, 4]]), 6).tolist() == [0, 1, 2, 0, 0, 3]
    assert len(set(grouped(np.empty((0, 2), np.int64), 4).tolist())) == 4


def test_copies_are_found() -> None:
    for kind in ("compressed", "smaller", "lighter"):
        copies = np.stack([changed(picture, kind) for picture in PICTURES])
        pairs = near_duplicates(PICTURES, copies)
        assert (pairs[:, 0] == pairs[:, 1]).all()
        assert len(pairs) >= 36


def test_pairs_within_one_set() -> None:
    images = np.concatenate([PICTURES, PICTURES[[7, 3]]])
    assert near_duplicates(images).tolist() == [[3, 41], [7, 40]]
    assert near_duplicates(images, PICTURES[:0]).shape == (0, 2)
    assert near_duplicates(PICTURES[:0]).shape == (0, 2)


def test_flat_images_match_by_lightness() -> None:
    flat = np.repeat(np.array([0, 0, 90, 255], np.uint8), 3 * 16).reshape(4, 3, 4, 4)
    assert near_duplicates(flat).tolist() == [[0, 1]]


def test_many_equal_images_end_at_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 1000)
    assert len(matching(np.zeros((200, 8, 8), np.uint8))) == 1000


def test_hashes_differ_by_what_they_should() -> None:
    ramp = np.tile(np.arange(0, 252, 7, dtype=np.uint8)[:32], (1, 32, 1))
    assert hashes(ramp)[0] == np.uint64(2**64 - 1)
    assert hashes(ramp[:, :, ::-1])[0] == 0
    assert thumbnails(PICTURES).shape == (40, 32, 32)


def test_digits_that_look_alike_are_not_called_duplicates(shared_data: Path) -> None:
    prepared = prepare(open_source(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz"), 28)
    pairs = near_duplicates(prepared.images[:1000], prepared.images[1000:3000])
    assert len(pairs) <= 5


def test_one_blank_image_in_ten_makes_no_copies_of_the_others() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1000, 3, 8, 8), dtype=np.uint8).repeat(2, 2).repeat(2, 3)
    images[::10] = 255
    run = object.__new__(type("Prepared", (Images,), {"windows": None}))
    run.prepared = type("Some", (), {"images": images, "__len__": lambda self: 1000})()
    assert run.copies() == pytest.approx(99 / 901)
