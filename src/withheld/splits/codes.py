"""Every code from all codes before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from withheld.types import Pair, Split


@dataclass(frozen=True)
class NextCode(Split):
    """x is the sequence without its last, y the sequence: place i is told from the places before i only, by a causal network."""

    def __call__(self, t: Any) -> Pair:
        """(B, L) -> x (B, L - 1), y (B, L)."""
        return Pair(x=t[:, :-1], y=t)

    def merge(self, pair: Pair) -> Any:
        """The sequence."""
        return pair.y
