"""Color hidden, lightness seen.

Shapes: B batch, C channels that the network takes, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from withheld.color import check_color, chroma, lightness, to_lab, to_srgb
from withheld.errors import InputError
from withheld.types import Pair, Split

MIDDLE, UNIT = 50.0, 25.0
"""x is (L - MIDDLE) / UNIT: of mean and deviation near 0 and 1 for photographs."""
GREY = 2.0
"""Mean chroma below which an image counts as grey: JPEG leaves some in grey scans, photographs have 10 to 25."""
MOST_GREY = 0.5
SHOWN = 65.0
"""Lightness at which colors alone are drawn."""


@dataclass(frozen=True)
class HideColor(Split):
    """Shows the lightness of an image and hides its color, in CIE Lab (Zhang et al. 2016, https://arxiv.org/abs/1603.08511).

    Takes sRGB in 0..1, not normalized. x is (L - 50) / 25, (B, channels, H, W), the same in every channel; y is ab,
    (B, 2, H, W), in units of Lab.

    Attributes:
        channels: that the network takes.
    """

    hides: ClassVar[bool] = True
    channels: int = 3

    def __call__(self, t: Tensor) -> Pair:
        check_color(t, "HideColor")
        lab = to_lab(t)
        return Pair(self._seen(lab[:, :1]), lab[:, 1:])

    def full(self, t: Tensor) -> Tensor:
        """The lightness of sRGB images in 0..1: L of CIE Lab (D65), as (L - 50) / 25, the same in every channel."""
        return self._seen(lightness(t) if t.shape[1] == 3 else lightness(t[:, :1].expand(-1, 3, -1, -1)))

    def merge(self, pair: Pair) -> Tensor:
        """The image (B, 3, H, W) of a lightness and colors, true or predicted, sRGB, not cut to 0..1."""
        return to_srgb(torch.cat([pair.x[:, :1] * UNIT + MIDDLE, pair.y.to(pair.x.dtype)], dim=1))

    def drawn(self, pair: Pair) -> Pair:
        """The grey image, and the colors at one lightness."""
        even = torch.full_like(pair.x, (SHOWN - MIDDLE) / UNIT)
        return Pair(self.merge(Pair(pair.x, torch.zeros_like(pair.y))), self.merge(Pair(even, pair.y)).clamp(0, 1))

    def remarks(self, sample: Any) -> list[str]:
        """How many images of a sample are grey: of them there is nothing to learn.

        Raises:
            InputError: where more than half are.
        """
        check_color(sample, "colorization")
        grey = (chroma(to_lab(sample)[:, 1:]).mean(dim=(1, 2)) < GREY).float().mean().item()
        said = f"{100 * grey:.0f} % of {len(sample)} images looked at are grey: they have no color to learn from"
        if grey > MOST_GREY:
            raise InputError(f"{said}. Colorization needs color images; leave the grey ones out, or use mae")
        return [said] if grey else []

    def _seen(self, L_B1HW: Tensor) -> Tensor:
        return ((L_B1HW - MIDDLE) / UNIT).expand(-1, self.channels, -1, -1)
