"""Losses against what a teacher says, with a state of their own.

Shapes: B batch, V views of the student, U views of the teacher, K prototypes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld import distributed
from withheld.losses.contrast import precise
from withheld.types import Moment


class CenteredTeacher(nn.Module):
    """KL(p_teacher || p_student) over prototypes, a mean over pairs of different views; the teacher is centered and sharpened.

    The paper's loss less the entropy of the teacher, which has no gradient and moves by itself: so 0 is a student that says what
    the teacher says. The center is a running mean of the teacher's logits over the items of all processes; the teacher's
    temperature rises over the first part of a run. Both are kept with the run.

    Source: Caron et al. 2021, DINO, https://arxiv.org/abs/2104.14294, algorithm 1.

    Args:
        prototypes: K.
        student: temperature of the student.
        teacher: temperatures of the teacher, at the start and after the warm-up.
        warmup: share of the run over which it rises.
        momentum: of the center.
    """

    at_once: ClassVar[str] = "the center follows the teacher's answers to all items of a step"
    center: Tensor
    temperature: Tensor

    def __init__(
        self, prototypes: int, student: float = 0.1, teacher: tuple[float, float] = (0.04, 0.04), warmup: float = 0.3,
        momentum: float = 0.9,
    ) -> None:  # fmt: skip
        super().__init__()
        self.student, self.range, self.warmup, self.momentum = student, teacher, warmup, momentum
        self.register_buffer("center", torch.zeros(prototypes))
        self.register_buffer("temperature", torch.tensor(teacher[0]))
        self._last: Tensor | None = None

    def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Term "divergence" of logits (B, V, K) of the student's views, of which the first U are the teacher's, (B, U, K)."""
        V, U = prediction.shape[1], target.shape[1]
        with torch.autocast(prediction.device.type, enabled=False):
            told_BUK = self.teacher(target)
            guess_BVK = F.log_softmax(precise(prediction) / self.student, dim=-1)
            crossed_BUV = -told_BUK @ guess_BVK.mT - torch.special.entr(told_BUK).sum(dim=-1, keepdim=True)
            different = ~torch.eye(U, V, dtype=torch.bool, device=target.device)
        if self.training:
            self._last = precise(target.detach()).flatten(0, 1).mean(dim=0)
        return {"divergence": crossed_BUV.mean(dim=0)[different].mean()}

    def teacher(self, target: Tensor) -> Tensor:
        """p of the teacher, centered and sharpened, (B, U, K)."""
        return F.softmax((precise(target) - self.center) / self.temperature, dim=-1)

    def after_step(self, moment: Moment) -> None:
        """Moves the center and the temperature."""
        if self._last is not None:
            self.center.lerp_(distributed.mean(self._last), 1 - self.momentum)
            self._last = None
        done = min(1.0, (moment.step + 1) / max(1.0, self.warmup * moment.steps))
        self.temperature.fill_(self.range[0] + (self.range[1] - self.range[0]) * done)

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """ "teacher_entropy" of an item's prototypes and "prototypes_entropy" of their mean over items, nats, against "ln_k".

        Collapsed to a uniform answer, the first is ln K; collapsed to one prototype, the second is 0.
        """
        told = self.teacher(y).flatten(0, 1)
        entropy = torch.special.entr(told).sum(dim=-1).mean()
        return {
            "teacher_entropy": float(entropy),
            "prototypes_entropy": float(torch.special.entr(told.mean(dim=0)).sum()),
            "ln_k": math.log(told.shape[-1]),
        }
