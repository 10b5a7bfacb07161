"""Black-box inference against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import genpareto

import withheld
from withheld.errors import InputError
from withheld.evaluate.psis import effective_share, k_hat, pareto_shape
from withheld.networks.posterior import BlackBox, GaussianMixturePosterior

CORNERS = torch.tensor([[4.0, 4.0], [4.0, -4.0], [-4.0, 4.0], [-4.0, -4.0]])


def four_modes(z):
    """A normalized mixture of four Gaussians: log p(x) is 0."""
    square = ((z[:, None] - CORNERS) ** 2).sum(dim=2)
    return torch.logsumexp(-0.5 * square, dim=1) - math.log(2 * math.pi) - math.log(4)


def posterior(components, full, seed=0):
    torch.manual_seed(seed)
    q = GaussianMixturePosterior(3, components, full)
    with torch.no_grad():
        q.log_scales.normal_(0, 0.3)
        if components > 1:
            q.logits.normal_()
        if full:
            q.lower.normal_(0, 0.5)
    return q


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("components", [1, 3])
def test_density_is_that_of_the_mixture_and_of_its_samples(components, full):
    q = posterior(components, full)
    z = q.sample(50_000)
    factors = q.factors() if full else torch.diag_embed(q.log_scales.exp())
    each = [
        torch.distributions.MultivariateNormal(q.means[k], scale_tril=factors[k]).log_prob(z[:100])
        for k in range(components)
    ]
    naive = torch.logsumexp(torch.stack(each) + q.log_weights()[:, None], dim=0)
    torch.testing.assert_close(q.log_density(z[:100]), naive, atol=1e-4, rtol=1e-4)
    mean = (q.log_weights().exp()[:, None] * q.means).sum(dim=0)
    torch.testing.assert_close(z.mean(dim=0), mean, atol=0.05, rtol=0.05)


def gradients(gradient, q, repeats):
    """The mean gradient over draws, and its standard error."""
    target = torch.distributions.MultivariateNormal(torch.tensor([1.0, 0.0, -1.0]), torch.eye(3) + 0.3)
    network = BlackBox(target.log_prob, q, 512, gradient)
    found = []
    for _ in range(repeats):
        q.zero_grad()
        sum(network(None).values()).backward()
        found.append(torch.cat([p.grad.flatten() for p in q.parameters()]))
    stack = torch.stack(found)
    return stack.mean(dim=0), stack.std(dim=0) / math.sqrt(repeats)


@pytest.mark.parametrize("components", [1, 3])
def test_both_gradients_estimate_the_same(components):
    q = posterior(components, full=False)
    by_path, error = gradients("reparameterized", q, 60)
    by_score, other = gradients("score", q, 200)
    assert ((by_path - by_score).abs() < 5 * (error**2 + other**2).sqrt() + 1e-3).all()


def test_the_score_has_mean_zero():
    q = posterior(3, full=True)
    q.log_density(q.sample(200_000)).mean().backward()
    assert all(p.grad.abs().max() < 0.03 for p in q.parameters())


def test_one_gaussian_has_the_closed_form_bound():
    precision = torch.tensor([[2.0, 0.8], [0.8, 1.0]])

    def log_joint(z):
        return -0.5 * ((z - 1) @ precision * (z - 1)).sum(dim=1) - math.log(2 * math.pi) + 0.5 * torch.logdet(precision)

    factorized = withheld.infer(log_joint, 2, family="factorized", steps=800, log_evidence=0.0)
    full = withheld.infer(log_joint, 2, family="full_rank", steps=800, log_evidence=0.0)
    np.testing.assert_allclose(factorized.mean, [1, 1], atol=0.06)
    # mean field is too narrow: variances are 1 / precision_jj, not the marginal ones (Bishop 10.1.2)
    np.testing.assert_allclose(factorized.deviation**2, 1 / precision.diagonal(), rtol=0.08)
    np.testing.assert_allclose(full.deviation**2, torch.linalg.inv(precision).diagonal(), rtol=0.08)
    closed = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    assert factorized.gap == pytest.approx(closed, abs=0.03)
    assert full.gap == pytest.approx(0, abs=0.02)


def test_four_modes_need_four_components():
    four = withheld.infer(four_modes, 2, components=4, steps=500, log_evidence=0.0)
    assert abs(four.gap) < 0.02
    assert four.k_hat < 0.7
    assert "Nothing speaks against it" in four.trust
    one = withheld.infer(four_modes, 2, family="factorized", steps=500, log_evidence=0.0)
    assert one.gap == pytest.approx(math.log(4), abs=0.05)


def test_without_gradients():
    def log_joint(z):
        return -0.5 * ((z.numpy() - 2) ** 2).sum(axis=1) - math.log(2 * math.pi)

    found = withheld.infer(log_joint, 2, family="factorized", gradient="score", samples=64, steps=800, log_evidence=0.0)
    assert found.gap == pytest.approx(0, abs=0.02)
    with pytest.raises(InputError, match="gradient='score'"):
        withheld.infer(lambda z: torch.from_numpy(log_joint(z.detach())), 2)


def test_it_says_when_not_to_trust_it():
    def heavy(z):
        return torch.distributions.StudentT(1.0).log_prob(z).sum(dim=1)

    found = withheld.infer(heavy, 3, family="factorized", steps=300)
    assert found.k_hat > 0.7
    assert found.trust.startswith("Do not trust it")
    assert found.trust in str(found)


def test_same_seed_same_answer_and_the_caller_keeps_its_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b = (withheld.infer(four_modes, 2, steps=20, seed=3) for _ in range(2))
    assert a.elbo == b.elbo
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("log_joint", "said"),
    [
        (lambda z: z.sum(), r"shape \(\).*one number a row"),
        (lambda z: z, r"must return one number a row"),
        (lambda z: z.sum(dim=1) * math.nan, r"log_joint is nan at z = \("),
        (lambda z: z.sum(dim=1) + math.inf, r"log_joint is inf"),
        (lambda z: z.sum(dim=1) - math.inf, r"-inf wherever"),
    ],
)
def test_bad_log_joints_are_named(log_joint, said):
    with pytest.raises(InputError, match=said):
        withheld.infer(log_joint, 2, steps=5)


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.5, 0.9])
def test_tails_of_known_shape(shape):
    excess = np.sort(genpareto.rvs(shape, size=20_000, random_state=0))
    assert pareto_shape(excess) == pytest.approx(shape, abs=0.05)
    weights = np.log(genpareto.rvs(shape, size=20_000, random_state=1) + 1)
    assert k_hat(weights) == pytest.approx(shape, abs=0.15)


def test_effective_share():
    assert effective_share(np.zeros(10)) == pytest.approx(1)
    assert effective_share(np.array([0.0, -800.0])) == pytest.approx(0.5)
