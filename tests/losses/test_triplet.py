"""Semi-hard triplets against a loop over anchors, positives and negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from withheld.losses.triplet import SemiHardTriplet


def naive(points: torch.Tensor, seed: torch.Tensor, margin: float) -> torch.Tensor:
    total, count = torch.zeros(()), 0
    for a in range(len(points)):
        for p in range(len(points)):
            if a == p or seed[a] != seed[p]:
                continue
            near = (points[a] - points[p]).square().sum()
            others = [(points[a] - points[n]).square().sum() for n in range(len(points)) if seed[n] != seed[a]]
            farther = [d for d in others if d > near]
            total = total + F.relu(margin + near - (min(farther) if farther else max(others)))
            count += 1
    return total / count


def test_equals_the_loop_and_its_gradient():
    torch.manual_seed(0)
    seed = torch.tensor([[3, 3, 3], [1, 1, 1], [4, 4, 4], [3, 3, 3]])  # an item may come twice
    for spread in (0.1, 1.0, 5.0):
        raw = (torch.randn(4, 1, 6) + spread * torch.randn(4, 3, 6)).requires_grad_()
        points = F.normalize(raw, dim=-1)
        loss = SemiHardTriplet(0.5)(points, seed)
        wanted = naive(points.flatten(0, 1), seed.flatten(), 0.5)
        torch.testing.assert_close(loss, wanted)
        (one,) = torch.autograd.grad(loss, raw, retain_graph=True)
        (two,) = torch.autograd.grad(wanted, raw)
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_nothing_to_compare_is_no_loss():
    points = F.normalize(torch.randn(4, 1, 6), dim=-1).requires_grad_()
    assert SemiHardTriplet()(points, torch.arange(4)[:, None]).item() == 0
    same = F.normalize(torch.randn(2, 2, 6), dim=-1)
    assert SemiHardTriplet()(same, torch.zeros(2, 2, dtype=torch.long)).item() == 0


def test_accuracy_is_that_of_the_nearest_other_view():
    points = F.normalize(torch.tensor([[[1.0, 0.0], [0.9, 0.1]], [[0.0, 1.0], [0.8, 0.6]]]), dim=-1)
    assert SemiHardTriplet().measures(points, torch.tensor([[0, 0], [1, 1]]))["accuracy"] == 0.75


def test_half_precision_around_it_rounds_no_distance():
    torch.manual_seed(0)
    points, seed = F.normalize(torch.randn(1, 64) + 0.2 * torch.randn(32, 4, 64), dim=-1), torch.arange(32)[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = SemiHardTriplet()(points, seed.expand(-1, 4))
    assert torch.equal(found, SemiHardTriplet()(points, seed.expand(-1, 4)))
