"""Muon on kernels of convolutions: a kernel is a matrix with a row for each output."""

from __future__ import annotations

import torch
from torch import nn

from withheld.learn.muon import Muon, orthogonalized


def test_a_kernel_steps_as_its_matrix() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.LazyLinear(2))
    net(torch.randn(2, 3, 5, 5)).square().sum().backward()
    kernel = net[0].weight
    before, gradient = kernel.detach().clone(), kernel.grad.clone()
    groups = [{"params": list(net.parameters()), "weight_decay": 0.0}]
    Muon(groups, net, lr=1e-2, betas=(0.9, 0.95), matrix_rate=2.0).step()
    # the first step: momentum is 0.05 g, and Nesterov's step 0.05 * g + 0.95 * 0.05 g, whose scale is lost
    expected = orthogonalized(gradient.flatten(1)[None])[0].view_as(kernel)
    torch.testing.assert_close(kernel.detach(), before - 2e-2 * expected, atol=1e-4, rtol=1e-3)


def test_the_first_kernel_is_learned_by_adam_where_it_embeds() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedder = nn.Conv2d(1, 4, 3)
            self.block = nn.Conv2d(4, 4, 3)

    net = Net()
    optimizer = Muon([{"params": list(net.parameters()), "weight_decay": 0.0}], net, 1e-3, (0.9, 0.95))
    matrices = [p for group in optimizer.param_groups if group["matrix"] for p in group["params"]]
    assert [id(p) for p in matrices] == [id(net.block.weight)]
