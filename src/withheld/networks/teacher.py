"""A teacher that follows its student: the running mean of its weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from withheld.types import Moment


class Teacher(nn.Module):
    """A copy of a network whose weights are a running mean of the network's; without gradients. The target of an objective.

    Its batch statistics are its own, those of what it sees (Grill et al. 2020, appendix).

    Args:
        student: the network, or the part of it, that is followed.
        momentum: share of the weights that stays in a step, at the start; it rises to `to` along a cosine over the run.
        to: at the end; 1 stands still.
    """

    def __init__(self, student: nn.Module, momentum: float = 0.99, to: float = 1.0) -> None:
        super().__init__()
        self.momentum, self.to_momentum = momentum, to
        self.network = copy.deepcopy(student).requires_grad_(False)
        self._student = (student,)  # within a tuple, so that no tensor is registered twice

    @torch.no_grad()
    def forward(self, y: Any) -> Any:
        """What the student so far would say."""
        return self.network(y)

    def momentum_at(self, moment: Moment) -> float:
        """Share of the weights that stays in the step of a moment."""
        return self.to_momentum - (self.to_momentum - self.momentum) * (math.cos(math.pi * moment.progress) + 1) / 2

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Moves every weight towards the student's."""
        mine, theirs = list(self.network.parameters()), list(self._student[0].parameters())
        torch._foreach_lerp_(mine, theirs, 1 - self.momentum_at(moment))
