"""The words of the library: an item t is split into what may be seen, x, and what must be told, y.

`t, x, y, z` have one meaning everywhere. Batches carry a leading axis B.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

Batch = Tensor | Mapping[str, Tensor]
Terms = dict[str, Tensor]

UNKNOWN_LABEL = -100
LEAST = 500
"""Steps that a small data set is seen for, more often than `most_epochs`."""


class Pair(NamedTuple):
    """`x` is what the network may see, `y` what it must tell: tensors or dicts of tensors, leading axis B."""

    x: Any
    y: Any


class CannotMerge(TypeError):
    """This split does not keep enough to rebuild the item."""


@dataclass(frozen=True)
class Split(ABC):
    """Hides a part of every item of a batch; nothing to learn, its fields are its settings.

    Randomness comes from torch's global generator only: the loop seeds it.
    """

    hides: ClassVar[bool] = False
    """True promises that x does not change when the hidden part of t does."""
    asks: ClassVar[tuple[str, ...]] = ()
    """What t must hold besides the item: ("id",) or ("label",); then t is a dict with "item" and these."""
    together: ClassVar[int] = 1
    """Items that it must be given at once, at least: more than one where it exchanges parts between items."""
    parts: ClassVar[str] = ""
    """Where x and y are the same text, and their masks say which words of it each has: the line that is said under its words."""
    answers: ClassVar[tuple[str, ...]] = ()
    """What the numbers of y mean, from 0, where y is one whole number an item."""
    takes_bytes: ClassVar[bool] = False
    """True says that images may be given as the bytes that are stored; x and y are normalized all the same, see `in_units`."""

    @property
    def augment(self) -> Callable[[Any], Any] | None:
        """How it changes whole items at random before it compares them (contrastive views); None where it does not."""
        return None

    @abstractmethod
    def __call__(self, t: Any) -> Pair:
        """Splits a batch on whatever device it is."""

    def full(self, t: Any) -> Any:
        """What the encoder sees after training: t with nothing hidden. Deterministic."""
        return t

    def merge(self, pair: Pair) -> Any:
        """Rebuilds t from a pair, true or predicted.

        Raises:
            CannotMerge: where the split loses something.
        """
        raise CannotMerge(f"{type(self).__name__} does not keep enough of the item to rebuild it")

    def drawn(self, pair: Pair) -> Pair:
        """x and y as two items to look at, where what is hidden is no place of the item (colorization: the grey image, the colors).

        Raises:
            CannotMerge: where a picture of places says more.
        """
        raise CannotMerge(f"{type(self).__name__} is drawn by its places")

    def remarks(self, sample: Any) -> list[str]:
        """What the user should know of the data before the first step.

        Raises:
            InputError: where this split could learn nothing from it.
        """
        return []

    def shrunk(self, side: float) -> Split:
        """A copy whose views have this share of their side, for the first stages of a run; itself where it makes no views."""
        return self

    def in_units(self, mean: Sequence[float], std: Sequence[float]) -> Split:
        """A copy that knows by what the pixels of its items were normalized, per channel. Most splits need not."""
        return self

    def fitted(self, sample: Any) -> Split:
        """A copy that has seen a sample of the data, before the first step. Most splits need none."""
        return self


@dataclass(frozen=True)
class FunctionSplit(Split):
    """A user's plain function `t -> Pair`, made a split."""

    function: Callable[[Any], Pair]

    def __call__(self, t: Any) -> Pair:
        pair = self.function(t)
        if not isinstance(pair, tuple) or len(pair) != 2:
            name = getattr(self.function, "__name__", repr(self.function))
            raise TypeError(f"the split {name} must return Pair(x=..., y=...), it returned {type(pair).__name__}")
        return Pair(*pair)

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


def as_split(split: Split | Callable[[Any], Pair]) -> Split:
    """A `Split` as it is, a plain function wrapped."""
    if isinstance(split, Split):
        return split
    if callable(split):
        return FunctionSplit(split)
    raise TypeError(f"a split is a function t -> Pair(x, y) or a Split, not {type(split).__name__}")


