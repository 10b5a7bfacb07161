"""What a trunk says is what transformers says with the same weights, whatever head a family has and however it is told of
padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from withheld.networks.text import TextTrunk, fresh_text_trunk

WIDTH, WORDS = 32, 90
SIZES: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 40, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16}, "bert": {}, "camembert": {}, "convbert": {},
    "deberta": {"relative_attention": True, "pos_att_type": "c2p|p2c"},
    "deberta-v2": {
        "relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 4, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "position_biased_input": False, "max_relative_positions": -1, "type_vocab_size": 0,
    },
    "distilbert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}, "electra": {"embedding_size": 16}, "ernie": {},
    "mobilebert": {"embedding_size": 16}, "modernbert": {"cls_token_id": 2, "sep_token_id": 3}, "mpnet": {}, "nomic_bert": {},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24}, "roberta": {}, "roformer": {}, "xlm-roberta": {},
    "cohere": {"logit_scale": 0.3}, "gemma2": {"head_dim": 16, "num_key_value_heads": 2, "final_logit_softcapping": 0.1},
    "gpt2": {"n_embd": WIDTH, "n_layer": 2, "n_head": 2}, "granite": {"logits_scaling": 3.0}, "llama": {},
    "bloom": {}, "gpt_neo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 4},
    "megatron-bert": {}, "roberta-prelayernorm": {}, "xlm": {"emb_dim": WIDTH, "n_heads": 2, "n_layers": 2, "pad_index": 1},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16}, "qwen3": {"head_dim": 16, "num_key_value_heads": 2},
}  # fmt: skip


MIXES = ("convbert", "mobilebert")
"""Families in which padding reaches words, in transformers too."""


def _trunk(family: str) -> TextTrunk:
    trunk = fresh_text_trunk(AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family]}), 0).eval()
    with torch.no_grad():  # a head that begins at zero, or at one, would hide a part that is passed by
        for weight in trunk.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    return trunk


def _words(*shape: int) -> torch.Tensor:
    return torch.randint(5, WORDS, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_rows_are_as_transformers_sees_them(family: str) -> None:
    trunk, words = _trunk(family), _words(3, 9)
    mask = torch.arange(9) < torch.tensor([[9], [5], [2]])
    words[~mask] = 1
    with torch.no_grad():
        theirs = trunk.base(input_ids=words, attention_mask=mask.long())[0]
        ours = trunk({"item": words, "mask": mask}, layers=True)
    torch.testing.assert_close(ours.tokens[mask], theirs[mask], atol=1e-4, rtol=1e-4)
    if family in MIXES:
        return
    with torch.no_grad():
        alone = trunk.base(input_ids=words[1:2, :5])[0]
    torch.testing.assert_close(ours.tokens[1, :5], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {*MIXES}))
def test_documents_of_a_block_do_not_see_each_other(family: str) -> None:
    trunk, words = _trunk(family), _words(2, 9)
    documents = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1], [2, 2, 3, 3, 3, 3, 3, 3, 4]])
    with torch.no_grad():
        ours = trunk({"item": words, "document": documents}, layers=True)
        for row, begin, end in ((0, 0, 5), (0, 5, 9), (1, 0, 2), (1, 2, 8), (1, 8, 9)):
            alone = trunk.base(input_ids=words[row : row + 1, begin:end], output_hidden_states=True)
            torch.testing.assert_close(ours.tokens[row, begin:end], alone[0][0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(ours.layers[1][row, begin:end], alone.hidden_states[1][0], atol=1e-4, rtol=1e-4)


def test_positions_that_padding_takes_are_not_counted() -> None:
    assert _trunk("mpnet").length == _trunk("roberta").length == 38
    assert _trunk("bert").length == 40
    trunk = _trunk("mpnet")
    assert trunk({"item": _words(1, 60)}).tokens.shape == (1, 60, WIDTH)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers_and_teach_the_whole_head(family: str) -> None:
    trunk, words = _trunk(family), _words(3, 7)
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
