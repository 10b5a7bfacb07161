"""Images that are nearly the same: found by a difference hash, confirmed on small pictures.

Axes in comments: N items, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from withheld.data.scale import resize_matrix, resized

MOST_BITS = 3
"""Bits of 64 in which the hashes of near-duplicates may differ."""
LEAST_CORRELATION = 0.985
"""What small grey pictures of near-duplicates correlate at least. Chosen on photographs and on 28 and 32 pixel sets:
recompressed, rescaled and brightened copies stay above, different images of digits or clothes seldom do."""
MOST_PAIRS = 1_000_000
OFTEN = 5
"""Copies in a sample from which their number among all items is told by how many these are."""
_SIDE = 32
_MARGIN = 2.0
_BLOCK = 1 << 22


def thumbnails(images: Any) -> np.ndarray:
    """Small grey pictures (N, S, S) uint8, S at most 32, of images (N, C, H, W) uint8."""
    side = min(_SIDE, *images.shape[2:])
    small = np.empty((len(images), side, side), np.uint8)
    for start in range(0, len(images), 1024):
        grey = np.asarray(images[start : start + 1024]).mean(axis=1, dtype=np.float32)
        small[start : start + 1024] = np.rint(resized(grey, side))
    return small


def hashes(small: np.ndarray) -> np.ndarray:
    """Difference hashes (N,) uint64 of grey pictures (N, S, S): is each of 8 x 8 places darker than the next?"""
    codes = np.empty(len(small), np.uint64)
    down, across = resize_matrix(small.shape[1], 8), resize_matrix(small.shape[2], 9).T
    for start in range(0, len(small), 4096):
        coarse = down @ small[start : start + 4096].astype(np.float32) @ across
        bits = (coarse[:, :, 1:] > coarse[:, :, :-1] + _MARGIN).reshape(len(coarse), 64)
        codes[start : start + 4096] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return codes


def near_duplicates(images_a: Any, images_b: Any | None = None) -> np.ndarray:
    """Pairs of images that are nearly the same.

    Hashes of 64 bits that differ in at most 3 make a candidate; small grey pictures of both must agree as well, for on
    simple images (digits, flat scenes) hashes agree by chance.

    Args:
        images_a: (N, C, H, W) uint8.
        images_b: (M, C, H, W) uint8; None looks for pairs within the first.

    Returns:
        (P, 2) int64: positions in the first and the second, ascending; within one set the first of a pair is the
        smaller. A million pairs at most.
    """
    small_a = thumbnails(images_a)
    return matching(small_a, None if images_b is None else thumbnails(images_b))


def matching(small_a: np.ndarray, small_b: np.ndarray | None = None) -> np.ndarray:
    """As `near_duplicates`, of pictures that `thumbnails` made."""
    within = small_b is None
    other = small_a if small_b is None else small_b
    if other.shape[1:] != small_a.shape[1:]:
        side = min(len(other[0]), len(small_a[0])) if len(other) and len(small_a) else 1
        other, small_a = thumbnails_of(other, side), thumbnails_of(small_a, side)
    codes_a, codes_b = hashes(small_a), hashes(other)
    step = max(1, _BLOCK // max(1, len(codes_b)))
    found: list[np.ndarray] = []
    count = 0
    for start in range(0, len(codes_a), step):
        differing = np.bitwise_count(codes_a[start : start + step, None] ^ codes_b[None])
        first, second = np.nonzero(differing <= MOST_BITS)
        first += start
        if within:
            first, second = first[first < second], second[first < second]
        for begin in range(0, len(first), 1 << 16):
            one, two = first[begin : begin + (1 << 16)], second[begin : begin + (1 << 16)]
            same = _agree(small_a[one], other[two])
            found.append(np.stack([one[same], two[same]], axis=1))
            count += len(found[-1])
        if count >= MOST_PAIRS:
            break
    return np.concatenate(found)[:MOST_PAIRS] if found else np.empty((0, 2), np.int64)


def copies_each(groups: np.ndarray, count: int) -> float:
    """How many copies an item has, on average over those that differ: of N items N / (1 + copies) are different.

    What comes often in the sample is one item, however often it comes among all: one blank image in a hundred makes no item a copy
    but these. What else there is of copies is told by how many of their pairs are in the sample, at least (95 %).

    Args:
        groups: (n,) of every item of a sample, the number of its group: items of a group are copies of each other.
        count: N, of all items.
    """
    from scipy.special import gammaincinv  # the quantile of scipy.stats, which takes a second to import

    share = len(groups) / count
    size = np.bincount(groups)
    seldom = size < OFTEN
    items, pairs = int(size[seldom].sum()), float((size * (size - 1) // 2)[seldom].sum())
    if share < 1 and pairs:  # few pairs stand for many, so they may have met by chance
        pairs = float(gammaincinv(pairs, 0.05))
    each = 2 * pairs / items / share if items else 0.0
    different = items / share / (1 + each) + float((~seldom & (size > 0)).sum())
    if share == 1:
        different = float((size > 0).sum())
    return count / different - 1


def grouped(pairs_P2: np.ndarray, count: int) -> np.ndarray:
    """(n,) the number of every item's group, where pairs of them, (P, 2), are near-duplicates."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    one, two = pairs_P2.T
    links = coo_matrix((np.ones(len(one), np.int8), (one, two)), (count, count))
    return np.asarray(connected_components(links, directed=False)[1])


def thumbnails_of(small: np.ndarray, side: int) -> np.ndarray:
    """Grey pictures (N, S, S) made (N, side, side)."""
    return np.rint(resized(small.astype(np.float32), side)).astype(np.uint8)


def _agree(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Whether pairs of pictures correlate; flat ones must have the same lightness."""
    a = one.reshape(len(one), -1).astype(np.float32)
    b = two.reshape(len(two), -1).astype(np.float32)
    mean_a, mean_b = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    a, b = a - mean_a, b - mean_b
    power_a, power_b = (a * a).mean(1), (b * b).mean(1)
    flat = (power_a < 1) & (power_b < 1)
    correlation = (a * b).mean(1) / np.sqrt(np.maximum(power_a * power_b, 1e-6))
    return np.where(flat, np.abs(mean_a - mean_b)[:, 0] < 2, correlation >= LEAST_CORRELATION)
