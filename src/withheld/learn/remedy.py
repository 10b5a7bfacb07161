"""The documented remedies that `--on-sick fix` applies by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from withheld.learn.schedule import seed_everything
from withheld.objective import Weight
from withheld.types import Moment, Recipe

Treatment = dict[str, Any]
"""step: when it was decided. illness. remedy. from: the step from which it acts. back: whether the run goes back there. until: how
long it is left to act. words: what is said. And the numbers of the remedy."""

SLOWER = 1 / 3
WARM_UP = 0.2
"""Share of the run."""
CARE = 3
"""Which random numbers, beside those that hide and those of dropout: those of a remedy."""
HARMLESS = frozenset(
    {"slow data", "learned by heart", "no better than guessing", "duplicated data", "hardly anything hidden"}
)
"""Does not keep a checkpoint from being a healthy one to go back to."""


@runtime_checkable
class Revived(Protocol):
    """A network whose dead codes can be started anew."""

    def revive(self, t: Any) -> int:
        """Puts codes that are never chosen where vectors of these items lie; returns how many."""


@dataclass(frozen=True)
class WarmUp:
    """A weight that begins again at 0.

    Attributes:
        weight: as it was. begin: step. steps: until it is as it was.
    """

    weight: Weight
    begin: int
    steps: int

    def __call__(self, moment: Moment) -> float:
        whole = self.weight(moment) if callable(self.weight) else self.weight
        if moment.step < self.begin:
            return whole
        return whole * min(1.0, (moment.step - self.begin) / max(1, self.steps))


def slower(loop: Any, step: int, illness: str) -> Treatment:
    """A third of the learning rate, from the last healthy checkpoint."""
    return {
        "step": step, "illness": illness, "remedy": "lower learning rate", "from": step, "back": True, "factor": SLOWER,
        "words": "back to step {from}, with the learning rate times {factor:.2g}",
    }  # fmt: skip


def warm_up(loop: Any, step: int, illness: str) -> Treatment:
    """The weight of the KL rises from 0 again."""
    length = max(1, round(WARM_UP * loop.steps))
    return {
        "step": step, "illness": illness, "remedy": "KL warm-up", "from": step, "back": False, "length": length,
        "until": step + 2 * length, "words": "the weight of the KL rises from 0 over {length} steps",
    }  # fmt: skip


def restart_codes(loop: Any, step: int, illness: str) -> Treatment:
    """Dead codes move to vectors of a batch."""
    network, count = loop.objective.network, 0
    if isinstance(network, Revived):
        seed_everything(loop.seed, step, CARE)
        index = loop.order.step(step)
        count = network.revive(loop.items.batch(index, loop.device))
    return {
        "step": step, "illness": illness, "remedy": "codes restarted", "from": step, "back": False, "codes": count,
        "until": step + max(1, loop.steps // 10), "words": "{codes} codes start anew at vectors of the batch",
    }  # fmt: skip


Remedy = Callable[[Any, int, str], Treatment]
REMEDIES: dict[str, Remedy] = {
    "posterior collapse": warm_up, "dead codes": restart_codes, "collapse": slower, "dimensional collapse": slower,
    "uniform teacher": slower, "one cluster": slower, "learning rate too large": slower, "divergence": slower,
}  # fmt: skip


def remedy_for(illness: str) -> Remedy | None:
    """The remedy; None where a person must choose: of data, for instance."""
    return REMEDIES.get(illness)


def apply(loop: Any, recipe: Recipe, weights: dict[str, Weight], treatments: Sequence[Treatment]) -> None:
    """Makes loop and objective as all treatments want them, from how they were without any."""
    if not treatments:
        return
    factor = 1.0
    changed = dict(weights)
    for each in treatments:
        factor *= each.get("factor", 1.0)
        if each["remedy"] == "KL warm-up":
            changed["kl"] = WarmUp(changed.get("kl", 1.0), each["from"], each["length"])
    loop.recipe = recipe.change(base_learning_rate=recipe.base_learning_rate * factor)
    loop.objective.weights = changed
