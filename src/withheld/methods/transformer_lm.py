"""A Transformer language model: the next token from all before it."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.text import TextTrunk
from withheld.networks.words import NextWord
from withheld.objective import Objective
from withheld.splits.text import NextToken
from withheld.types import Recipe

ENCODER = {"cpu": "gpt2-micro", "cuda": "gpt2-mini"}
TOKENIZER = "bpe"


def transformer_lm(trunk: TextTrunk) -> tuple[Objective, Recipe]:
    """Predicts the next token from all before it, with a Transformer of GPT-2's form, any size.

    (x, y): a text without its last token; without its first.
    p(y|x): a categorical over the vocabulary at every place; their product is p(text).
    Source: Radford et al. 2019, GPT-2, https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    Differs: attention stays inside a document; the small presets have no dropout and the exact GELU; matrices are learned
        by Muon (Jordan et al. 2024), the rest by AdamW, with a linear decay.

    Args:
        trunk: a causal language model.
    """
    if not trunk.causal:
        raise InputError(
            f"transformer_lm needs a network that looks back only; {trunk.config.model_type} sees both ways: use bert or elmo"
        )
    return Objective(NextToken(), NextWord(trunk), TokenCrossEntropy()), Recipe(
        base_learning_rate=0.08, batch_size=32, betas=(0.9, 0.95), weight_decay=0.01, warmup=0.05, schedule="linear",
        clip=1.0, epochs=10, optimizer="muon", matrix_rate=8.0,
    )  # fmt: skip
