"""How well frames are predicted: squared error in both conventions, PSNR and SSIM, of all pixels and where something moves.

Shapes: B clips, U told frames, C channels, H W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WINDOW, SPREAD = 11, 1.5
MEASURES = {
    "MSE, sum": "squared error, summed over the pixels of a frame, mean over channels",
    "MSE x 1000": "the same, mean over pixels, times 1000",
    "PSNR": "dB",
    "SSIM": "",
    "moving MSE x 1000": "where something moves",
    "moving PSNR": "dB, where something moves",
    "moving SSIM": "where something moves",
}


def similarity_map(one: Tensor, other: Tensor) -> Tensor:
    """SSIM at every place where its 11 x 11 Gaussian window fits, (..., H, W) -> (..., H - 10, W - 10).

    Source: Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural Similarity.

    Args:
        one, other: images in 0..1.
    """
    down, across = (_blur_matrix(side, one) for side in one.shape[-2:])
    a, b, aa, bb, ab = (down @ t @ across.T for t in (one, other, one * one, other * other, one * other))
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * a * b + c1) * (2 * (ab - a * b) + c2)) / ((a * a + b * b + c1) * (aa - a * a + bb - b * b + c2))


def _blur_matrix(side: int, like: Tensor) -> Tensor:
    """(side - 10, side): the Gaussian window as a product, much faster than a convolution of one channel."""
    size = min(WINDOW, side // 2 * 2 - 1)
    at = torch.arange(size, device=like.device, dtype=like.dtype) - size // 2
    kernel = torch.exp(-(at**2) / (2 * SPREAD**2))
    rows = like.new_zeros(side - size + 1, side)
    for first in range(len(rows)):
        rows[first, first : first + size] = kernel / kernel.sum()
    return rows


def frame_errors(told: Tensor, true: Tensor, moving: Tensor) -> dict[str, Tensor]:
    """(B,) of every one of `MEASURES`, and "by frame" (B, U), the sum convention.

    Args:
        told, true: (B, U, C, H, W) in 0..1; what is told is clipped to that. moving: (B, U, H, W) where something moves; frames in
            which nothing does count for no "moving" measure, and a clip without any is nan there.
    """
    told = told.clamp(0, 1)
    square = (told - true).square().mean(dim=2)
    by_frame = square.flatten(2).mean(dim=2)
    alike = similarity_map(told, true).mean(dim=2)
    cut = (moving.shape[-1] - alike.shape[-1]) // 2
    inner = moving[..., cut : moving.shape[-2] - cut, cut : moving.shape[-1] - cut]
    moving_error, moving_alike = _where(square, moving), _where(alike, inner)
    pixels = told.shape[-1] * told.shape[-2]
    return {
        "MSE, sum": pixels * by_frame.mean(dim=1),
        "MSE x 1000": 1000 * by_frame.mean(dim=1),
        "PSNR": _decibel(by_frame).mean(dim=1),
        "SSIM": alike.flatten(1).mean(dim=1),
        "moving MSE x 1000": 1000 * moving_error.nanmean(dim=1),
        "moving PSNR": _decibel(moving_error).nanmean(dim=1),
        "moving SSIM": moving_alike.nanmean(dim=1),
        "by frame": pixels * by_frame,
    }


def _where(values_BUHW: Tensor, here_BUHW: Tensor) -> Tensor:
    """(B, U): the mean over these places; nan where there are none."""
    weight = here_BUHW.to(values_BUHW.dtype)
    return (values_BUHW * weight).flatten(2).sum(dim=2) / weight.flatten(2).sum(dim=2)


def _decibel(error: Tensor) -> Tensor:
    return -10 * error.clamp_min(1e-10).log10()


def beside(prediction_BUCHW: Tensor, given_BTCHW: Tensor) -> dict[str, Tensor]:
    """Frames (B, U, C, H, W) by who tells them: the run, the last frame copied, the mean of the frames that were given."""
    same = (-1, prediction_BUCHW.shape[1], -1, -1, -1)
    last, mean = given_BTCHW[:, -1:], given_BTCHW.mean(dim=1, keepdim=True)
    return {"this run": prediction_BUCHW, "copy the last frame": last.expand(same), "mean frame": mean.expand(same)}


def in_pixels(t: Tensor, mean: Any, std: Any) -> Tensor:
    """Normalized clips in 0..1."""
    shape = (1, 1, len(mean), 1, 1)
    return t * t.new_tensor(std).view(shape) + t.new_tensor(mean).view(shape)
