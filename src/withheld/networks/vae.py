"""A variational autoencoder: a recognition network that guesses z, and a decoder that tells the image from z.

Shapes: B batch, S samples of z, Z latents, C H W image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from withheld.errors import InputError
from withheld.networks.image import ImageTrunk
from withheld.networks.layout import channels_last
from withheld.networks.recognition import MOST, RecognitionModel
from withheld.types import Pair

LIKELIHOODS = ("bernoulli", "gaussian", "logistic")
ACTIVE = 0.01
"""A latent is active where its posterior mean varies by more over the data (Burda et al. 2015)."""


class LatentAutoencoder(nn.Module):
    """p(x | z) p(z) with q(z | x); z is a standard normal vector.

    Args:
        trunk: a recognition network, or any backbone, which then gets two linear heads.
        latents: Z, of a backbone that is no recognition network.
        likelihood: "bernoulli", "gaussian" or "logistic" (discretized): what the decoder's output means.
        decoder: "mlp" or "conv".
        width: of the decoder's hidden layers.
        samples: S, of z for every item; more than one is for the importance-weighted bound.
    """

    def __init__(
        self, trunk: ImageTrunk, latents: int = 40, likelihood: str = "bernoulli", decoder: str = "mlp", width: int = 512,
        samples: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise InputError(f"likelihood={likelihood!r}: one of {', '.join(LIKELIHOODS)}")
        if decoder not in ("mlp", "conv"):
            raise InputError(f"decoder={decoder!r}: mlp or conv")
        if decoder == "conv" and trunk.size % 4:
            raise InputError(
                f"decoder=conv doubles the image twice, and {trunk.size} pixels are no multiple of 4: use mlp"
            )
        self.trunk, self.likelihood, self.samples = trunk, likelihood, samples
        self.own = isinstance(trunk.model, RecognitionModel)
        self.latents = trunk.width if self.own else latents
        if not self.own:
            self.heads = nn.Linear(trunk.width, 2 * latents)
        shape = (trunk.channels, trunk.size, trunk.size)
        self.decoder = (
            mlp_decoder(self.latents, width, shape) if decoder == "mlp" else conv_decoder(self.latents, shape)
        )
        if likelihood != "bernoulli":
            self.log_scale = nn.Parameter(torch.full((trunk.channels, 1, 1), -1.5))

    def fitted(self, sample: Pair) -> LatentAutoencoder:
        """Starts the decoder at the mean image.

        Raises:
            InputError: for pixels outside 0..1.
        """
        x = sample.x
        if float(x.min()) < 0 or float(x.max()) > 1:
            raise InputError(
                f"pixels are from {float(x.min()):.3g} to {float(x.max()):.3g}: likelihoods of pixels take 0..1; divide by "
                "the largest value, and keep Recipe(normalize=False)"
            )
        mean = x.float().mean(dim=0).clamp(0.01, 0.99)
        with torch.no_grad():
            last: Any = self.decoder[-1] if isinstance(self.decoder[-1], nn.ConvTranspose2d) else self.decoder[-2]
            bias = mean.logit().flatten() if isinstance(last, nn.Linear) else mean.mean(dim=(1, 2)).logit()
            last.bias.copy_(bias)
        return self

    def infer(self, t_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, Z) of q(z | x)."""
        if self.own:
            output = self.trunk.model(pixel_values=t_BCHW)
            return output.last_hidden_state.flatten(1), output.log_variance
        mean, spread = self.heads(self.trunk(t_BCHW).pooled).chunk(2, dim=1)
        return mean, MOST * torch.tanh(spread / MOST)

    def tell(self, z: Tensor) -> Tensor:
        """The decoder's output (..., C, H, W) for z (..., Z): logits of the pixels' means."""
        flat = self.decoder(z.reshape(-1, self.latents))
        return flat.view(*z.shape[:-1], *flat.shape[1:])

    def decode(self, z: Tensor) -> Tensor:
        """The mean image (..., C, H, W) within 0..1 for z (..., Z)."""
        return self.tell(z).sigmoid()

    def draw(self, count: int) -> Tensor:
        """Mean images (count, C, H, W) of z drawn from the prior."""
        where = next(self.decoder.parameters()).device
        return self.decode(torch.randn(count, self.latents, device=where))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Posterior, samples z (S, B, Z) by reparameterization, and what the decoder makes of them (S, B, C, H, W)."""
        mean, log_variance = self.infer(x)
        noise = torch.randn(self.samples, *mean.shape, device=mean.device, dtype=mean.dtype)
        z = mean + (0.5 * log_variance).exp() * noise
        told = {"mean": mean, "log_variance": log_variance, "z": z, "told": self.tell(z)}
        return told if self.likelihood == "bernoulli" else {**told, "log_scale": self.log_scale}

    def vitals(self, t: Tensor) -> dict[str, float]:
        """KL in nats, of the strongest dimension, active units, and how much z tells of which item it came from (nats)."""
        mean, log_variance = self.infer(t)
        kl = kl_by_dimension(mean, log_variance)
        active = int((mean.var(dim=0) > ACTIVE).sum())
        return {
            "kl": float(kl.sum()), "kl_strongest": float(kl.max()), "active_units": float(active),
            "mutual_information": float(mutual_information(mean, log_variance)),
        }  # fmt: skip


def kl_by_dimension(mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
    """(Z,) KL(q(z | x) || N(0, 1)) of every dimension, the mean over items, nats."""
    return 0.5 * (mean_BZ**2 + log_variance_BZ.exp() - 1 - log_variance_BZ).mean(dim=0)


def mutual_information(mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
    """I(x; z) under q, nats: E[log q(z | x) - log q(z)], q(z) over these items; at most log B (Hoffman and Johnson 2016)."""
    B = len(mean_BZ)
    deviation = (0.5 * log_variance_BZ).exp()
    z = mean_BZ + deviation * torch.randn(mean_BZ.shape, generator=torch.Generator().manual_seed(0)).to(mean_BZ)
    scaled = (z[:, None] - mean_BZ) / deviation  # (B of z, B of x, Z)
    log_q = -0.5 * (scaled**2 + log_variance_BZ).sum(dim=2)
    return (log_q.diagonal() - (torch.logsumexp(log_q, dim=1) - torch.tensor(float(B)).log())).mean()


def mlp_decoder(latents: int, width: int, shape: tuple[int, int, int]) -> nn.Sequential:
    """Two hidden layers."""
    values = shape[0] * shape[1] * shape[2]
    return nn.Sequential(
        nn.Linear(latents, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, values),
        nn.Unflatten(1, shape),
    )  # fmt: skip


class Maps(nn.Unflatten):
    """Rows of features as maps (C, H, W), channels innermost."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(1, shape)

    def forward(self, rows: Tensor) -> Tensor:
        """(B, C * H * W) as (B, C, H, W)."""
        return channels_last(super().forward(rows))


def conv_decoder(latents: int, shape: tuple[int, int, int], width: int = 64) -> nn.Sequential:
    """A quarter of the image, doubled twice."""
    side = shape[1] // 4
    return nn.Sequential(
        nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, width * side * side), nn.ReLU(),
        Maps((width, side, side)), nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(width // 2, shape[0], 4, stride=2, padding=1),
    )  # fmt: skip
