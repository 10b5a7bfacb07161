"""Families of q(z) for any model: one Gaussian or a mixture of them, and their lower bound by sampling.

Shapes: S samples, K components, D dimensions of z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from withheld.errors import InputError

LogJoint = Callable[[Tensor], Any]
FAMILIES = ("factorized", "full_rank", "mixture", "full_rank_mixture")
GRADIENTS = ("reparameterized", "score")
CANDIDATES = 512
"""Places that the start of every component is chosen from."""


class GaussianMixturePosterior(nn.Module):
    """q(z) = sum_k weight_k N(z; mean_k, L_k L_k').

    Args:
        dimensions: D.
        components: K.
        full: whether L_k is a full triangle, else a diagonal.
    """

    def __init__(self, dimensions: int, components: int = 1, full: bool = False) -> None:
        super().__init__()
        self.dimensions, self.components, self.full = dimensions, components, full
        self.means = nn.Parameter(torch.randn(components, dimensions))
        self.log_scales = nn.Parameter(torch.zeros(components, dimensions))
        if components > 1:
            self.logits = nn.Parameter(torch.zeros(components))
        if full:
            self.lower = nn.Parameter(torch.zeros(components, dimensions, dimensions))

    def log_weights(self) -> Tensor:
        """(K,)"""
        return self.logits.log_softmax(dim=0) if self.components > 1 else self.means.new_zeros(1)

    def factors(self) -> Tensor:
        """(K, D, D) lower triangles."""
        return torch.tril(self.lower, -1) + torch.diag_embed(self.log_scales.exp())

    def stratified(self, samples: int) -> Tensor:
        """(S, K, D): as many from every component, differentiable in means and scales."""
        noise = torch.randn(samples, self.components, self.dimensions, device=self.means.device)
        if self.full:
            return self.means + torch.einsum("kij,skj->ski", self.factors(), noise)
        return self.means + self.log_scales.exp() * noise

    def sample(self, count: int) -> Tensor:
        """(count, D), without gradients."""
        with torch.no_grad():
            k = torch.multinomial(self.log_weights().exp(), count, replacement=True)
            noise = torch.randn(count, self.dimensions, device=self.means.device)
            if self.full:
                return self.means[k] + (self.factors()[k] @ noise[:, :, None]).squeeze(2)
            return self.means[k] + self.log_scales[k].exp() * noise

    def log_density(self, z: Tensor) -> Tensor:
        """(...) log q(z) of z (..., D)."""
        away = z[..., None, :] - self.means
        if self.full:
            flat = away.reshape(-1, *self.means.shape).permute(1, 2, 0)  # (K, D, n)
            white = torch.linalg.solve_triangular(self.factors(), flat, upper=False)
            square = (white**2).sum(dim=1).T.reshape(away.shape[:-1])
        else:
            square = ((away / self.log_scales.exp()) ** 2).sum(dim=-1)
        each = -0.5 * square - self.log_scales.sum(dim=1) - 0.5 * self.dimensions * math.log(2 * math.pi)
        return torch.logsumexp(each + self.log_weights(), dim=-1)


class BlackBox(nn.Module):
    """Energy and entropy of q under a model of which only log p(x, z) is known.

    Args:
        log_joint: z (S, D) -> (S,) log p(x, z).
        q: the family.
        samples: of every component.
        gradient: "reparameterized" takes the gradient of log p; "score" only its values.
        width: deviation of the places that starts are chosen from.
    """

    def __init__(
        self, log_joint: LogJoint, q: GaussianMixturePosterior, samples: int, gradient: str = "reparameterized",
        width: float = 3.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if gradient not in GRADIENTS:
            raise InputError(f"gradient={gradient!r}: one of {', '.join(GRADIENTS)}")
        self.log_joint, self.q, self.samples, self.gradient, self.width = log_joint, q, samples, gradient, width

    def fitted(self, sample: Any) -> BlackBox:
        """Checks log_joint once, and starts the components where the model has its mass, as far as a search by chance finds it."""
        z = self.width * torch.randn(CANDIDATES * self.q.components, self.q.dimensions, device=self.q.means.device)
        values = self.checked(z)
        if self.gradient == "reparameterized":
            self._check_gradient(z[:2])
        means = spread_start(z.cpu().numpy(), values.detach().double().cpu().numpy(), self.q.components)
        with torch.no_grad():
            self.q.means.copy_(torch.from_numpy(means))
        return self

    def checked(self, z: Tensor) -> Tensor:
        """log p(x, z), checked.

        Raises:
            InputError: for another shape, or what is no number.
        """
        values = self.log_joint(z)
        if not isinstance(values, Tensor):
            values = torch.as_tensor(np.asarray(values), dtype=z.dtype, device=z.device)
        if values.shape != z.shape[:1]:
            raise InputError(
                f"log_joint returned shape {tuple(values.shape)} for z of shape {tuple(z.shape)}: it must return one number a "
                f"row, shape ({len(z)},); sum over the other axes"
            )
        wrong = torch.isnan(values) | (values == math.inf)
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0])
            place = ", ".join(f"{v:.4g}" for v in z[at].tolist()[:8])
            raise InputError(
                f"log_joint is {float(values[at])} at z = ({place}): it must be a number or -inf everywhere; transform parameters "
                "that are bounded (a scale: exp(z), and add log |derivative|)"
            )
        return values

    def forward(self, x: Any) -> dict[str, Tensor]:
        """Energy -E[log p] and negative entropy E[log q], nats, whose sum has the gradient of minus the bound."""
        if self.gradient == "score":
            return self._by_score()
        z = self.q.stratified(self.samples)
        weight = self.q.log_weights().exp()
        log_p = self.log_joint(z.reshape(-1, self.q.dimensions)).view(z.shape[:2])
        return {
            "energy": -(weight * log_p.mean(dim=0)).sum(),
            "negative_entropy": (weight * self.q.log_density(z).mean(dim=0)).sum(),
        }

    def _by_score(self) -> dict[str, Tensor]:
        """The score function with a leave-one-out baseline (Ranganath et al. 2014, Kool et al. 2019)."""
        count = self.samples * self.q.components
        z = self.q.sample(count)
        with torch.no_grad():
            log_p = self.log_joint(z)
            log_p = (
                log_p
                if isinstance(log_p, Tensor)
                else torch.as_tensor(np.asarray(log_p), dtype=z.dtype, device=z.device)
            )
        log_q = self.q.log_density(z)
        cost = (log_q - log_p).detach()
        others = (cost.sum() - cost) / (count - 1)
        slope = ((cost - others) * log_q).mean()
        return {"energy": -log_p.mean(), "negative_entropy": log_q.mean().detach() + slope - slope.detach()}

    def _check_gradient(self, z: Tensor) -> None:
        z = z.clone().requires_grad_(True)
        values = self.log_joint(z)
        if not (isinstance(values, Tensor) and values.requires_grad):
            raise InputError(
                "log_joint has no gradient in z (it left torch on the way): write it with torch, or give gradient='score'"
            )


def minus_bound(prediction: dict[str, Tensor], y: Any) -> dict[str, Tensor]:
    """Minus the evidence lower bound in its two parts, nats: KL(q || p(z | x)) - log p(x)."""
    return prediction


def spread_start(z_ND: np.ndarray, log_p_N: np.ndarray, components: int) -> np.ndarray:
    """(K, D) places of high density that lie apart: k-means of the candidates, weighted by a tempered density."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    finite = np.isfinite(log_p_N)
    if not finite.any():
        raise InputError("log_joint is -inf wherever it was tried: start nearer to its mass, with another start_width")
    z, values = z_ND[finite], log_p_N[finite] - log_p_N[finite].max()
    wanted, low, high = min(0.05 * len(z), 16.0 * components), 0.0, 1.0
    for _ in range(40):  # the largest power of the density that leaves enough candidates a say
        power = (low + high) / 2
        weight = np.exp(power * values)
        enough = weight.sum() ** 2 / (weight**2).sum() > wanted
        low, high = (power, high) if enough else (low, power)
    weight = np.exp(low * values)
    if components == 1:
        return z[values.argmax()][None].astype(np.float32)  # in a mode, not between modes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        seed = int(torch.randint(2**31 - 1, ()))
        found = KMeans(components, n_init=4, random_state=seed).fit(z, sample_weight=weight + 1e-12)
    return found.cluster_centers_.astype(np.float32)
