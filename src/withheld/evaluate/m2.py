"""M1 + M2: a semi-supervised variational autoencoder on what a pretrained encoder tells.

M1 is the encoder; where it was trained as a variational autoencoder it gives a mean and a deviation, and every step draws
anew from them. Shapes: N labelled items, U unlabelled items, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.errors import InputError
from withheld.evaluate.few_label import check_labelled
from withheld.image_encoder import ImageEncoder
from withheld.learn.gradient import Loop
from withheld.networks.recognition import RecognitionModel
from withheld.networks.semi_supervised import ClassAndStyle, semi_supervised_bound
from withheld.objective import Objective
from withheld.types import UNKNOWN_LABEL, Pair, Recipe, Split

RECIPE = Recipe(base_learning_rate=6e-3, batch_size=128, weight_decay=1e-3, warmup=0.02, clip=50.0, epochs=60)
LABELLED = 0.2
"""Share of every batch that is labelled, each label as often as that takes."""
ALPHA = 1.0
"""Weight of the classification term against the bound of an item."""
ACTIVE = 0.01
"""Features whose mean varies by less over items, relative to the largest, tell nothing and are left out."""
FEWEST_STEPS = 200


@dataclass(frozen=True)
class Told:
    """What M1 tells of items: means (N, D), and deviations (N, D) or None where it gives none."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def at(self, index: NDArray[np.int64]) -> Told:
        """Some of them."""
        return Told(self.mean[index], None if self.deviation is None else self.deviation[index])


@dataclass
class Posterior:
    """An encoder as something whose `transform` gives means and deviations side by side, (n, 2 D)."""

    encoder: ImageEncoder

    @torch.no_grad()
    def transform(self, images_NCHW: Any) -> NDArray[np.float32]:
        """Of uint8 images of the encoder's size."""
        t = self.encoder.normalize(torch.from_numpy(np.asarray(images_NCHW)).to(self.encoder.device))
        found = self.encoder.trunk.model(pixel_values=t)
        mean = found.last_hidden_state.flatten(1)
        return torch.cat([mean, (0.5 * found.log_variance).exp()], dim=1).float().cpu().numpy()


def told_by(encoder: Any) -> tuple[Any, Callable[[NDArray], Told]]:
    """What to take features from, and how to read these as `Told`."""
    if isinstance(encoder, ImageEncoder) and isinstance(encoder.trunk.model, RecognitionModel):
        return Posterior(encoder), lambda found: Told(*np.split(found, 2, axis=1))
    return encoder, Told


@dataclass(frozen=True)
class AskClass(Split):
    """(x, y) = (what M1 tells of an item, its class or UNKNOWN_LABEL)."""

    asks = ("label",)

    def __call__(self, t: Mapping[str, Tensor]) -> Pair:
        return Pair(t["item"], t["label"])


@dataclass(frozen=True)
class DrawAnew:
    """Draws x from q(x | image) every time, in training only."""

    def __call__(self, t: Mapping[str, Tensor]) -> dict[str, Tensor]:
        spread = t["spread"]
        return {"item": t["item"] + spread * torch.randn_like(spread), "label": t["label"]}


class Mixed:
    """Unlabelled items, and labelled ones repeated until they are `LABELLED` of all."""

    def __init__(self, labelled: Told, label_N: NDArray[np.int64], unlabelled: Told) -> None:
        self.labelled, self.label, self.unlabelled = labelled, label_N, unlabelled
        self.repeated = max(len(labelled), round(len(unlabelled) * LABELLED / (1 - LABELLED)))

    def __len__(self) -> int:
        return len(self.unlabelled) + self.repeated

    def batch(self, index: NDArray[np.int64], device: torch.device) -> dict[str, Tensor]:
        """Items, their spreads and labels."""
        known = index >= len(self.unlabelled)
        which = (index[known] - len(self.unlabelled)) % len(self.labelled)
        some, others = self.labelled.at(which), self.unlabelled.at(index[~known])
        label = np.concatenate([self.label[which], np.full(len(others), UNKNOWN_LABEL)])
        mean = np.concatenate([some.mean, others.mean])
        spread = np.zeros_like(mean)
        if some.deviation is not None and others.deviation is not None:
            spread = np.concatenate([some.deviation, others.deviation])
        shuffled = np.argsort(np.concatenate([np.flatnonzero(known), np.flatnonzero(~known)]))
        parts = {"item": mean, "spread": spread, "label": label}
        return {name: torch.from_numpy(part[shuffled]).to(device) for name, part in parts.items()}


