"""Whether importance weights can be trusted: Pareto smoothed importance sampling (Vehtari et al. 2024, arXiv:1507.02646).

Shapes: N draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def effective_share(log_weights_N: Array) -> float:
    """Effective sample size over N: 1 where all weights are equal, 1 / N where one rules."""
    weights = np.exp(log_weights_N - log_weights_N.max())
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def k_hat(log_weights_N: Array) -> float:
    """Shape of the generalized Pareto tail of the weights: below 0.5 their variance is finite, above 0.7 do not use them."""
    count = len(log_weights_N)
    tail = int(min(0.2 * count, 3 * np.sqrt(count)))
    if tail < 5:
        return float("inf")
    weights = np.exp(np.sort(log_weights_N) - log_weights_N.max())
    excess = weights[-tail:] - weights[-tail - 1]
    if not excess[-1] > 0:
        return -float("inf")  # all the same: no tail at all
    return pareto_shape(excess[excess > 0])


def pareto_shape(excess_N: Array) -> float:
    """Shape of a generalized Pareto distribution, ascending excesses (Zhang and Stephens 2009, prior of Vehtari et al.)."""
    x, n = np.asarray(excess_N, np.float64), len(excess_N)
    grid = 30 + int(np.sqrt(n))
    quartile = x[max(0, int(n / 4 + 0.5) - 1)]
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    shapes = np.log1p(-theta[:, None] * x).mean(axis=1)
    profile = n * (np.log(-theta / shapes) - shapes - 1)
    with np.errstate(over="ignore"):  # an infinite sum is a weight of 0
        weight = 1 / np.exp(profile - profile[:, None]).sum(axis=1)
    best = (weight * theta).sum() / weight.sum()
    shape = np.log1p(-best * x).mean()
    return float((n * shape + 10 * 0.5) / (n + 10))
