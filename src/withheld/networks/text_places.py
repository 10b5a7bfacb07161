"""Where tokens stand, and how a family of language models is told who sees whom.

Shapes: B batch, L tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

WHOLE_MASKS = frozenset((
    "albert", "bert", "biogpt", "camembert", "cohere", "distilbert", "electra", "ernie", "eurobert", "gemma", "gemma2",
    "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "mistral", "modernbert", "nomic_bert", "olmo2", "openai-gpt", "phi",
    "phi3", "qwen2", "qwen3", "roberta", "smollm3", "stablelm", "starcoder2", "xlm-roberta",
))  # fmt: skip
"""Families that take a mask of who sees whom, (B, 1, L, L). Of others the documents of a block are rows of their own."""


def positions_of(model: PreTrainedModel) -> int:
    """Tokens that a model can see at once."""
    config = model.config
    found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 512
    return int(found) - first_position(model)


def first_position(model: PreTrainedModel) -> int:
    """Where a family counts from: RoBERTa and its kin after the number of the padding token, which has a position of its own."""
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    padding = next((table.padding_idx for table in tables if isinstance(table, nn.Embedding)), None)
    return 0 if padding is None else padding + 1


def positions_within(document_BL: Tensor) -> Tensor:
    """(B, L) place of a token in its document, counted from where the block meets it."""
    L = document_BL.shape[1]
    place = torch.arange(L, device=document_BL.device).expand_as(document_BL)
    begins = F.pad(document_BL[:, 1:] != document_BL[:, :-1], (1, 0), value=True)
    return place - torch.where(begins, place, 0).cummax(dim=1).values
