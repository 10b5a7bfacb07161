"""Views of one patch of an image, and the question which patch it was.

Shapes: B batch, C channels, S side of an image as it comes, V views, h side of a view. Coordinates of an image are -1 to 1.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from withheld.errors import InputError
from withheld.types import Pair, Split

GOLDEN = 2654435769  # of 2 ** 32
LUMA = (0.299, 0.587, 0.114)
LEAST, COARSE = 24, 40


@dataclass(frozen=True)
class ExemplarViews(Split):
    """Random views of a seed patch, to be told from those of all other seeds.

    Dosovitskiy et al. 2014, https://arxiv.org/abs/1406.6909. A seed is a patch of an item, picked with a probability in proportion
    to its mean squared gradient; which one is a function of the item's number, so that it is the same in every epoch.

    t is {"item": (B, C, S, S) within 0..1, "id": (B,)}; x (B, V, C, h, h) are views of one of each item's seeds, normalized;
    y (B, V) is the seed's number. A view is one affine resampling of the whole image (so that nothing beyond the patch is made
    up), then contrast along the principal components of the colors, then power, factor and shift of saturation and value, and a
    shift of the hue.

    Attributes:
        size: side of the whole images the encoder sees, pixels: the scale of `side`.
        side: of a seed and of its views in pixels; 0 takes a third of `size`, at least 24.
        multiple: a side is of this many pixels, for a trunk that cuts patches.
        views: V.
        seeds: of an item.
        translation: at most this share of the side, both ways.
        scale: at most this factor; at least half of it (1.4 gives the paper's 0.7 to 1.4); 1 is off.
        rotation: at most so many degrees, both ways.
        contrast: at most this factor on each principal component, at least its inverse; 1 is off.
        power: at most this power of saturation and value, at least its inverse, with a factor of 0.7 to 1.4 and a shift of 0.1;
            1 is off.
        hue: at most this shift, a share of the circle.
        mean, std, components: of the pixels' channels, found from the data: components are unit vectors, a row each.
    """

    asks: ClassVar[tuple[str, ...]] = ("id",)
    size: int = 96
    side: int = 0
    multiple: int = 1
    views: int = 1
    seeds: int = 1
    translation: float = 0.2
    scale: float = 1.4
    rotation: float = 20.0
    contrast: float = 2.0
    power: float = 4.0
    hue: float = 0.1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    components: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in ("scale", "contrast", "power"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} is below 1: it is the largest factor, and 1 is off")
        if self.pixels > self.size:
            raise InputError(
                f"side={self.pixels} is larger than the images of {self.size}: choose a smaller --set side"
            )

    @property
    def pixels(self) -> int:
        """h: the side of a view."""
        side = self.side or min(self.size, max(LEAST, self.size // 3))
        return max(self.multiple, side // self.multiple * self.multiple)

    def __call__(self, t: Any) -> Pair:
        item, number = t["item"], t["id"]
        if self.seeds > 1:
            number = number * self.seeds + torch.randint(self.seeds, number.shape, device=number.device)
        return Pair(self.views_of(item, self.pick(item, number)), number[:, None].expand(-1, self.views))

    def views_of(self, t_BCSS: Tensor, centers_B2: Tensor) -> Tensor:
        """Views (B, V, C, h, h) of the seeds with these middles, normalized."""
        views = self.color(self.resample(t_BCSS, centers_B2))
        return self.full(views.flatten(0, 1)).view(views.shape)

    def exemplars(self, t: Tensor, number_B: Tensor, views: int) -> Tensor:
        """Seeds, each followed by views of it, (B, 1 + views, C, h, h) within 0..1: to look at."""
        centers = self.pick(t, number_B)
        plain = dataclasses.replace(self, views=1, translation=0.0, scale=1.0, rotation=0.0)
        drawn = dataclasses.replace(self, views=views)
        return torch.cat([plain.resample(t, centers), drawn.color(drawn.resample(t, centers))], dim=1)

    def pick(self, t_BCSS: Tensor, number_B: Tensor) -> Tensor:
        """The middles (B, 2), x and y, of the seeds of these numbers: a fixed draw in proportion to the mean squared gradient."""
        step = max(1, t_BCSS.shape[-1] // COARSE)
        # a coarse picture tells where there is something to see; columns last: to skip them is slow, and only one channel is left
        light = lightness(t_BCSS[:, :, ::step])[:, :, ::step].contiguous()
        S = light.shape[-1]
        window = min(S, max(1, round(self.pixels * S / self.size)))
        energy = box_means(gradient_energy(light), window)
        share = (energy + 1e-6 * energy.amax(dim=(1, 2), keepdim=True) + 1e-12).flatten(1).cumsum(dim=1)
        # multiples of the golden ratio, less whole turns, fill 0..1 evenly; in whole numbers, so that no machine rounds another way
        drawn = torch.remainder((number_B + 1) * GOLDEN, 2**32).to(share.dtype) / 2**32
        at = torch.searchsorted(share, (drawn * share[:, -1]).unsqueeze(1)).squeeze(1).clamp(max=share.shape[1] - 1)
        corner = torch.stack([at % energy.shape[2], at // energy.shape[2]], dim=1)
        return (2 * (corner + window / 2) / S - 1).to(t_BCSS.dtype)

    def resample(self, t_BCSS: Tensor, centers_B2: Tensor) -> Tensor:
        """Moved, scaled and turned patches (B, V, C, h, h) around centers, by one bilinear resampling."""
        B, C = t_BCSS.shape[:2]
        V, h, half = self.views, self.pixels, self.pixels / self.size
        move_x, move_y, grow, turn = torch.rand(4, B, V, device=t_BCSS.device, dtype=t_BCSS.dtype).unbind()
        least = self.scale / 2 if self.scale > 1 else 1.0
        grow = half * (least + (self.scale - least) * grow)
        angle = math.radians(self.rotation) * (2 * turn - 1)
        along, across = grow * angle.cos(), grow * angle.sin()
        x, y = (
            centers_B2[:, None, axis] + 2 * half * self.translation * (2 * move - 1)
            for axis, move in ((0, move_x), (1, move_y))
        )
        maps_BV6 = torch.stack([along, -across, x, across, along, y], dim=-1)
        # the views of an image stand under each other, so that it is read where it lies and never repeated
        grid = (maps_BV6.flatten(0, 1) @ _frame(h, t_BCSS.dtype, t_BCSS.device)).view(B, V * h, h, 2)
        found = F.grid_sample(t_BCSS, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        return found.view(B, C, V, h, h).transpose(1, 2)

    def color(self, views_BVChh: Tensor) -> Tensor:
        """The same views with other contrast, saturation, value and hue, each view its own; within 0..1."""
        flat = views_BVChh.flatten(0, 1)
        N, C = flat.shape[:2]
        if self.contrast > 1 and self.components:
            axes, middle = flat.new_tensor(self.components), flat.new_tensor(self.mean).view(C, 1)
            factor = _up_or_down(self.contrast, (N, C, 1), flat)
            matrix = axes.T @ (factor * axes)
            flat = torch.baddbmm(middle - matrix @ middle, matrix, flat.flatten(2)).view(flat.shape)
        flat = flat.clamp(0, 1)
        if C == 3 and (self.power > 1 or self.hue):
            flat = self._hsv(flat)
        elif self.power > 1:
            flat = self._curve(flat)
        return flat.view(views_BVChh.shape)

    def full(self, t: Tensor) -> Tensor:
        """Whole images within 0..1, normalized per channel."""
        if not self.mean:
            return t
        mean, std = (t.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (t - mean).mul_(1 / std)

    def fitted(self, sample: Any) -> ExemplarViews:
        """Finds mean, deviation and principal components of the pixels' channels."""
        pixels = sample["item"].cpu().double().transpose(0, 1).flatten(1)
        mean, std = pixels.mean(dim=1), pixels.std(dim=1, correction=0).clamp_min(1e-3)
        _, axes = torch.linalg.eigh(torch.cov(pixels, correction=0).reshape(len(pixels), -1))
        return dataclasses.replace(
            self,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            components=tuple(tuple(axis) for axis in axes.T.tolist()),
        )

    def _hsv(self, t_N3hh: Tensor) -> Tensor:
        hue, saturation, value = to_hsv(t_N3hh)
        if self.power > 1:
            saturation, value = self._curve(saturation), self._curve(value)
        if self.hue:
            hue = hue + _between(-self.hue, self.hue, (len(hue), 1, 1), hue)
        return from_hsv(hue, saturation, value)

    def _curve(self, part: Tensor) -> Tensor:
        """A power, a factor and a shift, drawn for every view, on values within 0..1."""
        shape = (len(part), *(1,) * (part.ndim - 1))
        power = _up_or_down(self.power, shape, part)
        factor, shift = _between(0.7, 1.4, shape, part), _between(-0.1, 0.1, shape, part)
        # by logarithm and exponential: `pow` with an exponent a view takes twice as long
        return part.clamp_min(1e-6).log_().mul_(power).exp_().mul_(factor).add_(shift).clamp_(0, 1)


@functools.cache
def _frame(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(6, side * side * 2): what six numbers of an affine map are multiplied with to be a grid, as `F.affine_grid` lays it out."""
    at = (2 * torch.arange(side, dtype=dtype, device=device) + 1) / side - 1
    one = torch.ones(side, side, dtype=dtype, device=device)
    u, v = at * one, at[:, None] * one
    frame = torch.zeros(6, side, side, 2, dtype=dtype, device=device)
    for row, part in enumerate((u, v, one)):
        frame[row, :, :, 0], frame[row + 3, :, :, 1] = part, part
    return frame.flatten(1)


def lightness(t_BCSS: Tensor) -> Tensor:
    """Luma of colors, the mean of other channels: (B, S, S)."""
    C = t_BCSS.shape[1]
    first, *others = LUMA if C == 3 else (1 / C,) * C
    light = first * t_BCSS[:, 0]
    for channel, weight in enumerate(others, 1):
        light.add_(t_BCSS[:, channel], alpha=weight)
    return light


def gradient_energy(light_BSS: Tensor) -> Tensor:
    """Squared gradient (B, S, S), central differences as in `numpy.gradient`."""
    energy = torch.empty_like(light_BSS)
    for axis in (1, 2):
        length = light_BSS.shape[axis]
        slope = torch.empty_like(light_BSS) if axis == 2 else energy
        middle = slope.narrow(axis, 1, length - 2)
        torch.sub(light_BSS.narrow(axis, 2, length - 2), light_BSS.narrow(axis, 0, length - 2), out=middle)
        middle.mul_(0.5)
        for edge in (0, length - 2):
            at = 0 if edge == 0 else length - 1
            slope.narrow(axis, at, 1).copy_(light_BSS.narrow(axis, edge + 1, 1) - light_BSS.narrow(axis, edge, 1))
        energy = slope.square_() if axis == 1 else energy.addcmul_(slope, slope)
    return energy


def box_means(values_BSS: Tensor, window: int) -> Tensor:
    """Means over every square of a side, (B, S - window + 1, S - window + 1), from one table of sums."""
    sums = F.pad(values_BSS.cumsum(dim=1).cumsum(dim=2), (1, 0, 1, 0))
    area = (
        sums[:, window:, window:]
        - sums[:, :-window, window:]
        - sums[:, window:, :-window]
        + sums[:, :-window, :-window]
    )
    return (area / window**2).clamp_min(0)


def to_hsv(t_N3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value, each (N, H, W), as in colorsys; a hue below 0 is one below 1, a turn back.

    Choices are weights of 0 and 1: `torch.where` takes five times as long as an addition on a CPU.
    """
    red, green, blue = t_N3HW.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    sixth = (6 * chroma).clamp_min_(1e-8).reciprocal_()
    hue = (red - green).mul_(sixth).add_(2 / 3)
    hue = torch.lerp(hue, (blue - red).mul_(sixth).add_(1 / 3), _equal(value, green))
    hue = torch.lerp(hue, (green - blue).mul_(sixth), _equal(value, red))
    return hue, chroma.div_(value.clamp_min(1e-8)), value


def from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Images (N, 3, H, W); a hue outside 0..1 goes round."""
    chroma = value * saturation
    least = value - chroma
    place = (hue - hue.floor()).mul_(6)  # `remainder` takes ten times as long on a CPU
    red = (place - 3).abs_().sub_(1).clamp_(0, 1)
    green = torch.rsub((place - 2).abs_(), 2).clamp_(0, 1)
    blue = torch.rsub(place.sub_(4).abs_(), 2).clamp_(0, 1)
    found = value.new_empty(len(value), 3, *value.shape[1:])
    for channel, part in enumerate((red, green, blue)):
        torch.addcmul(least, chroma, part, out=found[:, channel])
    return found


def _equal(a: Tensor, b: Tensor) -> Tensor:
    return torch.eq(a, b, out=torch.empty_like(a))


def _between(low: float, high: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    return low + (high - low) * torch.rand(shape, device=like.device, dtype=like.dtype)


def _up_or_down(most: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Factors whose logarithm is uniform, so that as many make less as make more."""
    return _between(-math.log(most), math.log(most), shape, like).exp()
