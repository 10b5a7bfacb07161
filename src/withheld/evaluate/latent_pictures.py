"""What a model of latent variables has to show: reconstructions, samples, the plane of z, traversals, interpolations.

Shapes: B batch, Z latents, C H W images within 0..1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from withheld.evaluate.canvas import Tile, enlargement, pixels_of, strip, tile
from withheld.evaluate.plot import COLORS, SOFT, drawn, plot
from withheld.wording import plural

SHOWN, ACROSS, SPAN = 8, 11, 3.0
MOST_TRAVERSED, SIDE = 10, 15
WANTED = 56
Entry = dict[str, Any]


@runtime_checkable
class Latent(Protocol):
    """A network with a z that items can be told from."""

    latents: int

    def infer(self, t_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, Z) of q(z | x)."""

    def decode(self, z: Tensor) -> Tensor:
        """Images (..., C, H, W) within 0..1."""

    def draw(self, count: int) -> Tensor:
        """Images from the prior."""


def to_tile(image_CHW: Tensor, wanted: int = WANTED) -> Tile:
    """One image as a tile."""
    pixels = pixels_of(image_CHW)
    return tile(pixels, None, enlargement(pixels.shape[1], wanted))


def grid(images: Tensor, across: int, gap: int = 2) -> Tile:
    """(n, C, H, W) as one picture, so many beside each other."""
    from PIL import Image

    tiles = [to_tile(image) for image in images]
    width, height = tiles[0].width + gap, tiles[0].height + gap
    out = Image.new("RGBA", (across * width - gap, -(-len(tiles) // across) * height - gap), (0, 0, 0, 0))
    for at, each in enumerate(tiles):
        out.paste(each, ((at % across) * width, (at // across) * height))
    return out


def entry(section: str, picture: Tile, title: str, caption: str, data: Entry | None = None) -> Entry:
    """One picture of the index, still with its tile."""
    return {"section": section, "title": title, "caption": caption, "data": data or {}, "picture": picture}


@torch.no_grad()
def latent_entries(network: Latent, t: Tensor, seed: int = 0) -> list[Entry]:
    """Everything, for images t (B, C, H, W) as the network is fed."""
    mean, log_variance = network.infer(t)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(dim=0)
    order = kl.argsort(descending=True).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        samples = network.draw(60)
    again = network.decode(mean[:SHOWN])
    pairs = [strip([to_tile(item, 96), to_tile(told, 96)]) for item, told in zip(t[:SHOWN], again, strict=True)]
    entries = [entry("reconstructions", pair, "", "", {"columns": ["item", "from z"]}) for pair in pairs]
    entries += drawn_entries(samples)
    entries.append(manifold(network, mean, order))
    caption = f"{sum(float(m) > 0.01 for m in mean.var(dim=0))} of {plural(len(kl), 'dimension')} are active."
    for at in order[:MOST_TRAVERSED]:
        if float(mean[:, at].var()) > 0.01:
            title = f"z{at}, {float(kl[at]):.2f} nats"
            entries.append(entry("traversals", grid(traversed(network, mean[0], at), ACROSS), title, caption))
    for at in range(min(4, len(t) // 2)):
        path = interpolated(network, mean[2 * at], mean[2 * at + 1])
        whole = torch.cat([t[2 * at : 2 * at + 1], path, t[2 * at + 1 : 2 * at + 2]])
        entries.append(entry("interpolations", grid(whole, ACROSS), "", "The items themselves at both ends."))
    return [*entries, aggregate(mean, log_variance, order)]


def drawn_entries(samples: Tensor) -> list[Entry]:
    """Samples in strips of twelve."""
    return [entry("drawn", grid(part, 12), "", "") for part in samples.split(12)]


def draw_drawn(samples: Tensor, folder: str | Path) -> Path:
    """Samples alone, into `folder`/pictures."""
    from withheld.evaluate.pictures import keep

    return keep(Path(folder), drawn_entries(samples))


@torch.no_grad()
def traversed(network: Latent, z: Tensor, dimension: int, steps: int = ACROSS) -> Tensor:
    """(steps, C, H, W): one z with a dimension moved from -3 to 3."""
    moved = z.repeat(steps, 1)
    moved[:, dimension] = torch.linspace(-SPAN, SPAN, steps, device=z.device)
    return network.decode(moved)


@torch.no_grad()
def interpolated(network: Latent, a: Tensor, b: Tensor, steps: int = ACROSS - 2) -> Tensor:
    """(steps, C, H, W) along the line from one z to another."""
    part = torch.linspace(0, 1, steps, device=a.device)[:, None]
    return network.decode((1 - part) * a + part * b)


def manifold(network: Latent, mean: Tensor, order: list[int]) -> Entry:
    """The plane of the two strongest dimensions through the inverse Gaussian CDF (Kingma and Welling 2013, figure 4)."""
    at = (torch.arange(SIDE) + 0.5) / SIDE
    place = math.sqrt(2) * torch.erfinv(2 * at - 1)
    z = mean.new_zeros(SIDE * SIDE, mean.shape[1])
    first, second = (order * 2)[:2]
    z[:, second], z[:, first] = place.flip(0).repeat_interleave(SIDE).to(z), place.repeat(SIDE).to(z)
    rest = (
        "" if mean.shape[1] == 2 else f" z{first} to the right, z{second} upwards, the other {mean.shape[1] - 2} at 0."
    )
    caption = f"Every step is as likely as the next under the prior.{rest}"
    return entry("manifold", grid(network.decode(z), SIDE, gap=0), "", caption)


def aggregate(mean: Tensor, log_variance: Tensor, order: list[int]) -> Entry:
    """Posterior means of many items beside the prior's circles."""
    first, second = (order * 2)[:2]
    a, b = mean[:, first].cpu().numpy(), mean[:, second].cpu().numpy()
    variance = (mean.var(dim=0) + log_variance.exp().mean(dim=0))[[first, second]].tolist()
    figure, axes = plot(4.8, 4.6)
    turn = np.linspace(0, 2 * np.pi, 200)
    for radius in (1, 2, 3):
        axes.plot(radius * np.cos(turn), radius * np.sin(turn), color=SOFT, linewidth=0.7, linestyle=":")
    axes.scatter(a, b, s=8, color=COLORS[0], alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    axes.set_xlabel(f"z{first}", color=SOFT, fontsize=9)
    axes.set_ylabel(f"z{second}", color=SOFT, fontsize=9)
    told = (
        f"{len(mean):,} items; dotted: one, two and three deviations of the prior. Over all items q(z) has the variances "
        f"{variance[0]:.2f} and {variance[1]:.2f} here; the prior has 1."
    )
    return entry("posterior", drawn(figure), "", told)
