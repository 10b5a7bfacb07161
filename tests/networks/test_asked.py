"""The last layer at asked places only, and the short attention: what transformers computes, of every family."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from withheld.learn.muon import COEFFICIENTS, orthogonalized
from withheld.networks.attention import short_attention
from withheld.networks.text import LAST, TextTrunk, fresh_text_trunk
from withheld.networks.text_open import open_text_trunk
from withheld.networks.words import MaskedWords

V, L = 60, 24
SHAPE = {
    "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": L + 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 1,
}  # fmt: skip
FAMILIES = {
    "bert": BertConfig(**SHAPE),
    "roberta": RobertaConfig(**SHAPE),
    "xlm-roberta": XLMRobertaConfig(**SHAPE),
    "camembert": CamembertConfig(**SHAPE),
    "electra": ElectraConfig(**SHAPE, embedding_size=16),
    "distilbert": DistilBertConfig(
        vocab_size=V, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=L + 4, dropout=0.0,
        attention_dropout=0.0,
    ),
    "modernbert": ModernBertConfig(**{k: v for k, v in SHAPE.items() if "prob" not in k}, cls_token_id=2, sep_token_id=3),
}  # fmt: skip


def question(documents: bool = False) -> dict[str, torch.Tensor]:
    """Hidden tokens, rows asked unequally often, one of them not at all."""
    generator = torch.Generator().manual_seed(0)
    asked = torch.rand(4, L, generator=generator) < 0.2
    asked[1] = False
    x = {"item": torch.randint(5, V, (4, L), generator=generator), "asked": asked}
    return {**x, "document": (torch.arange(L) // 9).expand(4, -1)} if documents else x


def everything(trunk: TextTrunk, x: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits at asked places, the way that computes all of them."""
    return trunk.logits(trunk.run(x).last_hidden_state)[x["asked"]]


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_those_of_the_whole_layer(family, documents):
    trunk = fresh_text_trunk(FAMILIES[family], 0).train()
    x = question(documents)
    ours, whole = MaskedWords(trunk)(x)["words"], everything(trunk, x)
    torch.testing.assert_close(ours, whole, atol=1e-5, rtol=1e-4)

    def gradients(logits):
        return torch.autograd.grad(logits.logsumexp(dim=1).sum(), list(trunk.parameters()), allow_unused=True)

    for a, b in zip(gradients(ours), gradients(whole), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("family", sorted(LAST))
def test_the_last_layer_sees_asked_tokens_only_and_is_itself_again_afterwards(family):
    trunk = fresh_text_trunk(FAMILIES[family], 0)
    x, layer = question(), LAST[family][0](trunk.base)
    counted: list[int] = []
    hook = layer.register_forward_hook(lambda module, args, output: counted.append(args[0].shape[1]))
    MaskedWords(trunk)(x)
    trunk(x)
    hook.remove()
    assert counted == [int(x["asked"].sum(dim=1).max()), L]
    assert not hasattr(LAST[family][1](layer), "asked")


def test_a_checkpoint_that_others_saved_computes_the_same(tmp_path):
    from transformers import BertForMaskedLM

    torch.manual_seed(0)
    published = BertForMaskedLM(BertConfig(**SHAPE)).eval()
    published.save_pretrained(tmp_path)
    trunk, trained = open_text_trunk(tmp_path, vocabulary=None, length=None)
    x = question()
    with torch.no_grad():
        expected = published(input_ids=x["item"], attention_mask=torch.ones_like(x["item"])).logits[x["asked"]]
        found = MaskedWords(trunk.eval())(x)["words"]
    assert trained
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_next_sentences_are_told_from_the_first_token():
    trunk = fresh_text_trunk(FAMILIES["bert"], 0).eval()
    network, x = MaskedWords(trunk, next_sentence=True).eval(), question()
    found = network(x)
    torch.testing.assert_close(found["words"], everything(trunk, x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        found["follows"], network.follows(trunk.run(x).last_hidden_state[:, 0]), atol=1e-5, rtol=1e-4
    )


def test_with_dropout_of_attention_it_still_learns():
    trunk = fresh_text_trunk(BertConfig(**{**SHAPE, "attention_probs_dropout_prob": 0.3}), 0).train()
    MaskedWords(trunk)(question(True))["words"].sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in trunk.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", ["none", "bool", "added", "causal"])
def test_short_attention_is_scaled_dot_product_attention(kind):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 8, generator=generator) for _ in range(3))
    seen = {
        "none": None, "bool": torch.rand(2, 1, 7, 7, generator=generator) < 0.7,
        "added": torch.randn(2, 1, 7, 7, generator=generator), "causal": torch.ones(7, 7, dtype=torch.bool).tril(),
    }[kind]  # fmt: skip
    if kind == "bool":
        seen |= torch.eye(7, dtype=torch.bool)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, seen, scale=0.3).transpose(1, 2)
    torch.testing.assert_close(short_attention(q, k, v, 0.3, seen), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 8, 24), (2, 24, 8), (3, 8, 8)])
def test_orthogonalized_through_the_gram_matrix_is_the_plain_iteration(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    a, b, c = COEFFICIENTS
    x = g.mT if shape[1] > shape[2] else g
    x = x / x.flatten(1).norm(dim=1)[:, None, None]
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    torch.testing.assert_close(orthogonalized(g), x.mT if shape[1] > shape[2] else x, atol=1e-4, rtol=1e-3)
