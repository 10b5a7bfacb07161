"""What a trunk says of words is what transformers says with the same weights, whatever head a family has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from withheld.networks.text import fresh_text_trunk

WIDTH, WORDS = 32, 90
SIZES: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 40, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16}, "bert": {}, "camembert": {}, "convbert": {}, "deberta": {}, "deberta-v2": {},
    "distilbert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}, "electra": {"embedding_size": 16}, "ernie": {},
    "mobilebert": {"embedding_size": 16}, "modernbert": {"cls_token_id": 2, "sep_token_id": 3}, "mpnet": {}, "nomic_bert": {},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24}, "roberta": {}, "roformer": {}, "xlm-roberta": {},
    "cohere": {"logit_scale": 0.3}, "gemma2": {"head_dim": 16, "num_key_value_heads": 2, "final_logit_softcapping": 0.1},
    "gpt2": {"n_embd": WIDTH, "n_layer": 2, "n_head": 2}, "granite": {"logits_scaling": 3.0}, "llama": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16}, "qwen3": {"head_dim": 16, "num_key_value_heads": 2},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers_and_teach_the_whole_head(family: str) -> None:
    trunk = fresh_text_trunk(AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family]}), 0).eval()
    with torch.no_grad():  # a head that begins at zero, or at one, would hide a part that is passed by
        for weight in trunk.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    words = torch.randint(5, WORDS, (3, 7), generator=torch.Generator().manual_seed(0))
    seen = {"item": words, "mask": torch.ones_like(words, dtype=torch.bool)}
    ours = trunk.logits(trunk.run(seen).last_hidden_state)
    theirs = trunk.model(input_ids=words, attention_mask=torch.ones_like(words)).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        trunk.logits(trunk.run(seen).last_hidden_state[:, 2]), theirs[:, 2], atol=1e-4, rtol=1e-4
    )
    weights = [weight for weight in trunk.model.parameters() if weight.requires_grad]
    mine, whole = (torch.autograd.grad(x.square().sum(), weights, allow_unused=True) for x in (ours, theirs))
    assert [grad is None for grad in mine] == [grad is None for grad in whole]
