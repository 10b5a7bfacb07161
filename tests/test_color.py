"""Lab against scikit-image and known values; the 313 bins against the gamut of sRGB."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from withheld.color import GRID, check_color, chroma, gamut_bins, lightness, to_lab, to_srgb
from withheld.errors import InputError

FARTHER = {(40, 90), (100, -90), (100, -10), (100, 0)}


def colors(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_lab_is_scikit_images():
    color = pytest.importorskip("skimage.color")
    t = colors()
    expected = color.rgb2lab(t.permute(0, 2, 3, 1).numpy().astype(np.float64)).transpose(0, 3, 1, 2)
    # their white differs in the fifth digit from the sum of their primaries
    np.testing.assert_allclose(to_lab(t).numpy(), expected, atol=0.02)
    back = color.lab2rgb(expected.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(to_srgb(torch.from_numpy(expected).float()).numpy(), back, atol=1e-3)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((119 / 255, 119 / 255, 119 / 255), (50.03, 0, 0)),
    ],
)
def test_known_colors(rgb, lab):
    found = to_lab(torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float32), atol=0.01, rtol=0)


def test_there_and_back_for_any_number():
    assert float((to_srgb(to_lab(colors())) - colors()).abs().max()) < 1e-5
    wide = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert float((to_srgb(to_lab(wide)) - wide).abs().max()) < 1e-3


def test_lightness_is_the_first_of_lab_and_grey_has_no_chroma():
    torch.testing.assert_close(lightness(colors()), to_lab(colors())[:, :1])
    grey = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    assert float(chroma(to_lab(grey)[:, 1:]).max()) < 1e-3


def surface() -> torch.Tensor:
    """ab (n, 2) of all 8 bit colors on the faces of the cube: what their shadow covers, all colors cover."""
    step = torch.arange(256) / 255
    one, two = torch.meshgrid(step, step, indexing="ij")
    faces = []
    for axis in range(3):
        for end in (0.0, 1.0):
            face = [one, two]
            face.insert(axis, torch.full_like(one, end))
            faces.append(torch.stack(face))
    return to_lab(torch.stack(faces))[:, 1:].permute(0, 2, 3, 1).reshape(-1, 2)


def test_the_313_bins_are_the_corners_of_the_squares_that_have_a_color():
    bins = {tuple(map(int, pair)) for pair in gamut_bins().tolist()}
    assert len(bins) == len(gamut_bins()) == 313
    squares = (surface() / GRID).floor().long().unique(dim=0)
    corners = {
        (GRID * (int(a) + da), GRID * (int(b) + db)) for a, b in squares for da in (0, 1) for db in (0, 1)
    }  # fmt: skip
    assert bins - corners == FARTHER
    assert corners - bins == set()
    far = torch.cdist(torch.tensor(sorted(FARTHER)).float(), surface(), p=float("inf")).min(dim=1).values
    assert bool(((far > GRID) & (far < GRID + 3)).all())


def test_every_color_has_its_nearest_grid_point_among_the_bins():
    nearest = (surface() / GRID).round().long().unique(dim=0) * GRID
    assert {tuple(pair) for pair in nearest.tolist()} <= {tuple(map(int, pair)) for pair in gamut_bins().tolist()}


def test_images_without_color_are_refused():
    with pytest.raises(InputError, match="these are grey"):
        check_color(torch.rand(2, 1, 8, 8), "colorization")
    with pytest.raises(InputError, match=r"shape \(5, 8, 8\)"):
        check_color(torch.rand(2, 5, 8, 8), "colorization")
