"""Near-duplicates: copies are found, look-alikes are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_files import photo

from withheld.data import duplicates
from withheld.data.duplicates import hashes, matching, near_duplicates, thumbnails
from withheld.data.prepared import prepare
from withheld.data.source import open_source

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
