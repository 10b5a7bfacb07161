"""Tests that tell whether a task was solved by cheating: what a method's `shortcuts()` returns.

They are declarations; `withheld.evaluate.shortcuts` runs them, for `withheld probe-shortcuts RUN`.

    def shortcuts() -> list[Shortcut]:
        return [
            Variant("no gap", {"gap": 0.0}, reads="a jump is what lines that cross the border give away"),
            Probe("where a patch was", position_probe, reads="R2 near 0: no place can be told", healthy={"R2": (-1, 0.3)}),
        ]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from withheld.objective import Objective

Bounds = Mapping[str, tuple[float, float]]
Measure = Callable[[Objective, Any, Any], dict[str, float]]


@dataclass(frozen=True)
class Variant:
    """The task with other settings: learned anew for a short while, from the run's seed, and measured on held-out items.

    Measured are the loss and what the loss measures (`measures(prediction, y)`), on the variant's own task and, where
    `crossed`, on the run's: what was learned by a shortcut is worth nothing where the shortcut is closed.

    Attributes:
        name: the row.
        settings: of the method or its recipe, those that differ from the run's.
        reads: what the numbers mean, in words.
        healthy: the least and the most that a measure may be; outside, the row is marked.
        crossed: whether the variant's network can be asked the run's own questions.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    reads: str = ""
    healthy: Bounds = field(default_factory=dict)
    crossed: bool = True


@dataclass(frozen=True)
class Probe:
    """A question to a trained network, or to the data.

    Attributes:
        name: what is asked.
        measure: `measure(objective, seen, held) -> {name: number}` of some items learned from and some held out (the same ones
            where the split asks for "id"), both as the loop feeds them; called without gradients, the objective in `eval`.
        reads: what the numbers mean, in words.
        healthy: the least and the most that a number may be; outside, the row is marked.
        each: whether the networks of the variants are asked, too.
    """

    name: str
    measure: Measure
    reads: str = ""
    healthy: Bounds = field(default_factory=dict)
    each: bool = False


Shortcut = Variant | Probe