class Moment(NamedTuple):
    """Where the run is; term weights may be schedules of it."""

    step: int = 0
    steps: int = 1
    epoch: float = 0.0

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.step / max(1, self.steps)


@dataclass
class Features:
    """What an encoder tells about a batch of items.

    Attributes:
        pooled: (B, D), one vector an item.
        tokens: (B, L, D) in row-by-row grid order.
        grid: (H, W) or (T, H, W), with L = H * W (* T); None where tokens have no grid.
        mask: (B, L), True where a token is real; None where all are.
        layers: the tokens of every layer, on request.
    """

    pooled: Tensor
    tokens: Tensor
    grid: tuple[int, ...] | None = None
    mask: Tensor | None = None
    layers: tuple[Tensor, ...] | None = None

    def pooled_layers(self, depth: int) -> list[Tensor]:
        """The mean of the tokens of each of the last `depth` layers, (B, D) each; the embeddings before them are left out."""
        layers = (self.layers or ())[-depth:]
        if self.mask is None:
            return [tokens.mean(dim=1) for tokens in layers]
        real = self.mask.unsqueeze(-1).to(self.tokens.dtype)
        return [(tokens * real).sum(dim=1) / real.sum(dim=1).clamp(min=1) for tokens in layers]


@dataclass(frozen=True)
class Recipe:
    """How an objective is trained: the paper's settings, scaled to the run.

    Attributes:
        base_learning_rate: for a batch of 256; `learning_rate` scales it linearly (Goyal et al. 2017).
        batch_size: items of one optimizer step, over all processes.
        betas, weight_decay: of AdamW; biases, norms, tokens and positions are not decayed.
        warmup: share of the steps over which the learning rate rises from 0.
        schedule: "cosine" or "linear" to 0, "constant" after the warm-up, or "steps": `hold` epochs at the full rate, then
            times `decay` for each further one, of a run of `epochs`.
        clip: the largest gradient norm, or None.
        epochs: how often every item is seen, where neither steps nor minutes are given.
        trunk_rate: learning rate of the trunk, times that of everything else; below 1 where a trained encoder is continued.
        rest: share of the steps in which the trunk stands still while new heads warm up; its rate rises over as many again.
        lora: rank of adapters that learn in the trunk's place; 0 is off. Of trained encoders of images and clips, and of
            transformers of texts; needs peft.
        layer_decay: learning rate of layer i is times layer_decay ** (layers - i); 1 is off.
        normalize: whether items are brought to mean 0 and variance 1 per channel; False leaves pixels in 0..1, for
            likelihoods of pixels.
        optimizer: "adamw", "sgd" (plain), or "muon" (matrices of layers by Muon, all else by AdamW).
        matrix_rate: learning rate of Muon's matrices, times that of everything else.
        order: "shuffled", or "streams": a batch is the next block of each of `batch_size` streams, in order.
        most_epochs: how often an item is seen at most, where only minutes are given; 0 is no bound.
        most_items: of a larger data set so many items, spread evenly, are learned from; 0 takes all.
        progressive: share of their side that the views of images begin with; they grow in three stages (progressive resizing). 1 is
            off. Of convolutional networks, whose features are of any size.
        tolerance: of a `LatentModel`: it stops where the bound of an item rises by less, nats; 0 never stops early.
    """

    base_learning_rate: float = 1e-3
    batch_size: int = 256
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    warmup: float = 0.05
    schedule: str = "cosine"
    clip: float | None = None
    epochs: float = 100.0
    trunk_rate: float = 1.0
    rest: float = 0.0
    lora: int = 0
    layer_decay: float = 1.0
    optimizer: str = "adamw"
    matrix_rate: float = 2.0
    normalize: bool = True
    order: str = "shuffled"
    hold: int = 0
    decay: float = 1.0
    most_epochs: float = 0.0
    most_items: int = 0
    progressive: float = 1.0
    tolerance: float = 0.0

    @property
    def stages(self) -> tuple[tuple[float, float], ...]:
        """Share of the steps and of the views' side in each stage; each has as many pixels, so small ones take most steps."""
        if self.progressive == 1:
            return ((1.0, 1.0),)
        sides = (self.progressive, (1 + self.progressive) / 2, 1.0)
        steps = [side**-2 for side in sides]
        return tuple((count / sum(steps), side) for count, side in zip(steps, sides, strict=True))

    def stage(self, progress: float) -> tuple[float, float]:
        """Share of their side that views have at a share of the steps, and the share of the run's pixels seen by then."""
        done, each = 0.0, 1 / len(self.stages)
        for number, (share, side) in enumerate(self.stages):
            if progress < done + share:
                return side, each * (number + (progress - done) / share)
            done += share
        return 1.0, 1.0

    @property
    def learning_rate(self) -> float:
        """The peak learning rate at this batch size."""
        return self.base_learning_rate * self.batch_size / 256

    def enough(self, items: int, steps: int) -> int:
        """As many of the steps that minutes allow as are of use."""
        return min(steps, max(round(self.most_epochs * items / self.batch_size), LEAST)) if self.most_epochs else steps

    def factor(self, moment: Moment) -> float:
        """What the peak learning rate is multiplied by at a moment, a pure function of it."""
        warm = max(1, round(self.warmup * moment.steps)) if self.warmup else 0
        if moment.step < warm:
            return (moment.step + 1) / warm
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "steps":
            return self.decay ** max(0, int(moment.progress * self.epochs + 1e-9) + 1 - self.hold)
        done = (moment.step - warm) / max(1, moment.steps - warm)
        if self.schedule == "linear":
            return max(0.0, 1 - done)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def awake(self, moment: Moment) -> float:
        """What the trunk's learning rate is multiplied by besides: 0 while it rests, 1 in the end."""
        if not self.rest:
            return 1.0
        return min(1.0, max(0.0, moment.progress / self.rest - 1))

    def change(self, **settings: Any) -> Recipe:
        """A copy with other settings."""
        return dataclasses.replace(self, **settings)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Recipe:
        """That of a run.json, which another version may have written: what it does not name is as it was before there was such."""
        known = {field.name for field in dataclasses.fields(cls)}
        settings: dict[str, Any] = {name: value for name, value in kept.items() if name in known}
        return cls(**{**settings, "betas": tuple(settings["betas"])})


