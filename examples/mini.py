"""The entire idea in one file: withhold a part of your data, learn to predict it, keep what was learned.

    item t -- split --> (x, y) -- network --> p(y | x) -- loss --> -log p(y | x)

Digits of eight by eight pixels are hidden in part; a tiny network learns to tell the hidden pixels from the visible
ones, and sees no label. Then its features and the raw pixels each get a few labels per class, and the same classifier
says which served it better.

Run: python examples/mini.py     about 8 seconds on a CPU; imports numpy, torch and scikit-learn, and nothing of ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

STEPS, BATCH, SEEDS = 300, 64, 10


class Pair(NamedTuple):
    """`x` is what the network may see, `y` what it must tell."""

    x: Tensor
    y: Tensor


def split(t: Tensor) -> Pair:
    """Hides each 2x2 patch of an 8x8 digit with probability 0.6; x is what is left, and where something is missing."""
    hidden = (torch.rand(len(t), 1, 4, 4) < 0.6).float()
    hidden = hidden.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return Pair(x=torch.cat([t * (1 - hidden), hidden], dim=1), y=torch.cat([t * hidden, hidden], dim=1))


def full(t: Tensor) -> Tensor:
    """The network's input with nothing hidden: how it is fed once it is trained."""
    return torch.cat([t, torch.zeros_like(t)], dim=1)


def squared_error(prediction: Tensor, y: Tensor) -> Tensor:
    """-log of a Gaussian around the prediction, over the hidden pixels only."""
    told, hidden = y.chunk(2, dim=1)
    return ((prediction - told) ** 2 * hidden).sum() / hidden.sum()


def block(channels: int, width: int) -> nn.Sequential:
    """A convolution and what goes with it."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


class Network(nn.Module):
    """An encoder, which is kept, and a head, which is not."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(block(2, 24), block(24, 48), nn.AvgPool2d(2), block(48, 48))
        self.head = nn.Sequential(block(48, 48), nn.Conv2d(48, 4, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


def pretrain(images: Tensor, seed: int = 0) -> Network:
    """Learns to predict what was hidden. No label is ever seen."""
    torch.manual_seed(seed)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(1, STEPS + 1):
        x, y = split(images[torch.randint(len(images), (BATCH,))])
        loss = squared_error(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % (STEPS // 5) == 0:
            print(f"step {step:5d}  loss {loss.item():.4f}")
    return network.eval()


@torch.no_grad()
def features(network: Network, images: Tensor) -> np.ndarray:
    """What the encoder says about whole digits: its 4x4 map of features."""
    return network.encoder(full(images)).flatten(1).numpy()


def few_label_accuracy(values: np.ndarray, labels: np.ndarray, labels_per_class: int, seed: int) -> float:
    """Accuracy in % on the second half of the data, of a linear classifier with a few labels of the first half."""
    random, half = np.random.default_rng(seed), len(labels) // 2
    drawn = [random.choice(np.flatnonzero(labels[:half] == k), labels_per_class, replace=False) for k in range(10)]
    few = np.concatenate(drawn)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1)).fit(values[few], labels[few])
    return 100 * float(model.score(values[half:], labels[half:]))


def main() -> dict[int, tuple[float, float]]:
    """Prints accuracy from raw pixels and from features at 1, 5 and 20 labels per class, and returns both."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    network = pretrain(images[: len(images) // 2])
    raw, learned = images.flatten(1).numpy(), features(network, images)
    found = {}
    for n in (1, 5, 20):
        rows = [[few_label_accuracy(v, digits.target, n, seed) for seed in range(SEEDS)] for v in (raw, learned)]
        found[n] = (float(np.mean(rows[0])), float(np.mean(rows[1])))
        scores = f"pixels {found[n][0]:.1f} %   features {found[n][1]:.1f} %"
        print(f"{n:2d} labels per class:  {scores}   mean of {SEEDS} draws")
    return found


if __name__ == "__main__":
    main()
