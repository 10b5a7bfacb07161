"""How like real images samples are: the Frechet distance in fixed features, and sharpness; real against real is the floor.

Shapes: N images, D features, C H W pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.errors import InputError
from withheld.evaluate.features import Listen, as_image_encoder, features, silent
from withheld.evaluate.floors import Floor, oriented_gradients
from withheld.evaluate.generate import latent_of
from withheld.modalities.codes import decoded, images_of
from withheld.networks.code_prior import CodePrior
from withheld.objective import Objective
from withheld.run import Run, open_run
from withheld.wording import plural

Array = NDArray[np.floating]
FEW = 500
"""Images: of fewer, covariances of hundreds of features are noise, and so is what is told from them."""


@dataclass(frozen=True)
class Fidelity:
    """What was measured.

    Attributes:
        data: real images. items: of each set. features: in which distances were taken.
        distance: Frechet, samples to real; floor: real to other real ones, as many.
        sharpness: of samples over that of real images, the mean variance of the Laplacian; 1 is as sharp.
    """

    data: str
    items: int
    features: str
    distance: float
    floor: float
    sharpness: float

    def __str__(self) -> str:
        # of the data one half stands beside the samples and the other beside that half; --items counts one of them
        much = f"give data of {2 * FEW:,} images or more, and --items {FEW} or more"
        few = f"; of so few images a distance is mostly chance: {much}" if self.items < FEW else ""
        return (
            f"Frechet distance {self.distance:.4g} in {self.features}, real against real {self.floor:.4g} "
            f"({plural(self.items, 'image')} each, {self.data}); samples are {100 * self.sharpness:.0f} % as sharp as real images"
            f"{few}"
        )

    def to_json(self) -> dict[str, Any]:
        """A line of results.jsonl."""
        return {"kind": "fidelity", **asdict(self)}


def fidelity(
    run: Run, data: Any, items: int = 2000, encoder: str | None = None, seed: int = 0, listen: Listen = silent
) -> Fidelity:
    """Compares images drawn from a run with real ones.

    Args:
        run: of vae or code_prior.
        data: real images; their test part where they have one.
        items: of each of three sets: samples, real, other real.
        encoder: whose features to take; None takes a classical floor (oriented gradients), which no run was trained for.
        listen: is told {"kind": "prepare", "samples" or "features", "done", "total"}.

    Raises:
        InputError: a run that draws no images, or fewer than four of them in `data`.
    """
    model = run.objective()
    if not isinstance(model, Objective):
        raise InputError(f"{run.folder}: a run of {run.settings['title']} draws rows, not images")
    if not isinstance(model.network, CodePrior):
        latent_of(run, model)  # before any image is read: a run that draws none ends here
    first = open_run(run.settings["data"]["location"][4:]) if isinstance(model.network, CodePrior) else run
    tell = lambda kind, **more: listen({"kind": kind, **more})  # noqa: E731
    real = np.array(images_of(first, data, "test", tell).images)
    items = min(items, len(real) // 2)
    if items < 2:
        raise InputError(f"{data}: {plural(len(real), 'image')}; give at least 4")
    chosen = np.random.default_rng(seed).permutation(len(real))[: 2 * items]
    torch.manual_seed(seed)
    drawn = _drawn(run, first, model, items, listen)
    samples = (255 * drawn.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
    name, of = _features(encoder, listen)
    told = [np.asarray(of(part), np.float64) for part in (samples, real[chosen[:items]], real[chosen[items:]])]
    sharp = [sharpness(part) for part in (samples, real[chosen[:items]])]
    return Fidelity(
        str(data), items, name, frechet(told[0], told[1]), frechet(told[2], told[1]), sharp[0] / max(1e-12, sharp[1])
    )


def frechet(a_ND: Array, b_ND: Array) -> float:
    """Squared Frechet distance of the Gaussians of two sets of features (Dowson and Landau 1982; Heusel et al. 2017).

    |m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2).
    """
    a, b = np.atleast_2d(np.cov(a_ND.T)), np.atleast_2d(np.cov(b_ND.T))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    middle = np.linalg.eigvalsh(root @ b @ root)
    away = a_ND.mean(axis=0) - b_ND.mean(axis=0)
    return float(away @ away + np.trace(a) + np.trace(b) - 2 * np.sqrt(np.maximum(middle, 0)).sum())


def sharpness(images_NCHW: Array) -> float:
    """Mean variance of the Laplacian of grey images, pixels in 0..1 (Pech-Pacheco et al. 2000)."""
    grey = images_NCHW.astype(np.float64).mean(axis=1) / 255
    laplacian = (
        grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] + grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] - 4 * grey[:, 1:-1, 1:-1]
    )
    return float(laplacian.var(axis=(1, 2)).mean())


@torch.no_grad()
def _drawn(run: Run, first: Run, model: Objective, items: int, listen: Listen) -> Tensor:
    """(N, C, H, W) samples."""
    parts: list[Tensor] = []
    for n in _parts(items):
        listen({"kind": "samples", "done": sum(len(part) for part in parts), "total": items})
        prior = isinstance(model.network, CodePrior)
        parts.append(decoded(first, model.network, n) if prior else latent_of(run, model).draw(n))
    listen({"kind": "samples", "done": items, "total": items})
    return torch.cat(parts)


def _features(encoder: str | None, listen: Listen) -> tuple[str, Any]:
    """What they are called, and what takes them of (N, C, H, W) uint8."""
    if encoder is not None:
        opened = as_image_encoder(encoder)
        return f"features of {opened.name}", lambda images: features(opened, images, listen=listen)
    return "oriented gradients (HOG)", lambda images: features(Floor(oriented_gradients), images, listen=listen)


def _parts(count: int, most: int = 256) -> list[int]:
    return [most] * (count // most) + ([count % most] if count % most else [])
