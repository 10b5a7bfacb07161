"""GPT: pretrained by predicting the next token, then fine-tuned."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.text import TextTrunk
from withheld.networks.words import NextWord
from withheld.objective import Objective
from withheld.splits.text import NextToken
from withheld.types import Recipe

ENCODER = {"cpu": "gpt-tiny", "cuda": "gpt"}
TOKENIZER = "bpe"
PUBLISHED = 768
"""The width from which on networks learn as published."""


def gpt(trunk: TextTrunk) -> tuple[Objective, Recipe]:
    """Predicts the next token with the first GPT's Transformer, whose encoder is then fine-tuned.

    (x, y): a text without its last token; without its first.
    p(y|x): a categorical over the vocabulary at every place; their product is p(text).
    Source: Radford, Narasimhan, Salimans and Sutskever 2018, https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf
    Differs: byte-level merges (paper: BPE after a word tokenizer); attention stays inside a document; small networks learn
        by Muon (Jordan et al. 2024), with a linear decay. Fine-tuning asks for 32 words of a text at a time.

    Args:
        trunk: a causal language model.
    """
    if not trunk.causal:
        raise InputError(
            f"gpt needs a network that looks back only; {trunk.config.model_type} sees both ways: use bert or elmo"
        )
    recipe = Recipe(
        base_learning_rate=2.5e-4 * 4, batch_size=64, betas=(0.9, 0.999), weight_decay=0.01, warmup=0.02, clip=1.0,
        epochs=20,
    )  # fmt: skip
    if trunk.width < PUBLISHED:
        recipe = recipe.change(
            base_learning_rate=0.08, batch_size=32, betas=(0.9, 0.95), warmup=0.05, schedule="linear", optimizer="muon"
        )
    return Objective(NextToken(), NextWord(trunk), TokenCrossEntropy()), recipe
