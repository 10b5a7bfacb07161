"""Features of the same items by the same weights are computed once, and of anything else anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_vit import tiny_encoder

from withheld.evaluate.features import features
from withheld.evaluate.kept import FEWEST, FIRST, kept_features


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prepared"


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FEWEST + 10, 1, 8, 8), dtype=np.uint8)


def computed(encoder, items, monkeypatch) -> tuple[np.ndarray, int]:
    """Features, and how many items the network saw for them."""
    seen: list[int] = []
    transform = type(encoder).transform
    with monkeypatch.context() as patch:
        patch.setattr(type(encoder), "transform", lambda self, some: seen.append(len(some)) or transform(self, some))
        found = kept_features(encoder, items)
    return found, sum(seen)


def test_the_second_time_only_the_first_items_are_computed(images, monkeypatch, cache):
    encoder = tiny_encoder()
    one, cost = computed(encoder, images, monkeypatch)
    again, less = computed(encoder, images, monkeypatch)
    np.testing.assert_array_equal(one, features(encoder, images))
    np.testing.assert_array_equal(one, again)
    assert (cost, less) == (len(images) + FIRST, FIRST)
    assert next(path.name for path in cache.iterdir() if path.is_dir()).startswith("features-")


def test_what_differs_is_computed(images, monkeypatch):
    encoder = tiny_encoder()
    kept_features(encoder, images)
    other = images.copy()
    other[-1, 0, 0, 0] ^= 1
    assert computed(encoder, other, monkeypatch)[1] > FIRST
    encoder.mean = [0.4]  # fed otherwise, with the same weights
    assert computed(encoder, images, monkeypatch)[1] > FIRST
    trained = tiny_encoder()
    next(trained.parameters()).data.add_(1e-3)
    assert computed(trained, images, monkeypatch)[1] > FIRST


def test_damage_is_noticed(images, monkeypatch, cache):
    encoder = tiny_encoder()
    whole = kept_features(encoder, images)
    path = next(cache.glob("features-*/features.npy"))
    contents = bytearray(path.read_bytes())
    for damaged in (contents[:-40], contents[:-9] + bytes([contents[-9] ^ 1]) + contents[-8:], b""):
        path.write_bytes(damaged)
        found, cost = computed(encoder, images, monkeypatch)
        assert cost > FIRST
        np.testing.assert_array_equal(found, whole)
        assert computed(encoder, images, monkeypatch)[1] == FIRST  # written anew


def test_a_cache_that_cannot_be_written_costs_the_time_only(images, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "file"))
    found, _ = computed(tiny_encoder(), images, monkeypatch)
    assert np.isfinite(found).all()


def test_few_items_and_strange_encoders_are_not_kept(images, cache):
    class Sums:
        def transform(self, some):
            return some.reshape(len(some), -1).sum(axis=1, keepdims=True)

    kept_features(tiny_encoder(), images[:20])
    kept_features(Sums(), images)
    assert not list(cache.glob("features-*"))
