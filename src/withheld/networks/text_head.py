"""The head of a language model: what is told of words from the last layer's tokens.

Shapes: D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

# How the head of a family is applied to tokens, the short way; of others the model's own forward tells.
HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": lambda model, h: model.cls(h),
    "roberta": lambda model, h: model.lm_head(h),
    "xlm-roberta": lambda model, h: model.lm_head(h),
    "camembert": lambda model, h: model.lm_head(h),
    "distilbert": lambda model, h: model.vocab_projector(
        model.vocab_layer_norm(model.activation(model.vocab_transform(h)))
    ),
    "modernbert": lambda model, h: model.decoder(model.head(h)),
    "electra": lambda model, h: model.generator_lm_head(model.generator_predictions(h)),
    "withheld_elmo": lambda model, h: model.lm_head(h.chunk(2, dim=-1)[0]),  # the next token's, from the forward states
}
PLAIN = ("gpt2", "openai-gpt", "llama")
"""Families whose head is one product, as that of all of ours."""


def logits_of(model: Any, tokens: Tensor) -> Tensor:
    """(..., V) of tokens (..., D) as the last layer gives them."""
    family = model.config.model_type
    if family in HEADS:
        return HEADS[family](model, tokens)
    if family in PLAIN or family.startswith("withheld"):
        return model.get_output_embeddings()(tokens)  # type: ignore[no-any-return]
    return _after_base(model, tokens)


def _after_base(model: Any, tokens: Tensor) -> Tensor:
    """(..., V) by the model's own forward, in which its base is passed by: so every family's head is the one it has."""
    base = model.base_model
    flat = tokens.reshape(1, -1, tokens.shape[-1])
    asked: list[bool] = []

    def given(*_: Any, **__: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        asked.append(True)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=flat)  # type: ignore[arg-type]

    base.forward = given
    try:
        logits = model(input_ids=torch.zeros(flat.shape[:2], dtype=torch.long, device=flat.device)).logits
    finally:
        del base.forward
    if not asked:  # a part of the base was called, as OPT does
        return model.get_output_embeddings()(tokens)  # type: ignore[no-any-return]
    return logits.reshape(*tokens.shape[:-1], logits.shape[-1])  # type: ignore[no-any-return]
