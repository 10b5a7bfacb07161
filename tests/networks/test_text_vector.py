"""Vectors of texts: views by dropout, what is kept, and a decoder that sees one vector only."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from withheld.errors import InputError
from withheld.methods.simcse import simcse
from withheld.methods.tsdae import tsdae
from withheld.networks.text import Special, TextTrunk
from withheld.networks.text_open import open_text_trunk
from withheld.types import Pair


def trunk_of() -> TextTrunk:
    trunk, _ = open_text_trunk("bert-tiny", vocabulary=50, length=16)
    trunk._special = Special(0, 2, 3, 4, (0, 1, 2, 3, 4))
    return trunk


def texts(count: int = 4, length: int = 12) -> dict[str, torch.Tensor]:
    item = torch.randint(5, 50, (count, length), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(length) < torch.tensor([length, 7, 9, 5])[:count, None]
    item[:, 0] = 2
    return {"item": item.masked_fill(~mask, 0), "mask": mask}


class TestSimCSE:
    def test_the_loss_is_the_papers_formula_on_two_views(self):
        objective, _ = simcse(trunk_of(), temperature=0.1)
        t = texts()
        torch.manual_seed(1)
        ours = float(objective.train()(t)["contrast"].detach())
        torch.manual_seed(1)
        one, two = objective.network(t), objective.network(t)
        assert not torch.equal(one, two)
        logits = F.cosine_similarity(one[:, None], two[None], dim=2) / 0.1
        naive = -(logits.diagonal().exp() / logits.exp().sum(dim=1)).log().mean()
        assert ours == pytest.approx(float(naive.detach()), rel=1e-5)

    def test_both_views_are_learned_from(self):
        objective, _ = simcse(trunk_of())
        t = texts()
        one, two = objective.network(t).detach().requires_grad_(), objective.network(t).detach().requires_grad_()
        objective.loss(one, two)["contrast"].backward()
        assert one.grad.abs().sum() > 0
        assert two.grad.abs().sum() > 0
        assert objective.aim(t).requires_grad

    def test_the_trained_vector_is_the_one_that_is_kept(self):
        trunk = trunk_of()
        objective, _ = simcse(trunk)
        t = texts()
        objective.eval()
        torch.testing.assert_close(objective.network(t), trunk(t).pooled)
        real = trunk({"item": t["item"][1:2, :7], "mask": t["mask"][1:2, :7]}).tokens
        torch.testing.assert_close(objective.network(t)[1], real.mean(dim=1)[0], rtol=1e-4, atol=1e-5)

    def test_what_is_saved_has_the_dropout_it_had(self):
        trunk = trunk_of()
        simcse(trunk, dropout=0.2)
        assert trunk.config.hidden_dropout_prob == 0.0
        assert trunk.model.bert.encoder.layer[0].output.dropout.p == 0.2
        assert trunk.model.bert.encoder.layer[0].attention.self.dropout.p == 0.0

    @pytest.mark.parametrize("wrong", [{"dropout": 0.0}, {"temperature": 0.0}])
    def test_settings_that_teach_nothing(self, wrong):
        with pytest.raises(InputError, match=next(iter(wrong))):
            simcse(trunk_of(), **wrong)


class TestTSDAE:
    def test_no_word_sees_itself_or_those_after_it(self):
        objective, _ = tsdae(trunk_of())
        network = objective.eval().network
        x = objective.split(texts()).x
        before = network(x)
        changed = dict(x, before=x["before"].clone())
        changed["before"][:, 6] = 49
        after = network(changed)
        assert torch.equal(before[:, :6], after[:, :6])
        assert (before[0, 6:] != after[0, 6:]).any()

    def test_the_text_reaches_the_decoder_through_one_vector_only(self):
        objective, _ = tsdae(trunk_of())
        network = objective.eval().network
        x = objective.split(texts()).x
        whole = network(x)
        other = dict(x, item=torch.where(x["mask"] & (x["item"] > 4), 48, x["item"]))
        assert (network(other) != whole).any()
        constant = network.trunk(texts()).pooled[:1].expand(4, -1)
        original, network.trunk.forward = network.trunk.forward, lambda *_, **__: type("F", (), {"pooled": constant})()
        try:
            assert torch.equal(network(x), network(other))  # with the vector held still, nothing of the text arrives
        finally:
            network.trunk.forward = original

    def test_the_loss_is_that_of_every_real_word(self):
        objective, _ = tsdae(trunk_of())
        pair = objective.eval().split(texts())
        logits = objective.network(pair.x)
        told = pair.y != -100
        assert told.sum() == texts()["mask"][:, 1:].sum()
        naive = -logits.log_softmax(dim=2)[told].gather(1, pair.y[told][:, None]).mean()
        assert float(objective(Pair(pair.x, pair.y))["loss"].detach()) == pytest.approx(float(naive.detach()), rel=1e-5)
