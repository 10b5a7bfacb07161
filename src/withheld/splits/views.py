"""What happens to whole images before they are split: batched, on the batch's device, random by torch's global generator.

Shapes: B batch, C channels, H W pixels, h side of a view.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from withheld.errors import InputError

LUMA = (0.299, 0.587, 0.114)
TO_YIQ = (LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))
FROM_YIQ = tuple(map(tuple, torch.tensor(TO_YIQ, dtype=torch.float64).inverse().tolist()))
SMALL = 64
"""Up to so many pixels a side, matrices are faster than sampling, and antialiased besides."""
UNIT = 4
"""Pixels that the sides of views which grow are multiples of."""
BLOCK = 16
"""Pixels that are blurred together."""
REACH = 4
"""So many sigma to each side a blur goes."""
MUCH = 1.5
"""How many pixels of an image become one of a view before neighbors that are not looked at show as noise."""
Units = tuple[Sequence[float], Sequence[float]]
"""Mean and deviation of each channel, by which pixels of 0 to 1 are normalized."""


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crops a random rectangle of every image and resizes it, (B, C, H, W) -> (B, C, size, size), one resampling a batch.

    Of a clip, (B, T, C, H, W), all frames get the same crop.

    Attributes:
        size: side of the result in pixels.
        scale: smallest and largest share of the area that is kept (Szegedy et al. 2014).
        aspect: smallest and largest ratio of the sides.
        flip: whether every second image is mirrored.
    """

    size: int
    scale: tuple[float, float] = (0.2, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __call__(self, t: Tensor) -> Tensor:
        if t.ndim == 5:
            return self(t.flatten(1, 2)).unflatten(1, t.shape[1:3])
        B, _, H, W = t.shape
        left, top, width, height, mirror = _rectangles(
            torch.rand(5, B, device=t.device, dtype=t.dtype), self.scale, self.aspect
        )
        sign = torch.where(mirror, -1.0, 1.0).to(t.dtype) if self.flip else torch.ones_like(width)
        zero = torch.zeros_like(width)
        row_x = torch.stack([width * sign, zero, 2 * left + width - 1], dim=1)
        row_y = torch.stack([zero, height, 2 * top + height - 1], dim=1)
        grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), [B, 1, self.size, self.size], align_corners=False)
        return F.grid_sample(t, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class View:
    """One random view of every image, as contrastive and teacher methods want them: (B, C, H, W) -> (B, C, size, size).

    Crop, mirror, resize and blur are one resampling: of small images a pair of matrices each, antialiased. Brightness, contrast,
    saturation, hue and grey are one matrix an image. With `mean` and `std` the views are normalized, and so are the images, unless
    they are bytes as stored: those are normalized together with the change of colors, and on a CPU large ones are resampled as
    bytes, which is faster and antialiased.

    Attributes:
        size: side of the view in pixels; 0 takes that of the images.
        scale: smallest and largest share of the area that is kept.
        aspect: smallest and largest ratio of the sides.
        flip: whether every second view is mirrored.
        color: how strongly colors change: brightness, contrast and saturation by factors of 1 +- 0.8 color, hue by 0.2 color of the
            circle (SimCLR's strength); 0 is off. Grey images have no saturation and no hue.
        changed: share of the views whose colors change.
        grey: share of the views without color.
        blur: share of the views that are blurred.
        sigma: least and most width of the blur, pixels of a view.
        solarize: share of the views whose bright half is inverted.
        mean, std: per channel, of what the images were normalized by; empty where they were not, or where it is not known.
    """

    size: int = 0
    scale: tuple[float, float] = (0.2, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    color: float = 0.5
    changed: float = 0.8
    grey: float = 0.2
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise InputError(f"scale={self.scale}: shares of the area, least and most, above 0 and at most 1")
        if not 0 <= self.color <= 1.25:
            raise InputError(
                f"color={self.color}: from 0, no change, to 1.25, factors of 0 to 2; SimCLR takes 0.5 to 1"
            )
        for name in ("changed", "grey", "blur", "solarize"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)}: the share of views, between 0 and 1")

    def in_units(self, mean: Sequence[float], std: Sequence[float]) -> View:
        """A copy for images normalized by these."""
        return dataclasses.replace(self, mean=tuple(mean), std=tuple(std))

    def shrunk(self, side: float) -> View:
        """A copy of this share of the side, a multiple of `UNIT` pixels, whose blur shrinks with it."""
        size = max(UNIT, round(side * self.size / UNIT) * UNIT)
        if side == 1 or size >= self.size:  # of images whose size is not known yet, too
            return self
        return dataclasses.replace(self, size=size, sigma=(self.sigma[0] * side, self.sigma[1] * side))

    def __call__(self, t: Tensor) -> Tensor:
        B, C = t.shape[:2]
        mean, std = self.mean or (0.0,) * C, self.std or (1.0,) * C
        in_bytes = t.dtype == torch.uint8
        given = ((0.0,) * C, (1 / 255,) * C) if in_bytes else (mean, std)
        draws_KB = torch.rand(17, B, device=t.device)
        view = self._resampled(t, draws_KB[:7])
        changes = self.color > 0 or (self.grey > 0 and C == 3)
        if changes:
            view = self._recolored(view, draws_KB[7:16], given, (mean, std))
        elif in_bytes:
            mean_C11, std_C11 = (view.new_tensor(values).view(C, 1, 1) for values in (mean, std))
            view = view.div_(255 * std_C11).sub_(mean_C11 / std_C11)
        if self.std and (changes or self.solarize):
            for channel, (black, white) in enumerate(self._bounds()):
                view[:, channel].clamp_(black, white)
            if self.solarize:
                low, high = (view.new_tensor(values).view(C, 1, 1) for values in zip(*self._bounds(), strict=True))
                inverted = (view > (low + high) / 2) & (draws_KB[16] < self.solarize).view(B, 1, 1, 1)
                view = torch.where(inverted, low + high - view, view)
        return view

    def _resampled(self, t: Tensor, draws_7B: Tensor) -> Tensor:
        """Crop, mirror, resize, blur; bytes become floats of 0 to 255."""
        h = self.size or t.shape[-2]
        rectangles = _rectangles(draws_7B[:5], self.scale, self.aspect)
        if not self.flip:
            rectangles = *rectangles[:4], torch.zeros_like(rectangles[4])
        low, high = self.sigma
        sigma_B = torch.where(draws_7B[5] < self.blur, low + (high - low) * draws_7B[6], 0.0)
        if max(*t.shape[-2:], h) <= SMALL:
            return self._by_matrices(t.float() if t.dtype == torch.uint8 else t, h, rectangles, sigma_B)
        if t.dtype != torch.uint8:
            view = self._by_sampling(t, h, rectangles)
        elif t.device.type == "cpu":
            view = self._by_bytes(t, h, rectangles).float()
        else:
            view = self._by_sampling(t.float(), h, rectangles)
        blurred = (sigma_B > 0).nonzero()[:, 0] if self.blur else sigma_B[:0].long()
        if len(blurred):
            view[blurred] = self._blurred(view[blurred], blur_matrix(h, sigma_B[blurred]).to(view.dtype))
        return view

    def _by_matrices(self, t: Tensor, h: int, rectangles: tuple[Tensor, ...], sigma_B: Tensor) -> Tensor:
        """Rows and columns of each image times a matrix of its own."""
        B, C, H, W = t.shape
        left, top, width, height, mirror = rectangles
        if H == W:
            turned = torch.cat([mirror, torch.zeros_like(mirror)])
            both = crop_matrix(W, h, torch.cat([left, top]) * W, torch.cat([width, height]) * W, turned)
            across_BhW, down_BhH = both.chunk(2)
        else:
            across_BhW = crop_matrix(W, h, left * W, width * W, mirror)
            down_BhH = crop_matrix(H, h, top * H, height * H)
        if self.blur:
            smear_Bhh = blur_matrix(h, sigma_B)
            across_BhW, down_BhH = smear_Bhh @ across_BhW, smear_Bhh @ down_BhH
        half = torch.bmm(t.reshape(B, C * H, W), across_BhW.to(t.dtype).mT).view(B, C, H, h)
        return down_BhH.to(t.dtype).unsqueeze(1) @ half

    @staticmethod
    def _by_bytes(t: Tensor, h: int, rectangles: tuple[Tensor, ...]) -> Tensor:
        """Whole pixels of each image cut out and resized, antialiased: a third of what sampling floats takes."""
        B, C, H, W = t.shape
        side_2B = torch.tensor([[W], [H]])
        begin_2B = (torch.stack(rectangles[:2]) * side_2B).round_().long()
        span_2B = (torch.stack(rectangles[2:4]) * side_2B).round_().long().clamp_(min=1)
        view = t.new_empty(B, C, h, h)
        places = torch.cat([begin_2B, begin_2B + span_2B]).T.tolist()
        for image, (left, top, right, bottom), mirrored, found in zip(
            t, places, rectangles[4].tolist(), view, strict=True
        ):
            part = image[None, :, top:bottom, left:right]
            part = F.interpolate(part, size=(h, h), mode="bilinear", antialias=True)[0]
            found.copy_(part.flip(-1) if mirrored else part)
        return view

    def _by_sampling(self, t: Tensor, h: int, rectangles: tuple[Tensor, ...]) -> Tensor:
        """Four pixels for each; images that shrink much, from a copy at a fraction of their size."""
        B, C, H, W = t.shape
        left, top, width, height, mirror = rectangles
        place = (torch.arange(h, device=t.device) + 0.5) / h
        x_Bh = 2 * (left[:, None] + torch.where(mirror[:, None], 1 - place, place) * width[:, None]) - 1
        y_Bh = 2 * (top[:, None] + place * height[:, None]) - 1
        grid = t.new_empty(B, h, h, 2)
        grid[..., 0], grid[..., 1] = x_Bh[:, None, :], y_Bh[:, :, None]
        view = F.grid_sample(t, grid, padding_mode="border", align_corners=False)
        most = max(H, W) * min(1.0, (self.scale[1] * max(self.aspect[1], 1 / self.aspect[0])) ** 0.5) / h
        shrinks_B = torch.maximum(width * W, height * H) / h
        for level in range(1, 1 + max(0, math.ceil(math.log2(most / MUCH)))):
            at = ((shrinks_B > MUCH * 2 ** (level - 1)) & (shrinks_B <= MUCH * 2**level)).nonzero()[:, 0]
            if len(at):
                smaller = F.interpolate(t[at], size=(-(-H // 2**level), -(-W // 2**level)), mode="area")
                view[at] = F.grid_sample(smaller, grid[at], padding_mode="border", align_corners=False)
        return view

    def _blurred(self, view_bChh: Tensor, smear_bhh: Tensor) -> Tensor:
        """Rows and columns times a matrix that is 0 far from its diagonal, so block by block."""
        b, C, h, _ = view_bChh.shape
        reach = math.ceil(REACH * self.sigma[1])
        blocks = [(at, min(h, at + BLOCK), max(0, at - reach), min(h, at + BLOCK + reach)) for at in range(0, h, BLOCK)]
        rows = view_bChh.flatten(1, 2)
        half = [torch.bmm(rows[:, :, s:e], smear_bhh[:, at:to, s:e].mT) for at, to, s, e in blocks]
        half_bChh = torch.cat(half, dim=2).view(b, C, h, h)
        return torch.cat([smear_bhh[:, None, at:to, s:e] @ half_bChh[:, :, s:e] for at, to, s, e in blocks], dim=2)

    def _recolored(self, view: Tensor, draws_9B: Tensor, given: Units, wanted: Units) -> Tensor:
        """Colors changed, of pixels that are normalized by `given`, and the result by `wanted`."""
        B, C = view.shape[:2]
        mean, std = (view.new_tensor(values) for values in given)
        wanted_mean, wanted_std = (view.new_tensor(values) for values in wanted)
        middle_BC = view.mean(dim=(2, 3)) * std + mean
        change = draws_9B[0] < self.changed
        factors_3B = torch.where(change, 1 + 0.8 * self.color * (2 * draws_9B[1:4] - 1), 1.0).clamp(min=0)
        turn_B = torch.where(change, 2 * math.pi * 0.2 * self.color * (2 * draws_9B[4] - 1), 0.0)
        grey_B = draws_9B[5] < self.grey
        if C != 3:
            gain, shift = grey_change(middle_BC, factors_3B)
            gain, shift = (
                gain.view(B, 1) * std / wanted_std,
                (gain.view(B, 1) * mean + shift.view(B, 1) - wanted_mean) / wanted_std,
            )
            return torch.addcmul(shift.view(B, C, 1, 1).to(view.dtype), view, gain.view(B, C, 1, 1).to(view.dtype))
        linear_B33, shift_B3 = color_matrix(middle_BC, factors_3B, turn_B, grey_B)
        shift_B3 = (linear_B33 @ mean + shift_B3 - wanted_mean) / wanted_std
        linear_B33 = linear_B33 * std / wanted_std[:, None]
        found = torch.baddbmm(shift_B3.unsqueeze(2).to(view.dtype), linear_B33.to(view.dtype), view.flatten(2))
        return found.view_as(view)

    def _bounds(self) -> list[tuple[float, float]]:
        """Black and white of each channel, in the images' own units."""
        return [(-mean / std, (1 - mean) / std) for mean, std in zip(self.mean, self.std, strict=True)]


def crop_matrix(length: int, size: int, start_B: Tensor, span_B: Tensor, mirror_B: Tensor | None = None) -> Tensor:
    """(B, size, length): resamples the part [start, start + span) of a line of pixels, bilinear, antialiased where it shrinks.

    The weights are Pillow's (`Image.resize` with a box and BILINEAR): triangles as wide as the step, at least a pixel.
    """
    step_B = span_B / size
    place = torch.arange(size, device=start_B.device) + 0.5
    center_Bh = start_B[:, None] + place * step_B[:, None]
    if mirror_B is not None:
        center_Bh = torch.where(mirror_B[:, None], center_Bh.flip(1), center_Bh)
    pixel = torch.arange(length, device=start_B.device) + 0.5
    apart_BhL = (pixel - center_Bh.unsqueeze(2)).abs_()
    weight_BhL = (1 - apart_BhL / step_B.clamp(min=1)[:, None, None]).clamp_(min=0)
    return weight_BhL / weight_BhL.sum(dim=2, keepdim=True)


def blur_matrix(size: int, sigma_B: Tensor) -> Tensor:
    """(B, size, size): a Gaussian blur along a line of pixels, of `REACH` sigma to each side; no blur where sigma is 0."""
    far = torch.arange(size, device=sigma_B.device)
    exponent_Bh = far.square() / (2 * sigma_B.clamp(min=1e-2).square())[:, None]
    # beyond REACH sigma is 0: tiny numbers are slow on a CPU
    kernel_Bh = torch.exp(-exponent_Bh).masked_fill_(exponent_Bh > REACH**2 / 2, 0.0)
    weight_Bhh = torch.cat([kernel_Bh.flip(1)[:, :-1], kernel_Bh], dim=1).unfold(1, size, 1).flip(1)
    return weight_Bhh / weight_Bhh.sum(dim=2, keepdim=True)


def color_matrix(middle_B3: Tensor, factors_3B: Tensor, turn_B: Tensor, grey_B: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, saturation and hue as one affine map of colors, (B, 3, 3) and (B, 3).

    Brightness scales; contrast moves away from the mean lightness of the image; saturation moves away from each pixel's own;
    hue turns the chroma plane of YIQ. Nothing is clamped in between, so all four commute and no order need be drawn: saturation and
    hue leave lightness alone, and what contrast adds is grey.

    Args:
        middle_B3: the mean color of each image, in 0..1. factors_3B: of brightness, contrast, saturation.
        turn_B: of the hue, radians. grey_B: whose color is taken away in the end.
    """
    luma, to_yiq, from_yiq = _constants(middle_B3.dtype, middle_B3.device)
    bright, contrast, saturation = factors_3B.to(middle_B3.dtype)[:, :, None, None]
    cos, sin = turn_B.cos(), turn_B.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn_B33 = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3).to(middle_B3.dtype)
    eye, project = torch.eye(3, device=luma.device, dtype=luma.dtype), luma.expand(3, 3)
    saturated = saturation * eye + (1 - saturation) * project
    chroma_B33 = from_yiq @ turn_B33 @ to_yiq @ saturated
    linear_B33 = bright * contrast * chroma_B33
    linear_B33 = torch.where(grey_B[:, None, None], project @ linear_B33, linear_B33)
    level_B1 = bright[:, :, 0] * (middle_B3 @ luma)[:, None]
    shift_B3 = ((1 - contrast[:, :, 0]) * level_B1).expand(-1, 3)
    return linear_B33, shift_B3


def grey_change(middle_BC: Tensor, factors_3B: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness and contrast of images that have no color, a gain (B,) and a shift (B,)."""
    bright, contrast = factors_3B[0].to(middle_BC.dtype), factors_3B[1].to(middle_BC.dtype)
    return bright * contrast, bright * (1 - contrast) * middle_BC.mean(dim=1)


@functools.cache
def _constants(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """LUMA, TO_YIQ and FROM_YIQ."""
    return tuple(torch.tensor(values, dtype=dtype, device=device) for values in (LUMA, TO_YIQ, FROM_YIQ))  # type: ignore[return-value]


def _rectangles(draws_5B: Tensor, scale: Sequence[float], aspect: Sequence[float]) -> tuple[Tensor, ...]:
    """Left, top, width, height as shares of the image, and whether it is mirrored, each (B,)."""
    area, ratio, place_x, place_y, mirror = draws_5B.unbind()
    area = scale[0] + (scale[1] - scale[0]) * area
    low, high = math.log(aspect[0]), math.log(aspect[1])
    side = (0.5 * (low + (high - low) * ratio)).exp()
    width, height = (area.sqrt() * side).clamp(max=1.0), (area.sqrt() / side).clamp(max=1.0)
    return place_x * (1 - width), place_y * (1 - height), width, height, mirror < 0.5
