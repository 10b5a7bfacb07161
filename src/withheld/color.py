"""Colors as Zhang, Isola and Efros 2016 see them: CIE Lab, and the 313 bins of its ab plane.

Shapes: B batch, H W pixels, Q bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from withheld.errors import InputError

# sRGB (IEC 61966-2-1) to XYZ under D65. White is the sum of the primaries, so that grey has no color at all.
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = tuple(sum(row) for row in TO_XYZ)
FROM_XYZ = tuple(map(tuple, torch.tensor(TO_XYZ, dtype=torch.float64).inverse().tolist()))
DELTA = 6 / 29

GRID = 10
"""Side of a bin, units of ab."""
ROWS = {
    -90: (50, 90), -80: (20, 90), -70: (0, 90), -60: (-20, 90), -50: (-30, 100), -40: (-40, 100), -30: (-50, 100),
    -20: (-50, 100), -10: (-60, 100), 0: (-70, 100), 10: (-80, 90), 20: (-80, 90), 30: (-90, 90), 40: (-100, 90),
    50: (-100, 80), 60: (-110, 80), 70: (-110, 80), 80: (-110, 70), 90: (-110, 70), 100: (-90, 0),
}  # fmt: skip
"""The bins of the paper: for every a the first and the last b. They are the corners of the squares of side 10 that some sRGB
color lies in, 309, and (40, 90), (100, -90), (100, -10), (100, 0), which lie up to 3 units farther out."""


def gamut_bins() -> Tensor:
    """Centers (Q, 2) of the paper's 313 bins, by a, then b."""
    return torch.tensor([(a, b) for a, (low, high) in ROWS.items() for b in range(low, high + 1, GRID)]).float()


def to_lab(t_B3HW: Tensor) -> Tensor:
    """sRGB in 0..1 to Lab, (B, 3, H, W): L in 0..100, a and b about -110..110.

    Values outside 0..1 are carried on, so that `to_srgb` undoes it for any number.
    """
    xyz = _mixed(_linear(t_B3HW), TO_XYZ)
    x, y, z = (_root(part / white) for part, white in zip(xyz.unbind(dim=1), WHITE, strict=True))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def to_srgb(lab_B3HW: Tensor) -> Tensor:
    """Lab to sRGB, (B, 3, H, W); colors that sRGB does not have lie outside 0..1."""
    L, a, b = lab_B3HW.unbind(dim=1)
    y = (L + 16) / 116
    xyz = torch.stack([_cube(f) * white for f, white in zip((y + a / 500, y, y - b / 200), WHITE, strict=True)], dim=1)
    return _gamma(_mixed(xyz, FROM_XYZ))


def lightness(t_B3HW: Tensor) -> Tensor:
    """L of Lab alone, (B, 1, H, W), 0..100."""
    red, green, blue = _linear(t_B3HW).unbind(dim=1)
    y = TO_XYZ[1][0] * red + TO_XYZ[1][1] * green + TO_XYZ[1][2] * blue
    return (116 * _root(y / WHITE[1]) - 16).unsqueeze(1)


def chroma(ab_B2HW: Tensor) -> Tensor:
    """How colorful, (B, H, W): the length of (a, b), 0 for grey."""
    return ab_B2HW.square().sum(dim=1).sqrt()


def check_color(t: Tensor, what: str) -> None:
    """Says so where images have no color to speak of.

    Raises:
        InputError: they do not have three channels.
    """
    if t.ndim != 4 or t.shape[1] != 3:
        kind = "grey" if t.ndim == 4 and t.shape[1] == 1 else f"of shape {tuple(t.shape[1:])}"
        raise InputError(f"{what} learns from color images (red, green, blue); these are {kind}. See: withheld list")


def _linear(t: Tensor) -> Tensor:
    """Light, from sRGB values; the straight piece goes on below 0."""
    return torch.where(t > 0.04045, ((t.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, t / 12.92)


def _gamma(light: Tensor) -> Tensor:
    return torch.where(light > 0.0031308, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055, 12.92 * light)


def _root(t: Tensor) -> Tensor:
    return torch.where(t > DELTA**3, t.clamp(min=DELTA**3) ** (1 / 3), t / (3 * DELTA**2) + 4 / 29)


def _cube(f: Tensor) -> Tensor:
    return torch.where(f > DELTA, f**3, 3 * DELTA**2 * (f - 4 / 29))


def _mixed(t_B3HW: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Every pixel times a 3 x 3 matrix."""
    return torch.einsum("ij,bjhw->bihw", t_B3HW.new_tensor(matrix), t_B3HW)
