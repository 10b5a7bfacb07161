"""BERT: hidden words from the words around them."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.text import TextTrunk
from withheld.networks.words import MaskedWords
from withheld.objective import Objective
from withheld.splits.text import MaskWords, NextSentence
from withheld.types import Recipe, Split

ENCODER = {"cpu": "bert-tiny", "cuda": "bert-small"}
TOKENIZER = "wordpiece"
PUBLISHED = 768
"""The width from which on networks learn as published."""


def bert(
    trunk: TextTrunk, *, rate: float = 0.3, shown: float = 1.0, random: float = 0.0, whole_words: bool = False,
    next_sentence: bool = False,
) -> tuple[Objective, Recipe]:  # fmt: skip
    """Hides some of the words and predicts them from all others; documents are packed without padding.

    (x, y): the text with 30 % of its tokens replaced by [MASK]; these tokens.
    p(y|x): a categorical over the vocabulary for every token asked for, and no logits elsewhere.
    Source: Devlin, Chang, Lee and Toutanova 2018, BERT, https://arxiv.org/abs/1810.04805; whole words:
        https://github.com/google-research/bert
    Differs: 30 % of the tokens are asked for and all of them show [MASK] (Wettig et al. 2022; the paper's 15 % with 80/10/10:
        rate=0.15, shown=0.8, random=0.1), exactly `rate` of every block; next-sentence prediction is off by default (Liu et
        al. 2019), and where it is on, a block's second half is exchanged; attention stays inside a document. Networks
        narrower than 768: no dropout; Muon with a cosine (Adam: optimizer=adamw); presets begin with heads that look at
        neighboring words (networks/beginning.py).

    Args:
        trunk: a bidirectional language model.
        rate: share of the tokens that are asked for.
        shown: share of those that show [MASK]. random: share that show a random token; the rest show themselves.
        whole_words: whether all parts of a word are asked for together.
        next_sentence: whether the network also tells if the second half of a block follows the first.
    """
    if not 0 < rate < 1:
        raise InputError(f"rate={rate}: a share of the words, between 0 and 1")
    if min(shown, random) < 0 or shown + random > 1:
        raise InputError(f"shown={shown}, random={random}: shares of the words asked for, together at most 1")
    if trunk.causal:
        raise InputError(
            f"bert needs a network that sees both ways; {trunk.config.model_type} looks back only: use gpt"
        )
    if trunk.bidirectional:
        raise InputError("bert needs a network that sees both ways at once; an ELMo reads each by itself: use elmo")
    special = trunk.special
    if special.mask is None or special.start is None or special.end is None:
        raise InputError(
            "the tokenizer of this encoder has no tokens for mask, start and end: use one that has, or another --encoder"
        )
    words = MaskWords(special.mask, trunk.vocabulary, special.all, rate, shown, random, whole_words=whole_words)
    split: Split = NextSentence(words, special.start, special.end) if next_sentence else words
    objective = Objective(split, MaskedWords(trunk, next_sentence), TokenCrossEntropy())
    recipe = Recipe(batch_size=32, betas=(0.9, 0.98), weight_decay=0.01, warmup=0.1, clip=1.0, epochs=20)
    if trunk.width >= PUBLISHED:
        return objective, recipe.change(
            base_learning_rate=1e-4, batch_size=256, betas=(0.9, 0.999), warmup=0.01, schedule="linear"
        )
    return objective, recipe.change(base_learning_rate=32e-3, optimizer="muon", matrix_rate=8.0)