@dataclass(frozen=True)
class Score:
    """One measured number: one JSON line in results.jsonl.

    Attributes:
        method: the row, e.g. "fine-tuned", "linear probe", "from scratch".
        data: what it was measured on.
        metric: e.g. "accuracy".
        labels_per_class: how many labels each class had; None means all.
        value: the mean over seeds.
        spread: half the 95 % interval.
        values: the number of every seed, in the order of `seeds`.
        budget: what it cost, e.g. {"steps": 120, "seconds": 14.2}.
    """

    method: str
    data: str
    metric: str
    labels_per_class: int | None
    value: float
    spread: float
    seeds: list[int]
    values: list[float] = field(default_factory=list)
    budget: dict[str, Any] = field(default_factory=dict)
    commit: str = ""
    command: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dict for one line of results.jsonl."""
        return {"kind": "score", **dataclasses.asdict(self)}


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Applies a function to every tensor of a batch: a tensor, a dict, or a Pair of them."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Pair):
        return Pair(map_tensors(function, value.x), map_tensors(function, value.y))
    if isinstance(value, Mapping):
        return {name: map_tensors(function, part) for name, part in value.items()}
    return value


def concatenate(values: list[Any]) -> Any:
    """Joins batches of equal structure along the leading axis."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, Pair):
        return Pair(concatenate([v.x for v in values]), concatenate([v.y for v in values]))
    if isinstance(first, Mapping):
        return {name: concatenate([v[name] for v in values]) for name in first}
    return first
