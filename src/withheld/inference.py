"""Variational inference for a model of your own: give log p(x, z), get q(z) and whether to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.aloud import Listen
from withheld.evaluate.psis import effective_share, k_hat
from withheld.learn.gradient import train
from withheld.methods.black_box import black_box
from withheld.networks.posterior import GaussianMixturePosterior, LogJoint

CHECKED = 10_000
TRUSTED_K, DOUBTED_K = 0.5, 0.7
SMALL = 0.01


@dataclass
class Inference:
    """What was found.

    Attributes:
        q: the approximation: `sample(n)`, `log_density(z)`.
        elbo: its bound of log p(x), nats, of fresh samples; elbo_error: standard error.
        log_evidence: log p(x) by importance sampling from q, right where k_hat is small.
        gap: log p(x) - elbo where log p(x) was given, which is KL(q || p(z | x)).
        effective: effective share of the samples. k_hat: shape of the tail of their weights.
        components: in use, exp of the entropy of the weights. losses: minus the bound at every step.
        trust: a sentence.
    """

    q: GaussianMixturePosterior
    elbo: float
    elbo_error: float
    log_evidence: float
    gap: float | None
    effective: float
    k_hat: float
    components: float
    trust: str
    mean: np.ndarray
    deviation: np.ndarray
    losses: list[float] = field(default_factory=list, repr=False)

    def sample(self, count: int) -> Tensor:
        """(count, D) from q."""
        return self.q.sample(count)

    def __str__(self) -> str:
        gap = f", {self.gap:.4f} nats below log p(x)" if self.gap is not None else ""
        names = [f"  z{i}: {m:z.3f} ± {d:.3f}" for i, (m, d) in enumerate(zip(self.mean, self.deviation, strict=True))][
            :20
        ]
        return "\n".join(
            [
                f"ELBO {self.elbo:.4f} ± {self.elbo_error:.4f} nats{gap}; log p(x) about {self.log_evidence:.4f}",
                f"{self.components:.1f} components in use, {100 * self.effective:.0f} % effective samples, k-hat {self.k_hat:.2f}",
                self.trust,
                *names,
            ]
        )


def infer(
    log_joint: LogJoint, dimensions: int, *, family: str = "mixture", components: int = 4,
    gradient: str = "reparameterized", samples: int = 16, steps: int = 2000, learning_rate: float = 0.05,
    start_width: float = 3.0, log_evidence: float | None = None, seed: int = 0, listen: Listen | None = None,
) -> Inference:  # fmt: skip
    """Fits q(z) to p(z | x), of which only log p(x, z) is known.

    Args:
        log_joint: z (S, D) -> (S,); every dimension over the whole line.
        dimensions: D.
        family: "factorized", "full_rank", "mixture" (of factorized ones) or "full_rank_mixture".
        components: of a mixture.
        gradient: "reparameterized", or "score" for a log_joint without gradients.
        samples: of every component at a step. steps: of Adam. learning_rate: at its peak, then a cosine to 0.
        start_width: deviation of the places that are tried for the start.
        log_evidence: log p(x) where it is known; the gap is then reported.
        seed: decides everything.
        listen: is told every step.

    Raises:
        InputError: log_joint returns another shape or what is no number, or has no gradient. Diverged: the bound is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective, recipe = black_box(
            log_joint, dimensions=dimensions, family=family, components=components, gradient=gradient, samples=samples,
            learning_rate=learning_rate, start_width=start_width,
        )  # fmt: skip
        objective.fit_parts(torch.zeros(1, 1))
        losses: list[float] = []

        def hear(line: dict[str, Any]) -> None:
            losses.append(line["loss"])
            if listen is not None:
                listen({"kind": "step", **line})

        train(objective, _OneItem(), recipe, steps=steps, seed=seed, listen=hear)
        torch.manual_seed(seed + 1)
        return examine(objective.network, losses, log_evidence)


@torch.no_grad()
def examine(network: Any, losses: list[float], log_evidence: float | None = None, count: int = CHECKED) -> Inference:
    """Measures a fitted q with fresh samples, and says whether to trust it."""
    q = network.q.eval()
    z = q.sample(count)
    log_weights = (network.checked(z) - q.log_density(z)).double().cpu().numpy()
    elbo, error = float(log_weights.mean()), float(log_weights.std() / math.sqrt(count))
    most = log_weights.max()
    evidence = float(most + np.log(np.exp(log_weights - most).mean()))
    shape, share = k_hat(log_weights), effective_share(log_weights)
    weight = q.log_weights().exp()
    used = float((-(weight * weight.clamp_min(1e-30).log()).sum()).exp())
    gap = None if log_evidence is None else log_evidence - elbo
    values = z.double().cpu().numpy()
    trust = trust_words(shape, share, losses, q.components, used)
    return Inference(
        q, elbo, error, evidence, gap, share, shape, used, trust, values.mean(axis=0), values.std(axis=0), losses
    )  # fmt: skip


def trust_words(shape: float, share: float, losses: list[float], components: int, used: float) -> str:
    """When not to trust it, and what to do then."""
    wrong = []
    tenth = len(losses) // 10
    if tenth >= 10:
        late, before = np.array(losses[-tenth:]), np.array(losses[-2 * tenth : -tenth])
        noise = math.hypot(late.std(), before.std()) / math.sqrt(tenth)
        if before.mean() - late.mean() > max(SMALL, 4 * noise):
            wrong.append("the bound was still rising (more steps)")
    if components > 1 and used < 0.5 * components:
        wrong.append(f"only {used:.1f} of {components} components are in use (a wider start, or fewer components)")
    if shape > DOUBTED_K:
        wrong.append(
            f"k-hat is {shape:.2f}: q misses a tail or a mode (more components, full rank, or another parameterization)"
        )
    if wrong:
        return "Do not trust it: " + "; ".join(wrong) + "."
    if shape > TRUSTED_K:
        return f"Take means and the bound, not tails: k-hat is {shape:.2f}."
    found = f"k-hat is {shape:.2f}, {100 * share:.0f} % effective samples"
    return f"Nothing speaks against it: {found}. A mode far away can still be missed."


class _OneItem:
    """The whole observed data is one item, and stands in log_joint."""

    def __len__(self) -> int:
        return 1

    def batch(self, index: np.ndarray, device: torch.device) -> Tensor:
        return torch.zeros(len(index), 1, device=device)
