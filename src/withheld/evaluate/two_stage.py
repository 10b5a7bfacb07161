"""Bits per dimension of a model in two stages, both counted: -log p(codes) - log p(x | codes).

The codes of an image are the encoder's one choice, so this is a bound of -log p(x) from above. A prior's bits alone are no
likelihood of images.

Shapes: B batch, L codes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.data.sample import spaced
from withheld.losses.latent import log_logistic
from withheld.modalities.codes import as_fed, images_of, quantizing
from withheld.networks.quantizer import perplexity
from withheld.run import Run, open_run
from withheld.wording import plural

FITTED = 1000
SCALES = torch.linspace(-6.0, -1.0, 51)
"""Log scales of the logistic noise around the decoder's image that are tried on training images."""


@dataclass(frozen=True)
class TwoStage:
    """What was measured on held-out images; nats an image.

    Attributes:
        top, bottom: -log p of the codes. image: -log p(x | codes), 256 levels, a logistic of one scale fitted on training images.
        bits: per value of the image, both stages. error: squared error of the reconstruction over the variance.
        top_perplexity, bottom_perplexity: of the held-out codes.
    """

    data: str
    items: int
    top: float
    bottom: float
    image: float
    bits: float
    error: float
    top_perplexity: float
    bottom_perplexity: float

    def __str__(self) -> str:
        return (
            f"{self.bits:.3f} bits a value on {plural(self.items, 'item')} of {self.data}: codes {self.top:.1f} (top) + "
            f"{self.bottom:.1f} (bottom) nats, image given codes {self.image:.1f} nats; reconstruction error / variance "
            f"{self.error:.4f}, perplexity {self.top_perplexity:.0f} (top), {self.bottom_perplexity:.0f} (bottom)"
        )

    def to_json(self) -> dict[str, Any]:
        """A line of results.jsonl."""
        return {"kind": "likelihood", **asdict(self)}


@torch.no_grad()
def two_stage(prior_run: Run, data: Any, items: int | None = None) -> TwoStage:
    """Measures a code_prior run and the vq_vae2 run it learned from on the test part of data."""
    prior = prior_run.objective().network
    run = open_run(prior_run.settings["data"]["location"][4:])
    network = quantizing(run)
    log_scale = _fitted_scale(run, network)
    test = images_of(run, data, "test")
    at = spaced(len(test), items or len(test))
    tops, top_codes, bottom_codes, squares = prior.shape.tops, [], [], 0.0
    sums = torch.zeros(3, dtype=torch.float64)
    total, square_total, count = 0.0, 0.0, 0
    for first in range(0, len(at), 256):
        pixels = test.images[at[first : first + 256]]
        fed = as_fed(run, pixels)
        top, bottom = network.codes(fed)
        again = network.decode_codes(top, bottom)
        squares += float(((again - fed) ** 2).sum())
        total, square_total, count = total + float(fed.sum()), square_total + float((fed**2).sum()), count + fed.numel()
        sequence = torch.cat([top.flatten(1), bottom.flatten(1)], dim=1)
        log_p = prior(sequence[:, :-1]).log_softmax(dim=2).gather(2, sequence[:, :, None]).squeeze(2).double()
        image = torch.from_numpy(np.array(pixels)).float() / 255
        sums += torch.stack(
            [-log_p[:, :tops].sum(), -log_p[:, tops:].sum(), -_log_image(run, again, image, log_scale).sum()]
        )
        top_codes.append(top)
        bottom_codes.append(bottom)
    nats = (sums / len(at)).tolist()
    values = math.prod(test.images.shape[1:])
    variance = square_total / count - (total / count) ** 2
    return TwoStage(
        str(data), len(at), nats[0], nats[1], nats[2], sum(nats) / values / math.log(2), squares / count / variance,
        perplexity(torch.cat(top_codes), network.book_size), perplexity(torch.cat(bottom_codes), network.book_size),
    )  # fmt: skip


def _fitted_scale(run: Run, network: Any) -> Tensor:
    train = images_of(run, None, "train")
    pixels = train.images[: min(FITTED, len(train))]
    again = network.reconstruct(as_fed(run, pixels))
    image = torch.from_numpy(np.array(pixels)).float() / 255
    found = torch.stack([_log_image(run, again, image, scale).sum() for scale in SCALES])
    return SCALES[int(found.argmax())]


def _log_image(run: Run, again: Tensor, image: Tensor, log_scale: Tensor) -> Tensor:
    """(B,) log p(x | codes), x of 256 levels."""
    view = (1, -1, 1, 1)
    mean = again * torch.tensor(run.settings["std"]).view(view) + torch.tensor(run.settings["mean"]).view(view)
    return log_logistic(mean.clamp(1e-4, 1 - 1e-4).logit()[None], image, log_scale)[0].double()
