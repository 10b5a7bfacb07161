"""Losses of views that agree, against the papers' formulas written out item by item and in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from withheld.losses.agreement import Cosine, LeJEPA, VICReg, epps_pulley, sigreg
from withheld.losses.contrast import NTXent
from withheld.losses.distillation import CenteredTeacher
from withheld.types import Moment


def views(count: int = 7, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    one, two = torch.randn(2, count, width, generator=torch.Generator().manual_seed(3))
    return one, one + 0.3 * two


def test_vicreg_is_algorithm_1_written_out():
    one, two = views()
    a, b = one.double().numpy(), two.double().numpy()
    n, d = a.shape
    invariance = sum((a[i, j] - b[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    variance = covariance = 0.0
    for z in (a, b):
        mean = [sum(z[:, j]) / n for j in range(d)]
        cov = [
            [sum((z[i, j] - mean[j]) * (z[i, k] - mean[k]) for i in range(n)) / (n - 1) for k in range(d)]
            for j in range(d)
        ]
        variance += sum(max(0.0, 1 - math.sqrt(cov[j][j] + 1e-4)) for j in range(d)) / d / 2
        covariance += sum(cov[j][k] ** 2 for j in range(d) for k in range(d) if j != k) / d
    found = VICReg()(one, two)
    assert float(found["invariance"]) == pytest.approx(invariance, rel=1e-5)
    assert float(found["variance"]) == pytest.approx(variance, rel=1e-5)
    assert float(found["covariance"]) == pytest.approx(covariance, rel=1e-5)


def closed_form(x):
    """N times the integral over all t of |mean exp(itx) - exp(-t^2/2)|^2 exp(-t^2/2), which is a sum of Gaussians."""
    n = len(x)
    pairs = sum(math.exp(-((a - b) ** 2) / 2) for a in x for b in x) / n**2
    cross = sum(math.exp(-(a**2) / 4) for a in x) / n
    return n * math.sqrt(2 * math.pi) * (pairs - math.sqrt(2) * cross + 1 / math.sqrt(3))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_epps_pulley_is_its_closed_form(shift):
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.7 + shift
    exact = [closed_form(column.tolist()) for column in x.T]
    np.testing.assert_allclose(epps_pulley(x, knots=161, limit=8.0).numpy(), exact, rtol=1e-6)
    np.testing.assert_allclose(epps_pulley(x).numpy(), exact, rtol=0.03)  # 17 knots up to 3


def test_epps_pulley_is_small_for_normal_samples_only():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2000, 20, generator=generator)
    uniform = (torch.rand(2000, 20, generator=generator) - 0.5) * 12**0.5  # of the same mean and variance
    assert float(epps_pulley(normal).mean()) < 1.5
    assert float(epps_pulley(uniform).mean()) > 3
    assert float(epps_pulley(torch.zeros(2000, 1))) > 100  # a collapse


def test_lejepa_is_its_formula_view_by_view():
    large, small = torch.randn(6, 2, 4), torch.randn(6, 3, 4)
    torch.manual_seed(1)
    found = LeJEPA(directions=8)(large, small)
    center = (large[:, 0] + large[:, 1]) / 2
    every = [large[:, 0], large[:, 1], small[:, 0], small[:, 1], small[:, 2]]
    assert float(found["invariance"]) == pytest.approx(
        float(sum(((z - center) ** 2).mean() for z in every) / 5), rel=1e-5
    )
    torch.manual_seed(1)
    assert float(found["sigreg"]) == pytest.approx(float(sum(sigreg(z, 8) for z in every) / 5), rel=1e-5)


def test_cosine_is_the_squared_distance_of_directions():
    one, two = views()
    naive = sum(float(((a / a.norm() - b / b.norm()) ** 2).sum()) for a, b in zip(one, two, strict=True)) / len(one)
    assert float(Cosine()(one, two)) == pytest.approx(naive, rel=1e-5)
    assert Cosine().measures(one, torch.ones(7, 5))["target_spread"] == pytest.approx(0, abs=1e-6)


def test_dino_is_algorithm_1_pair_by_pair():
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(3, 4, 6, generator=generator), torch.randn(3, 2, 6, generator=generator)
    loss = CenteredTeacher(6, student=0.1, teacher=(0.04, 0.07), warmup=0.5, momentum=0.9)
    loss.center.copy_(torch.randn(6, generator=generator))
    total, pairs = 0.0, 0
    for u in range(2):
        for v in range(4):
            if u == v:
                continue
            told = torch.softmax((teacher[:, u] - loss.center) / 0.04, dim=1)
            total -= float((told * torch.log_softmax(student[:, v] / 0.1, dim=1)).sum(dim=1).mean())
            total += float(
                (told * told.clamp(min=1e-30).log()).sum(dim=1).mean()
            )  # the paper's, less what has no gradient
            pairs += 1
    assert float(loss(student, teacher)["divergence"]) == pytest.approx(total / pairs, rel=1e-5)
    before = loss.center.clone()
    loss.after_step(Moment(4, 20))
    torch.testing.assert_close(loss.center, 0.9 * before + 0.1 * teacher.mean(dim=(0, 1)))
    assert float(loss.temperature) == pytest.approx(0.04 + 0.03 * 0.5)


def test_dino_tells_both_collapses_by_its_entropies():
    loss = CenteredTeacher(8)
    uniform = loss.measures(torch.zeros(5, 2, 8), torch.zeros(5, 2, 8))
    assert uniform["teacher_entropy"] == pytest.approx(uniform["ln_k"])
    one = torch.zeros(5, 2, 8)
    one[..., 3] = 1
    alone = loss.measures(one, one)
    assert alone["prototypes_entropy"] == pytest.approx(0, abs=1e-4)


def test_alignment_and_uniformity_are_their_formulas():
    one, two = views()
    a, b = (z / z.norm(dim=1, keepdim=True) for z in (one, two))
    pairs = [(i, j) for i in range(7) for j in range(i)]
    uniform = [
        math.log(sum(math.exp(-2 * float((z[i] - z[j]).square().sum())) for i, j in pairs) / len(pairs)) for z in (a, b)
    ]
    found = NTXent().measures(one, two)
    assert found["alignment"] == pytest.approx(float((a - b).square().sum(dim=1).mean()), rel=1e-5)
    assert found["uniformity"] == pytest.approx(sum(uniform) / 2, rel=1e-5)
