"""The naive forms of Zhang et al. 2016 against the fast ones."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from withheld.color import gamut_bins
from withheld.errors import InputError
from withheld.losses.color import (
    AnnealedColor,
    ColorCrossEntropy,
    ColorSquaredError,
    RegressedColor,
    annealed_mean,
    chroma_ratio,
    rebalancing,
    soft_bins,
)
from withheld.losses.colorful import chromatic_auc, grey, mean_color, rare_weights, told
from withheld.networks.color import Colorizer
from withheld.networks.open import open_trunk
from withheld.objective import Objective
from withheld.splits.color import HideColor
from withheld.types import Pair

BINS = gamut_bins()
Q = len(BINS)


def ab(count: int = 2, side: int = 3) -> torch.Tensor:
    return 30 * torch.randn(count, 2, side, side, generator=torch.Generator().manual_seed(0))


def test_half_precision_around_it_changes_no_bin():
    with torch.autocast("cpu", torch.bfloat16):  # as the loop computes on a GPU
        at, share = soft_bins(ab(), BINS)
    wanted_at, wanted = soft_bins(ab(), BINS)
    assert torch.equal(at, wanted_at)
    assert torch.equal(share, wanted)


def test_soft_encoding_is_that_of_a_loop():
    y = ab()
    at, share = soft_bins(y, BINS)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                distance = [math.dist(y[b, :, i, j].tolist(), center) for center in BINS.tolist()]
                nearest = sorted(range(Q), key=lambda q: distance[q])[:5]
                weight = [math.exp(-(distance[q] ** 2) / (2 * 5**2)) for q in nearest]
                assert at[b, :, i, j].tolist() == nearest
                expected = torch.tensor([w / sum(weight) for w in weight])
                torch.testing.assert_close(share[b, :, i, j], expected, atol=1e-4, rtol=1e-4)


def test_soft_encoding_far_outside_is_a_number():
    _, share = soft_bins(torch.full((1, 2, 1, 1), 5000.0), BINS)
    torch.testing.assert_close(share.sum(dim=1), torch.ones(1, 1, 1))


def test_weights_are_the_formula_and_have_mean_1():
    counts = torch.randint(0, 50, (Q,), generator=torch.Generator().manual_seed(0))
    counts[::3] = 0
    mix, sigma = 0.5, 5.0
    p = torch.zeros(Q, dtype=torch.float64)
    for i, center in enumerate(BINS.tolist()):
        near = torch.tensor([math.exp(-(math.dist(center, other) ** 2) / (2 * sigma**2)) for other in BINS.tolist()])
        p += counts[i] * near.double() / near.double().sum()
    p /= p.sum()
    expected = 1 / ((1 - mix) * p + mix / Q)
    expected /= (p * expected).sum()
    found = rebalancing(counts, BINS, mix, sigma)
    torch.testing.assert_close(found.double(), expected, atol=0, rtol=1e-4)
    assert float((p * found).sum()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(rebalancing(counts, BINS, 1.0), torch.ones(Q))


def test_rare_colors_weigh_more():
    loss = ColorCrossEntropy().fitted(Pair(None, torch.cat([torch.zeros(99, 2, 8, 8), torch.full((1, 2, 8, 8), 50.0)])))
    at = [int(soft_bins(torch.full((1, 2, 1, 1), value), BINS, 1)[0]) for value in (0.0, 50.0)]
    assert loss.weight[at[1]] > 10 * loss.weight[at[0]]


def test_annealed_mean_goes_from_mean_to_mode():
    logits = torch.randn(2, Q, 3, 3, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(dim=1)
    mean = torch.stack([(p * BINS[:, c].view(1, Q, 1, 1)).sum(dim=1) for c in (0, 1)], dim=1)
    torch.testing.assert_close(annealed_mean(logits, BINS, 1.0), mean, atol=1e-3, rtol=1e-4)
    mode = BINS[logits.argmax(dim=1)].permute(0, 3, 1, 2)
    torch.testing.assert_close(annealed_mean(logits, BINS, 1e-3), mode)
    sharper = p ** (1 / 0.38) / (p ** (1 / 0.38)).sum(dim=1, keepdim=True)
    torch.testing.assert_close(
        annealed_mean(logits, BINS), torch.einsum("bqhw,qc->bchw", sharper, BINS), atol=1e-3, rtol=1e-4
    )


def test_the_loss_is_that_of_a_loop():
    y, logits = ab(2, 4), torch.randn(2, Q, 2, 2, generator=torch.Generator().manual_seed(1))
    loss = ColorCrossEntropy(0.5).fitted(Pair(None, ab(8, 8)))
    cells, total = F.avg_pool2d(y, 2), 0.0
    at, share = soft_bins(cells, BINS)
    for b in range(2):
        for i in range(2):
            for j in range(2):
                z = torch.zeros(Q)
                z[at[b, :, i, j]] = share[b, :, i, j]
                total += float(loss.weight[z.argmax()] * -(z * logits[b, :, i, j].log_softmax(dim=0)).sum())
    assert float(loss(logits, y)) == pytest.approx(total / 8, rel=1e-4)


def test_a_sharp_true_answer_is_told_back():
    y = torch.tensor([40.0, -30.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    logits = torch.full((1, Q, 2, 2), -50.0)
    logits[:, (torch.tensor([40.0, -30.0]) == BINS).all(dim=1)] = 50.0
    loss = ColorCrossEntropy()
    torch.testing.assert_close(AnnealedColor(loss).undo(logits, y), y)
    told_by = loss.measures(logits, y)
    assert told_by["chroma_ratio"] == pytest.approx(1)
    assert told_by["color_bins"] == pytest.approx(1)
    torch.testing.assert_close(RegressedColor().undo(y[..., :2, :2] / 25, y), y)
    assert float(ColorSquaredError()(y[..., :2, :2] / 25, y)) == 0


def test_rebalancing_taken_back_gives_the_mean_under_what_is_so():
    """A network that tells w p, as the weights ask, is read as p where all is taken back."""
    loss = ColorCrossEntropy(temperature=1.0, calm=1.0).fitted(Pair(None, ab(8, 8)))
    p = torch.rand(1, Q, 1, 1, generator=torch.Generator().manual_seed(0))
    p /= p.sum()
    told_by_weights = (loss.weight.view(1, -1, 1, 1) * p).log()
    expected = (p[0, :, 0] * BINS).sum(dim=0)
    torch.testing.assert_close(loss.color(told_by_weights).flatten(), expected, atol=1e-3, rtol=1e-3)
    loss.calm = 0.0
    torch.testing.assert_close(loss.color(told_by_weights), annealed_mean(told_by_weights, BINS, 1.0))


@pytest.mark.parametrize("settings", [{"mix": 0.0}, {"mix": 1.5}, {"temperature": 0.0}, {"calm": 1.5}])
def test_settings_that_are_none(settings):
    with pytest.raises(InputError, match="Try 0"):
        ColorCrossEntropy(**settings)


def test_auc_is_the_swept_one():
    true, guess = ab(2, 16), ab(2, 16) + 20
    distance = (guess - true).square().sum(dim=1).sqrt()
    edges = torch.linspace(0, 150, 15001)
    share = torch.stack([(distance <= edge).float().mean() for edge in edges])
    assert chromatic_auc(guess, true) == pytest.approx(float(torch.trapezoid(share, edges) / 150), abs=1e-4)


def test_auc_of_hand_made_cases():
    true = torch.zeros(1, 2, 1, 4)
    assert chromatic_auc(true, true) == 1
    guess = true.clone()
    guess[0, 0, 0, 0], guess[0, 1, 0, 1], guess[0, 0, 0, 2] = 75.0, -150.0, 400.0
    assert chromatic_auc(guess, true) == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    weight = torch.tensor([[[1.0, 0.0, 0.0, 3.0]]])
    assert chromatic_auc(guess, true, weight) == pytest.approx((0.5 + 3) / 4)


def test_rebalanced_counts_every_color_alike():
    true = torch.zeros(1, 2, 1, 100)
    true[0, 0, 0, :10] = 60.0  # a tenth is red, and far from all else
    weight = rare_weights(true)
    assert float(weight[..., :10].sum()) == pytest.approx(float(weight[..., 10:].sum()), rel=0.05)
    assert chromatic_auc(torch.zeros_like(true), true) == pytest.approx(1 - 0.1 * 60 / 150)
    assert chromatic_auc(torch.zeros_like(true), true, weight) == pytest.approx(1 - 0.5 * 60 / 150, abs=0.01)


def test_baselines_and_a_network_are_measured_alike():
    torch.manual_seed(0)
    trunk, _ = open_trunk("resnet-nano", size=16, channels=3)
    objective = Objective(
        HideColor(), Colorizer(trunk, Q), loss := ColorCrossEntropy(), target=AnnealedColor(loss)
    ).eval()
    seen = torch.zeros(4, 3, 20, 20)
    seen[:, 0] = 1.0  # red, seen larger than the network takes it
    with torch.no_grad():
        assert mean_color(objective, seen, seen)["AuC"] == pytest.approx(1, abs=1e-3)
        nothing = grey(objective, seen, seen)
        assert nothing["AuC"] == pytest.approx(1 - math.hypot(80.09, 67.20) / 150, abs=1e-3)
        assert nothing["chroma_ratio"] == nothing["rebalanced over grey"] == 0
        found = told(objective, seen, seen)
    red = seen[:1, :, :16, :16]
    with torch.no_grad():
        pair, ab = objective.predict(red)
    assert 0 < found["AuC"] < 1
    assert found["chroma_ratio"] == pytest.approx(chroma_ratio(ab, pair.y), rel=1e-3)
