"""Texts of few words, made: for tests of what happens to texts, not of what is learned from them."""

from __future__ import annotations

import numpy as np

WORDS = [
    "the",
    "a",
    "old",
    "green",
    "sea",
    "house",
    "wind",
    "bird",
    "went",
    "came",
    "stood",
    "sang",
    "over",
    "under",
    "night",
]


def two_sentences(count: int) -> list[str]:
    """So many texts of two sentences each, the same ones in every run."""
    rng = np.random.default_rng(0)
    return [
        " ".join(rng.choice(WORDS, 12)).capitalize() + ". " + " ".join(rng.choice(WORDS, 9)) + "." for _ in range(count)
    ]
