"""The teacher follows its student, and a stopped and resumed run ends as one that never stopped."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from withheld.data.image import ImageItems
from withheld.errors import InputError
from withheld.image_encoder import ImageEncoder
from withheld.learn.checkpoint import Keeper
from withheld.learn.gradient import Loop
from withheld.networks.frozen import FrozenEncoder
from withheld.networks.open import open_trunk
from withheld.networks.teacher import HiddenStates, HiddenWords, Teacher
from withheld.run import load_method
from withheld.splits.text import MaskWords, WordsInContext
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


def test_nothing_is_dropped_in_it_but_batch_statistics_are_its_own():
    """data2vec's teacher is in `eval` (Baevski et al. 2022), BYOL's takes the statistics of its batch (Grill et al. 2020)."""
    config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    student, x = BertModel(config), torch.randint(5, 20, (4, 9))
    teacher = Teacher(student)
    assert teacher.network.config.hidden_dropout_prob > 0
    teacher.train()
    torch.testing.assert_close(teacher(x).last_hidden_state, student.eval()(x).last_hidden_state)
    norm = Teacher(nn.BatchNorm1d(3)).train()
    values = 5 + 2 * torch.randn(64, 3)
    torch.testing.assert_close(
        norm(values), (values - values.mean(0)) / values.std(0, correction=0), atol=1e-4, rtol=1e-4
    )
    norm.eval()
    torch.testing.assert_close(norm(values), norm.network(values))
    assert not norm.network.training


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


def normalized(token: torch.Tensor) -> torch.Tensor:
    return (token - token.mean()) / (token.var(correction=0) + 1e-5).sqrt()


@pytest.mark.parametrize("layers", [1, 3])
def test_hidden_states_are_the_mean_of_normalized_layers_token_by_token(layers):
    trunk, _ = open_trunk("vit-nano", size=16, channels=3)
    target = HiddenStates(Teacher(trunk), layers)
    t, hidden = torch.randn(2, 3, 16, 16), torch.tensor([[0, 5, 15], [3, 3, 1]])
    found = target({"item": t, "hidden": hidden})
    features = trunk(t, layers=True)
    for b in range(2):
        for m, place in enumerate(hidden[b].tolist()):
            each = [features.tokens] if layers == 1 else features.layers[-layers:]
            naive = sum(normalized(layer[b, place]) for layer in each) / len(each)
            torch.testing.assert_close(found[b, m], naive if layers == 1 else normalized(naive), atol=1e-4, rtol=1e-4)


def test_hidden_words_are_told_from_the_whole_text():
    from withheld.networks.text_open import open_text_trunk

    trunk, _ = open_text_trunk("bert-tiny", vocabulary=40, length=32)
    trunk.eval()
    item = torch.randint(5, 40, (2, 12), generator=torch.Generator().manual_seed(0))
    pair = WordsInContext(MaskWords(mask=4, vocabulary=40, rate=0.25, shown=1.0, random=0.0))({"item": item})
    assert torch.equal(pair.y["item"], item)
    assert (pair.x["item"][pair.x["asked"]] == 4).all()
    found = HiddenWords(Teacher(trunk).eval(), 2)(pair.y)
    layers = trunk({"item": item}, layers=True).layers[-2:]
    naive = [
        normalized((normalized(layers[0][b, k]) + normalized(layers[1][b, k])) / 2)
        for b, k in pair.x["asked"].nonzero().tolist()
    ]
    torch.testing.assert_close(found, torch.stack(naive), atol=1e-4, rtol=1e-4)


def test_a_frozen_encoder_says_what_its_run_says_and_is_not_kept(tmp_path):
    pictures = (np.random.default_rng(0).random((6, 16, 16, 3)) * 255).astype(np.uint8)
    trunk, _ = open_trunk("resnet-nano", size=16, channels=3, seed=3)
    encoder = ImageEncoder(trunk, [0.4] * 3, [0.2] * 3)
    encoder.save(tmp_path / "encoder")
    frozen = FrozenEncoder(str(tmp_path))
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    np.testing.assert_allclose(frozen((pixels - 0.4) / 0.2).numpy(), encoder.transform(pictures), atol=1e-5)
    student, _ = open_trunk("resnet-nano", size=16, channels=3)
    objective, _ = load_method("distill")(student, teacher=str(tmp_path))
    assert not any("target" in name for name in objective.state_dict())
    features = torch.randn(6, 192, generator=torch.Generator().manual_seed(0))
    naive = [((f - column.mean()) / column.std()).item() for column in features.T for f in column]
    told = torch.tensor(naive).view(192, 6).T
    guess = torch.randn(6, 192)
    assert float(objective.loss(guess, features)) == pytest.approx(float((guess - told).square().mean()), rel=1e-5)


def test_a_teacher_that_is_none_is_refused(tmp_path):
    trunk, _ = open_trunk("resnet-nano", size=16, channels=3)
    with pytest.raises(InputError, match="needs a teacher"):
        load_method("distill")(trunk)
    with pytest.raises(InputError, match="no encoder in this folder"):
        load_method("distill")(trunk, teacher=str(tmp_path))
    trunk.config.save_pretrained(tmp_path / "encoder")
    with pytest.raises(InputError, match="no trained weights"):
        load_method("distill")(trunk, teacher=str(tmp_path))