class StyleClassifier:
    """M2 of Kingma et al. 2014, as a classifier with `fit` and `probabilities`.

    Source: "Semi-supervised learning with deep generative models", https://arxiv.org/abs/1406.5298.
    Differs: one hidden layer of `width` with ReLU (softplus learns more slowly); x is scaled to variance 1; labelled items are
    a fifth of every batch, in which the classification term weighs `ALPHA` against the bound of an item (the paper: 0.1
    with every labelled item once an epoch).

    Args:
        classes: K.
        seed: of weights, order and draws.
        seconds: that it may take; then the number of steps is what fits. None takes the recipe's epochs.
        width: of the hidden layers. recipe: how.

    Attributes:
        steps: taken, after `fit`. sampled: whether M1 gave deviations to draw with.
    """

    def __init__(
        self, classes: int, seed: int = 0, seconds: float | None = None, width: int = 300,
        recipe: Recipe = RECIPE,
    ) -> None:  # fmt: skip
        self.classes, self.seed, self.seconds, self.width = classes, seed, seconds, width
        self.recipe, self.steps, self.sampled = recipe, 0, False

    def fit(
        self, x: Told, y_N: NDArray[np.int64], others: Told, listen: Callable[[dict], None] | None = None
    ) -> StyleClassifier:
        """Learns from labelled and unlabelled items.

        Raises:
            InputError: fewer than two classes, features that are not finite. Diverged: a loss that is not.
        """
        check_labelled(x.mean, y_N)
        if not len(others):
            raise InputError("M1 + M2 learns from unlabelled items, and the data has none: leave it out")
        self._scale_to(np.concatenate([x.mean, others.mean]), x.deviation, others.deviation)
        items = Mixed(self._scaled(x), y_N.astype(np.int64), self._scaled(others))
        torch.manual_seed(self.seed)
        network = ClassAndStyle(int(self._kept.sum()), self.classes, width=self.width)
        objective = Objective(
            AskClass(), network, semi_supervised_bound, change=DrawAnew(), weights={"classification": ALPHA}
        )
        recipe = self.recipe.change(batch_size=min(self.recipe.batch_size, 1 << (len(items).bit_length() - 1)))
        wanted = max(FEWEST_STEPS, round(recipe.epochs * len(items) / recipe.batch_size))
        loop = Loop(objective, items, recipe, steps=wanted, seed=self.seed)
        if self.seconds is not None:
            loop.steps = max(FEWEST_STEPS, min(wanted, int(self.seconds / loop.seconds_per_step(3, 1.0))))
        loop.run(None, listen)
        self.network, self.steps, self.sampled = network.eval(), loop.steps, x.deviation is not None
        return self

    @torch.no_grad()
    def probabilities(self, x: Told) -> NDArray[np.floating]:
        """(M, K) q(y | x) at the means."""
        rows = torch.from_numpy(self._scaled(x).mean)
        return torch.cat([self.network.log_class(part) for part in rows.split(4096)]).exp().cpu().numpy()

    def _scale_to(self, mean_ND: NDArray[np.float32], *deviations: NDArray[np.float32] | None) -> None:
        """Mean and scale of what is drawn, and which features tell anything."""
        variance = mean_ND.var(axis=0)
        self._kept = variance > ACTIVE * max(float(variance.max()), 1e-12)
        self._mean = mean_ND.mean(axis=0)
        if all(part is not None for part in deviations):
            variance = variance + np.square(np.concatenate(deviations), dtype=np.float64).mean(axis=0)  # type: ignore[arg-type]
        self._scale = np.sqrt(np.maximum(variance, 1e-12)).astype(np.float32)

    def _scaled(self, x: Told) -> Told:
        mean = ((x.mean - self._mean) / self._scale)[:, self._kept].astype(np.float32)
        spread = None if x.deviation is None else (x.deviation / self._scale)[:, self._kept].astype(np.float32)
        return Told(mean, spread)
