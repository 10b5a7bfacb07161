"""M2: its bound against enumeration and against the exact likelihood, and its gradients."""

from __future__ import annotations

import math

import pytest
import torch

from withheld.errors import InputError
from withheld.networks.semi_supervised import ClassAndStyle, Guess, semi_supervised_bound
from withheld.objective import Objective
from withheld.types import UNKNOWN_LABEL, Pair


@pytest.fixture
def network() -> ClassAndStyle:
    torch.manual_seed(0)
    return ClassAndStyle(4, 3, styles=2, width=8)


def naive_bound(network: ClassAndStyle, x: torch.Tensor, y: int, noise: torch.Tensor) -> torch.Tensor:
    """One item and one class, with torch's distributions."""
    one = torch.nn.functional.one_hot(torch.tensor(y), 3).float()
    hidden = torch.nn.functional.relu(network.look(x) + network.look_class(one))
    mean, log_variance = network.infer(hidden).split(2)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    z = mean + q.stddev * noise
    told = network.tell(torch.nn.functional.relu(network.imagine(z) + network.imagine_class(one)))
    center, log_scale = told.split(4)
    p = torch.distributions.Normal(center, (0.5 * log_scale).exp())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros(2), torch.ones(2))).sum()
    return p.log_prob(x).sum() - kl - math.log(3)


def test_the_bound_of_every_class_is_the_naive_one(network):
    x, noise = torch.randn(5, 4), torch.randn(5, 3, 2)
    bound = network.bound(x, noise)
    for i in range(5):
        for y in range(3):
            assert bound[i, y].item() == pytest.approx(naive_bound(network, x[i], y, noise[i, y]).item(), abs=1e-4)


def test_unlabelled_items_sum_over_every_class_exactly():
    log_class, bound = torch.randn(6, 3).log_softmax(1), torch.randn(6, 3)
    label = torch.tensor([0, UNKNOWN_LABEL, 2, UNKNOWN_LABEL, UNKNOWN_LABEL, 1])
    terms = semi_supervised_bound(Guess(log_class, bound), label)
    total, wrong = 0.0, []
    for i, y in enumerate(label.tolist()):
        if y == UNKNOWN_LABEL:
            total += sum(math.exp(log_class[i, k]) * float(bound[i, k] - log_class[i, k]) for k in range(3))
        else:
            total += float(bound[i, y])
            wrong.append(-float(log_class[i, y]))
    assert float(terms["bound"]) == pytest.approx(-total / 6, rel=1e-5)
    assert float(terms["classification"]) == pytest.approx(sum(wrong) / 3, rel=1e-5)


def test_the_best_guess_of_the_class_makes_the_bound_a_sum_over_classes():
    bound = torch.randn(4, 3)
    terms = semi_supervised_bound(Guess(bound.log_softmax(1), bound), torch.full((4,), UNKNOWN_LABEL))
    assert float(terms["bound"]) == pytest.approx(-float(bound.logsumexp(1).mean()), rel=1e-5)
    assert float(terms["classification"]) == 0


def test_the_bound_is_below_the_likelihood(network):
    """log p(x, y) by importance sampling from the prior, with many samples."""
    x = torch.randn(1, 4)
    with torch.no_grad():
        bound = torch.stack([network.bound(x, torch.randn(1, 3, 2)) for _ in range(2000)]).mean(0)[0]
        z = torch.randn(50_000, 2)
        for y in range(3):
            told = network.tell(torch.nn.functional.relu(network.imagine(z) + network.imagine_class.weight.T[y]))
            center, log_scale = told.chunk(2, dim=1)
            log_p = torch.distributions.Normal(center, (0.5 * log_scale).exp()).log_prob(x).sum(1)
            exact = torch.logsumexp(log_p, 0) - math.log(len(z)) - math.log(3)
            assert bound[y] <= exact + 0.02


@pytest.mark.parametrize("label", [[0, 1, 2, 1], [0, UNKNOWN_LABEL, UNKNOWN_LABEL, 1]])
def test_every_parameter_gets_a_gradient(network, label):
    objective = Objective(lambda t: Pair(*t), network, semi_supervised_bound)
    terms = objective(Pair(torch.randn(4, 4), torch.tensor(label)))
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_one_class_is_none():
    with pytest.raises(InputError, match="at least 2"):
        ClassAndStyle(4, 1)
