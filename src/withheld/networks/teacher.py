"""A teacher that follows its student: the running mean of its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.types import Moment


class HiddenStates(nn.Module):
    """What a teacher makes of the hidden patches, seeing the whole image: tokens (B, M, D), each normalized; an objective's target.

    Args:
        teacher: of a trunk.
        layers: whose mean is taken, from the last one.
    """

    def __init__(self, teacher: Teacher, layers: int = 1) -> None:
        super().__init__()
        self.teacher, self.layers = teacher, layers

    def forward(self, y: Mapping[str, Tensor]) -> Tensor:
        """(B, M, D) of "item" (B, C, H, W) at "hidden" (B, M)."""
        states_BLD = self.teacher.states(y["item"], self.layers)
        return states_BLD.gather(1, y["hidden"].unsqueeze(-1).expand(-1, -1, states_BLD.shape[-1]))


class HiddenWords(nn.Module):
    """What a teacher makes of the hidden words, seeing the whole text, (N, D) of all that are asked for.

    Args:
        teacher: of a trunk.
        layers: whose mean is taken, from the last one.
    """

    def __init__(self, teacher: Teacher, layers: int) -> None:
        super().__init__()
        self.teacher, self.layers = teacher, layers

    def counts(self, y: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Words that are asked for."""
        return {"loss": y["asked"].sum()}

    def forward(self, y: Mapping[str, Tensor]) -> Tensor:
        """(N, D) of texts with "asked" (B, L)."""
        return self.teacher.states({name: part for name, part in y.items() if name != "asked"}, self.layers)[y["asked"]]


class Teacher(nn.Module):
    """A copy of a network whose weights are a running mean of the network's; without gradients. The target of an objective.

    Its batch statistics are its own, those of what it sees (Grill et al. 2020, appendix); nothing is dropped in it.

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

    def train(self, mode: bool = True) -> Teacher:
        """Batch norms as always; what the network tells of an item hangs on no dropout."""
        super().train(mode)
        self.network.eval()
        for part in self.network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.train(mode)
        return self

    @torch.no_grad()
    def forward(self, y: Any) -> Any:
        """What the student so far would say."""
        return self.network(y)

    @torch.no_grad()
    def states(self, y: Any, layers: int) -> Tensor:
        """Tokens (B, L, D) of a trunk that is followed: the mean of its last layers' ones, each normalized.

        Args:
            y: whole items. layers: how many; 1 takes what the trunk gives in the end.
        """
        if layers == 1:
            found = self.network(y).tokens
            return F.layer_norm(found, found.shape[-1:])
        each = self.network(y, layers=True).layers[-layers:]
        mean = torch.stack([F.layer_norm(part, part.shape[-1:]) for part in each]).mean(dim=0)
        return F.layer_norm(mean, mean.shape[-1:])

    def momentum_at(self, moment: Moment) -> float:
        """Share of the weights that stays in the step of a moment."""
        return self.to_momentum - (self.to_momentum - self.momentum) * (math.cos(math.pi * moment.progress) + 1) / 2

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Moves every weight towards the student's."""
        mine: list[Tensor] = list(self.network.parameters())
        theirs: list[Tensor] = list(self._student[0].parameters())
        torch._foreach_lerp_(mine, theirs, 1 - self.momentum_at(moment))
