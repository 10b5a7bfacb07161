"""From the stages of a trunk to logits on a coarse grid."""

from __future__ import annotations

import pytest
import torch

from withheld.networks.color import Colorizer, as_grid, stage_widths
from withheld.networks.open import open_trunk


@pytest.mark.parametrize(("name", "stages"), [("resnet-nano", 3), ("regnet-nano", 4), ("vit-nano", 1)])
@pytest.mark.parametrize(("size", "side"), [(32, 8), (96, 12)])
def test_any_trunk_answers_on_the_grid(name, stages, size, side):
    trunk, _ = open_trunk(name, size=size, channels=3)
    network = Colorizer(trunk, 7, width=8)
    assert len(stage_widths(trunk)) == len(network.project) == stages
    assert network(torch.randn(2, 3, size, size)).shape == (2, 7, side, side)


def test_every_stage_is_read():
    trunk, _ = open_trunk("resnet-nano", size=32, channels=3)
    network = Colorizer(trunk, 7, width=8)
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(float(project.weight.grad.abs().sum()) > 0 for project in network.project)


def test_tokens_are_laid_row_by_row():
    tokens = torch.arange(12.0).view(1, 12, 1)
    assert as_grid(tokens[:, :9])[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_what_is_asked_is_answered_where_it_is():
    """A light spot changes the answer at its own place most."""
    torch.manual_seed(0)
    trunk, _ = open_trunk("resnet-nano", size=64, channels=1)
    network = Colorizer(trunk, 4, width=8).eval()
    dark = torch.zeros(1, 1, 64, 64)
    spot = dark.clone()
    spot[..., 8:12, 48:52] = 3.0
    with torch.no_grad():
        change = (network(spot) - network(dark)).abs().sum(dim=(0, 1))
    assert change[:8].sum() > 2 * change[8:].sum()
    assert change[:, 8:].sum() > 2 * change[:, :8].sum()
