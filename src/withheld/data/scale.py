"""Fixed scales and linear resizing of arrays: what 16 bit, float and multi-channel data go through.

Axes in comments: N items, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

MAX_CHANNELS = 64


@dataclass(frozen=True)
class Scale:
    """What becomes 0 and what becomes 255, one value for all channels or one a channel; one scale serves a whole set.

    Attributes:
        low: value that becomes 0.
        high: value that becomes 255.
        floats: the scale of float images, where the set holds whole numbers and floats; None where one serves all.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    floats: Scale | None = field(default=None, repr=False)

    def words(self) -> str:
        """Such as "0 becomes black and 4095 white"."""
        ends = f"{min(self.low):g} becomes black and {max(self.high):g} white"
        return (
            ends
            if self.floats is None
            else f"of those of whole numbers {ends}, of those of floats {self.floats.words()}"
        )

    def of(self, dtype: np.dtype) -> Scale:
        """The scale of images of a type."""
        return self.floats if self.floats is not None and dtype.kind == "f" else self

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        plain = {"low": list(self.low), "high": list(self.high)}
        return plain if self.floats is None else {**plain, "floats": self.floats.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any] | None) -> Scale | None:
        """What `to_json` wrote; None stays None."""
        if value is None:
            return None
        return cls(tuple(value["low"]), tuple(value["high"]), cls.from_json(value.get("floats")))


def dtype_scale(dtype: np.dtype) -> Scale:
    """The scale of data of which no sample was seen: the full range of integers, 0 to 1 for floats."""
    if dtype.kind in "bf":
        return Scale((0.0,), (1.0,))
    return Scale((0.0,), (float(np.iinfo(dtype).max),))


def find_scale(samples: list[np.ndarray]) -> Scale | None:
    """One scale for a whole set, from a sample of its images: never one per image.

    Floats within 0..1 keep 0..1 and integers that reach 128..255 keep 0..255; other data is spread from the 0.1 % to
    the 99.9 % quantile, channel by channel. Whole numbers and floats in one set mean different things by the same value,
    so that each kind has its own.

    Args:
        samples: arrays (H, W, C) of any numeric type; 8 bit ones need no scale and are left out.

    Returns:
        The scale, or None where no sample needs one.
    """
    wide = [s for s in samples if s.dtype != np.uint8]
    if not wide:
        return None
    floats = [s for s in wide if s.dtype.kind == "f"]
    if 0 < len(floats) < len(wide):
        of_floats, of_whole = find_scale(floats), find_scale([s for s in wide if s.dtype.kind != "f"])
        return None if of_whole is None else replace(of_whole, floats=of_floats)
    channels = max(s.shape[2] for s in wide)
    pixels = [_finite(s).reshape(-1, s.shape[2]) for s in wide if s.shape[2] == channels]
    values = np.concatenate([p[:: max(1, len(p) // 20_000)] for p in pixels]).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    whole = all(s.dtype.kind in "iub" for s in wide)
    if low >= 0 and high <= 1 and (high > 1 / 255 or not high):
        return Scale((0.0,), (1.0,))
    if whole and low >= 0 and 128 <= high <= 255:
        return Scale((0.0,), (255.0,))
    lows, highs = np.quantile(values, [0.001, 0.999], axis=0)
    highs = np.where(highs > lows, highs, lows + 1.0)
    return Scale(tuple(float(v) for v in lows), tuple(float(v) for v in highs))


def rescaled(array: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Brings values to 0..255 in float32 with a fixed scale; 8 bit data is already there.

    Args:
        array: (..., C), any numeric type.
        scale: of the set; None takes the full range of the type.
    """
    if array.dtype == np.uint8:
        return array.astype(np.float32)
    scale = scale.of(array.dtype) if scale else dtype_scale(array.dtype)
    if len(scale.low) not in (1, array.shape[-1]):
        raise ValueError(f"has {array.shape[-1]} channels, the scale of the set has {len(scale.low)}")
    low = np.asarray(scale.low, np.float64)
    factor = 255.0 / (np.asarray(scale.high, np.float64) - low)
    values = ((_finite(array) - low) * factor).astype(np.float32)
    return np.clip(values, 0.0, 255.0, out=values)


def _finite(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind != "f" else np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)


@lru_cache(maxsize=64)
def resize_matrix(old: int, new: int) -> np.ndarray:
    """(new, old) weights of a bilinear resize with antialiasing (a triangle as wide as the shrinking asks)."""
    ratio = old / new
    support = max(1.0, ratio)
    centers = (np.arange(new) + 0.5) * ratio
    distance = np.abs(np.arange(old)[None, :] + 0.5 - centers[:, None]) / support
    weights = np.clip(1.0 - distance, 0.0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def resized(values: np.ndarray, size: int) -> np.ndarray:
    """Squashes (..., H, W) floats to (..., size, size)."""
    height, width = values.shape[-2:]
    if height != size:
        values = resize_matrix(height, size) @ values
    if width != size:
        values = values @ resize_matrix(width, size).T
    return values


def with_channels(values: np.ndarray, channels: int) -> np.ndarray:
    """(N, C, H, W) with the channels asked for: grey repeated, colors made grey by luminance.

    Raises:
        ValueError: where neither is possible.
    """
    have = values.shape[1]
    if have == channels:
        return values
    if have == 1:
        return np.repeat(values, channels, axis=1)
    if channels == 1 and have == 3:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        return np.einsum("nchw,c->nhw", values.astype(np.float32), weights)[:, None]
    raise ValueError(f"has {have} channels where {channels} are wanted")


def to_block(images: np.ndarray, size: int, channels: int, scale: Scale | None = None) -> np.ndarray:
    """Many arrays at once, (N, H, W, C) of any numeric type, to (N, channels, size, size) uint8."""
    if images.dtype == np.uint8 and images.shape[1] == images.shape[2] == size and images.shape[3] in (1, channels):
        return np.ascontiguousarray(with_channels(images.transpose(0, 3, 1, 2), channels))
    values = rescaled(images, scale).transpose(0, 3, 1, 2)
    if values.shape[1] > channels:
        values = with_channels(values, channels)
    values = with_channels(resized(values, size), channels)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
