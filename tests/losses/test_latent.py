"""Bounds of log p(x) against naive formulas, Monte Carlo, finite differences and a model whose log p(x) has a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import logistic, multivariate_normal

from withheld.evaluate.likelihood import importance_bound
from withheld.losses.latent import NegativeBound, gaussian_kl, log_bernoulli, log_gaussian, log_logistic
from withheld.networks.vae import mutual_information


def prediction(samples=1, seed=0):
    torch.manual_seed(seed)
    mean, log_variance = torch.randn(4, 3), 0.5 * torch.randn(4, 3)
    z = mean + (0.5 * log_variance).exp() * torch.randn(samples, 4, 3)
    return {"mean": mean, "log_variance": log_variance, "z": z, "told": torch.randn(samples, 4, 1, 2, 2)}


def test_bernoulli_and_gaussian_are_the_naive_formulas():
    told, y = torch.randn(2, 3, 1, 2, 2), torch.rand(3, 1, 2, 2).round()
    p = told.sigmoid()
    naive = (y * p.log() + (1 - y) * (1 - p).log()).sum(dim=(2, 3, 4))
    torch.testing.assert_close(log_bernoulli(told, y), naive)
    scale = torch.tensor([[[-1.0]]])
    naive = torch.distributions.Normal(p, scale.exp()).log_prob(y).sum(dim=(2, 3, 4))
    torch.testing.assert_close(log_gaussian(told, y, scale), naive)


@pytest.mark.parametrize("log_scale", [-5.0, -3.0, -1.0])
@pytest.mark.parametrize("logit", [-4.0, 0.1, 3.0])
def test_the_discretized_logistic_sums_to_one_and_is_differences_of_its_cdf(logit, log_scale):
    levels = torch.arange(256).view(256, 1, 1, 1) / 255
    told = torch.full((1, 256, 1, 1, 1), logit, dtype=torch.float64)
    found = log_logistic(told, levels.double(), torch.tensor(log_scale, dtype=torch.float64))[0]
    assert float(found.exp().sum()) == pytest.approx(1, abs=2e-3)
    cdf = logistic(loc=1 / (1 + math.exp(-logit)), scale=math.exp(log_scale)).cdf
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    mass = np.diff(cdf(edges))
    np.testing.assert_allclose(found.exp().numpy()[mass > 1e-4], mass[mass > 1e-4], rtol=2e-2)


def test_kl_against_monte_carlo():
    mean, log_variance = torch.tensor([[0.7, -1.2]]), torch.tensor([[-0.5, 0.8]])
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    z = q.sample((400_000,))
    sampled = (q.log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)).mean(dim=0)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), sampled, atol=0.01, rtol=0.01)


def test_the_terms_are_the_bound_and_free_bits_are_free():
    p, y = prediction(), torch.rand(4, 1, 2, 2).round()
    terms = NegativeBound()(p, y)
    assert float(terms["kl"]) == pytest.approx(float(gaussian_kl(p["mean"], p["log_variance"]).sum(dim=1).mean()))
    assert float(terms["reconstruction"]) == pytest.approx(-float(log_bernoulli(p["told"], y).mean()))
    assert float(NegativeBound(free_bits=50.0)(p, y)["kl"]) == pytest.approx(150.0)


def test_the_reparameterized_gradient_is_the_finite_difference_and_the_score_functions_mean():
    """d/dm E_{z ~ N(m, s)}[f(z)], f a decoder's log likelihood, three ways."""
    torch.manual_seed(0)
    weight, y = torch.randn(4, 2, dtype=torch.float64), torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    s = 0.7

    def f(z):
        return -torch.nn.functional.binary_cross_entropy_with_logits(
            z @ weight.T, y.expand(len(z), 4), reduction="none"
        ).sum(dim=1)

    m = torch.tensor([0.3, -0.5], dtype=torch.float64, requires_grad=True)
    noise = torch.randn(400_000, 2, dtype=torch.float64)
    (by_path,) = torch.autograd.grad(f(m + s * noise).mean(), m)
    step = 1e-5
    differences = torch.stack(
        [
            (f(m + s * noise + step * e).mean() - f(m + s * noise - step * e).mean()) / (2 * step)
            for e in torch.eye(2).double()
        ]
    )
    torch.testing.assert_close(by_path, differences.detach(), atol=1e-7, rtol=1e-6)
    z = (m + s * noise).detach()
    value = f(z).detach()
    by_score = ((value - value.mean())[:, None] * (z - m.detach()) / s**2).mean(dim=0)
    torch.testing.assert_close(by_path, by_score, atol=0.02, rtol=0.02)


class Linear:
    """Probabilistic PCA as an autoencoder: x = W z + noise, whose log p(x) is that of a Gaussian."""

    likelihood = "gaussian"

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.weight = 0.3 * torch.randn(4, 2)
        self.log_scale = torch.tensor([[[-1.0]]])

    def infer(self, t):
        """A q that is near the posterior and not it."""
        x = t.flatten(1) - 0.5
        precision = torch.eye(2) + self.weight.T @ self.weight / math.exp(-2)
        mean = x @ self.weight @ torch.linalg.inv(precision) / math.exp(-2)
        return mean + 0.1, (torch.linalg.inv(precision).diagonal() * 1.3).log().expand(len(t), 2)

    def tell(self, z):
        """Logits whose sigmoid is the mean: the likelihood takes them so."""
        return (0.5 + z @ self.weight.T).clamp(1e-6, 1 - 1e-6).logit().view(*z.shape[:-1], 1, 2, 2)


def test_importance_sampling_finds_the_closed_form_log_likelihood():
    model = Linear()
    model.weight *= 0.2  # means stay within 0..1
    torch.manual_seed(2)
    x = 0.5 + torch.randn(6, 2) @ model.weight.T + math.exp(-1) * torch.randn(6, 4)
    covariance = model.weight @ model.weight.T + math.exp(-2) * torch.eye(4)
    exact = multivariate_normal(np.full(4, 0.5), covariance.numpy()).logpdf(x.numpy())
    elbo, found = importance_bound(model, x.view(6, 1, 2, 2), 20_000)
    np.testing.assert_allclose(found.numpy(), exact, atol=0.02)
    assert (elbo.numpy() < exact).all()


def test_more_samples_never_loosen_the_bound_in_expectation():
    model = Linear()
    torch.manual_seed(0)
    x = torch.rand(64, 1, 2, 2)
    means = []
    for samples in (1, 5, 50):
        torch.manual_seed(3)
        means.append(float(torch.stack([importance_bound(model, x, samples)[1] for _ in range(40)]).mean()))
    assert means[0] < means[1] < means[2]


def test_the_weighted_loss_of_one_sample_is_the_elbo_in_expectation():
    y = torch.rand(4, 1, 2, 2).round()
    p = prediction(samples=1)
    weighted = NegativeBound(weighted=True)(p, y)["bound"]
    z, q = p["z"], torch.distributions.Normal(p["mean"], (0.5 * p["log_variance"]).exp())
    naive = log_bernoulli(p["told"], y) + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(2) - q.log_prob(z).sum(2)
    assert float(weighted) == pytest.approx(-float(naive.mean()), rel=1e-5)


def test_mutual_information_is_zero_after_a_collapse_and_log_n_when_every_item_has_its_place():
    assert float(mutual_information(torch.zeros(50, 2), torch.zeros(50, 2))) == pytest.approx(0, abs=1e-5)
    apart = torch.arange(50.0)[:, None].expand(50, 2) * 10
    assert float(mutual_information(apart, torch.zeros(50, 2))) == pytest.approx(math.log(50), abs=1e-3)
