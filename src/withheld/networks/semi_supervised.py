"""M2: a variational autoencoder whose z is a class and a style, the class observed for a few items.

Shapes: B batch, D features, K classes, Z style, H hidden.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.errors import InputError
from withheld.types import UNKNOWN_LABEL, Terms

LOG_2_PI = math.log(2 * math.pi)


class Guess(NamedTuple):
    """`log_class` (B, K) is log q(y | x); `bound` (B, K) the bound of log p(x, y), nats, for every class."""

    log_class: Tensor
    bound: Tensor


class ClassAndStyle(nn.Module):
    """p(x | y, z) p(y) p(z) with q(y | x) and q(z | x, y): y uniform, z standard normal, x Gaussian with learned variances.

    Source: Kingma et al. 2014, "Semi-supervised learning with deep generative models", https://arxiv.org/abs/1406.5298, M2.

    Args:
        columns: D.
        classes: K.
        styles: Z.
        width: H, of the one hidden layer that each of the three parts has.
    """

    def __init__(self, columns: int, classes: int, styles: int = 50, width: int = 300) -> None:
        super().__init__()
        if classes < 2:
            raise InputError(f"classes={classes}: a classifier needs at least 2")
        self.columns, self.classes = columns, classes
        self.classify = nn.Sequential(nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, classes))
        self.look, self.look_class = nn.Linear(columns, width), nn.Linear(classes, width, bias=False)
        self.infer = nn.Linear(width, 2 * styles)
        self.imagine, self.imagine_class = nn.Linear(styles, width), nn.Linear(classes, width, bias=False)
        self.tell = nn.Linear(width, 2 * columns)

    def forward(self, x_BD: Tensor) -> Guess:
        """q(y | x), and the bound with one sample of z for every class."""
        noise = torch.randn(len(x_BD), self.classes, self.infer.out_features // 2, device=x_BD.device)
        return Guess(self.log_class(x_BD), self.bound(x_BD, noise))

    def log_class(self, x_BD: Tensor) -> Tensor:
        """(B, K) log q(y | x)."""
        return F.log_softmax(self.classify(x_BD), dim=1)

    def bound(self, x_BD: Tensor, noise_BKZ: Tensor) -> Tensor:
        """(B, K) log p(y) + E[log p(x | y, z)] - KL(q(z | x, y) || p(z)), the expectation by one sample."""
        seen = F.relu(self.look(x_BD)[:, None] + self.look_class.weight.T)
        mean, log_variance = self.infer(seen).chunk(2, dim=2)
        z_BKZ = mean + (0.5 * log_variance).exp() * noise_BKZ
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=2)
        told = self.tell(F.relu(self.imagine(z_BKZ) + self.imagine_class.weight.T))
        center, log_scale = told.chunk(2, dim=2)
        away = (x_BD[:, None] - center) ** 2 * (-log_scale).exp()
        log_likelihood = -0.5 * (away + log_scale + LOG_2_PI).sum(dim=2)
        return log_likelihood - kl - math.log(self.classes)


def semi_supervised_bound(guess: Guess, label_B: Tensor) -> Terms:
    """-log p(x, y) of labelled rows and -log p(x) of the others, bounded; and -log q(y | x) of labelled rows, apart.

    Unlabelled rows sum over all classes exactly: E_q(y)[bound(x, y)] + H(q(y | x)).

    Args:
        label_B: UNKNOWN_LABEL where unknown.

    Returns:
        "bound", the mean over the batch, and "classification", the mean over its labelled rows; both nats.
    """
    known = label_B != UNKNOWN_LABEL
    log_class, bound = guess
    marginal = (log_class.exp() * (bound - log_class)).sum(dim=1)
    at = label_B.clamp_min(0)[:, None]
    given, told = bound.gather(1, at).squeeze(1), log_class.gather(1, at).squeeze(1)
    wrong = -(told * known).sum() / known.sum().clamp_min(1)
    return {"bound": -torch.where(known, given, marginal).mean(), "classification": wrong}
