"""The teacher follows its student, and a stopped and resumed run ends as one that never stopped."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from withheld.data.image import ImageItems
from withheld.learn.gradient import Keeper, Loop
from withheld.networks.open import open_trunk
from withheld.networks.teacher import Teacher
from withheld.run import load_method
from withheld.types import Moment


def test_it_is_the_running_mean_of_its_student():
    student = nn.Linear(3, 2)
    teacher = Teacher(student, momentum=0.9)
    expected = student.weight.detach().clone()
    for step in range(4):
        with torch.no_grad():
            student.weight.add_(torch.randn_like(student.weight))
        moment = Moment(step, 4)
        momentum = 1 - (1 - 0.9) * (math.cos(math.pi * step / 4) + 1) / 2  # Grill et al. 2020, section 3
        assert teacher.momentum_at(moment) == pytest.approx(momentum)
        teacher.after_step(moment)
        expected = momentum * expected + (1 - momentum) * student.weight.detach()
    torch.testing.assert_close(teacher.network.weight, expected)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert teacher(torch.ones(1, 3)).grad_fn is None
    assert len(teacher.state_dict()) == 2  # the student is not kept twice


@pytest.mark.parametrize("name", ["byol", "dino"])
def test_resumed_it_ends_bit_identical(name, tmp_path):
    pictures = (np.random.default_rng(0).random((24, 3, 16, 16)) * 255).astype(np.uint8)

    def loop() -> Loop:
        torch.manual_seed(0)
        trunk, _ = open_trunk("resnet-nano", size=16, channels=3)
        objective, recipe = load_method(name)(trunk)
        return Loop(objective, ImageItems(pictures, [0.5] * 3, [0.3] * 3), recipe.change(batch_size=8), steps=4, seed=1)

    whole = loop()
    whole.run()
    first, keeper = loop(), Keeper(tmp_path / "state")
    first.objective.train()
    for step in range(2):
        first.step(step)
    first.save(keeper, 2)
    second = loop()
    second.run(start=second.resume(keeper))
    one, two = whole.objective.state_dict(), second.objective.state_dict()
    assert one.keys() == two.keys()
    assert any("target." in key for key in one)
    assert all(torch.equal(one[key], two[key]) for key in one)
