"""The one trainable thing: hide a part, predict it, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from withheld.types import Moment, Pair, Split, Terms, as_split

Weight = float | Callable[[Moment], float]


@runtime_checkable
class Fitted(Protocol):
    """A network or loss that looks at a sample once, before the first step."""

    def fitted(self, sample: Any) -> Any:
        """Returns the part to train with."""


@runtime_checkable
class AfterStep(Protocol):
    """A part with a state of its own (teacher, centering buffer, codebook)."""

    def after_step(self, moment: Moment) -> None:
        """Called once after every optimizer step."""


@runtime_checkable
class AtOnce(Protocol):
    """A loss, a target or a part of a network that would say something else of a piece of the batch than of the whole."""

    @property
    def at_once(self) -> str:
        """Why, in words that follow "since"; empty where pieces do as well."""


@runtime_checkable
class Counted(Protocol):
    """A loss or a target that makes a mean over something of which items have more or less, such as words that are asked for."""

    def counts(self, y: Any) -> dict[str, Tensor]:
        """How many of them there are in y, by the name of the term."""


class Objective(nn.Module):
    """-log p(y | x) of a split, a network and a loss. Final: never subclassed.

    Args:
        split: `t -> Pair(x, y)`, a `Split` or a plain function.
        network: called with x; its attribute `trunk` is what `pretrain` keeps as the encoder.
        loss: `loss(prediction, target) -> Tensor | Terms`, a mean over the batch.
        target: what the prediction is compared with, given y: None for y itself, a callable (per-patch normalization,
            an EMA teacher), or "network": what the network itself makes of y, with gradients (SimCSE). By name, so that
            no tensor is stored twice. A target with `undo(prediction, y)` can be drawn.
        change: what happens to whole items first (random crop, flip), in training only.
        weights: of the terms, numbers or functions of a `Moment`; 1 where not named.
    """

    def __init__(
        self,
        split: Split | Callable[[Any], Pair],
        network: nn.Module,
        loss: Callable[[Any, Any], Tensor | Terms],
        target: Callable[[Any], Any] | str | None = None,
        change: Callable[[Any], Any] | None = None,
        weights: Mapping[str, Weight] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(target, str) and target != "network":
            raise ValueError(f'target={target!r}: a callable, None, or "network"')
        self.split = as_split(split)
        self.network = network
        self.loss = loss
        self.target = target
        self.change = change
        self.weights = dict(weights or {})

    @property
    def trunk(self) -> Any:
        """The part of the network that is kept as the encoder; None where the network names none."""
        return getattr(self.network, "trunk", None)

    def fit_parts(self, sample: Any) -> None:
        """Lets split, network and loss look at a sample of the data, once, before the first step."""
        self.split = self.split.fitted(sample)
        if isinstance(self.network, Fitted):
            self.network = self.network.fitted(self.split(sample))
        if isinstance(self.loss, Fitted):
            self.loss = self.loss.fitted(self.split(sample))

    def pair(self, t: Any, side: float = 1.0) -> Pair:
        """Changes and splits a batch, as training sees it; views have this share of their side, see `Recipe.progressive`."""
        split = self.split if side == 1 else self.split.shrunk(side)
        return split(t if self.change is None else self.change(t))

    def predict(self, t: Any) -> tuple[Pair, Any]:
        """Splits unchanged items and predicts; what pictures are drawn from.

        The prediction is in units of y where the target can be undone.
        """
        pair = self.split(t)
        prediction = self.network(pair.x)
        undo = getattr(self.target, "undo", None)
        return pair, prediction if undo is None else undo(prediction, pair.y)

    def forward(self, t: Any, moment: Moment = Moment()) -> Terms:
        """Terms of the loss for a batch of items, or for a Pair that was already split."""
        pair = t if isinstance(t, Pair) else self.pair(t)
        return self.compare(self.network(pair.x), pair)

    def compare(self, prediction: Any, pair: Pair) -> Terms:
        """Terms of the loss of a prediction."""
        terms = self.loss(prediction, self.aim(pair.y))
        return terms if isinstance(terms, dict) else {"loss": terms}

    def aim(self, y: Any) -> Any:
        """What a prediction is compared with."""
        if self.target is None:
            return y
        return self.network(y) if isinstance(self.target, str) else self.target(y)

    def total(self, terms: Terms, moment: Moment) -> Tensor:
        """The weighted sum of the terms: what is minimized."""
        return sum(self._weight(name, moment) * term for name, term in terms.items())  # type: ignore[return-value]

    def counted(self) -> Counted | None:
        """The part that knows over how much the terms are means, where that differs from piece to piece of a batch."""
        parts: tuple[Any, ...] = (self.target, self.loss)
        return next((part for part in parts if isinstance(part, Counted)), None)

    def needs_whole_batch(self) -> str:
        """Why a batch cannot be taken in pieces, one after the other, in words that follow "since"; empty where it can."""
        parts: tuple[Any, ...] = (self.loss, self.target, *self.network.modules())
        return next((part.at_once for part in parts if isinstance(part, AtOnce) and part.at_once), "")

    def moving(self) -> list[AfterStep]:
        """The parts that have a state of their own, which moves after every step."""
        return [part for part in self.modules() if isinstance(part, AfterStep)]

    def _weight(self, name: str, moment: Moment) -> float:
        weight = self.weights.get(name, 1.0)
        return weight(moment) if callable(weight) else weight
