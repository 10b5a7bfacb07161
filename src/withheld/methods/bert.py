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


def bert(
    trunk: TextTrunk, *, rate: float = 0.15, whole_words: bool = False, next_sentence: bool = False
) -> tuple[Objective, Recipe]:
    """Hides some of the words and predicts them from all others; documents are packed without padding.

    (x, y): the text with 15 % of its tokens asked for (80 % of these show [MASK], 10 % a random token, 10 % themselves);
        the tokens asked for.
    p(y|x): a categorical over the vocabulary for every token asked for, and no logits elsewhere.
    Source: Devlin, Chang, Lee and Toutanova 2018, BERT, https://arxiv.org/abs/1810.04805; whole words:
        https://github.com/google-research/bert
    Differs: exactly `rate` of every block; next-sentence prediction is off by default (Liu et al. 2019), and where it is
        on, a block's second half is exchanged; no dropout in the small presets; attention stays inside a document.

    Args:
        trunk: a bidirectional language model.
        rate: share of the tokens that are asked for.
        whole_words: whether all parts of a word are asked for together.
        next_sentence: whether the network also tells if the second half of a block follows the first.
    """
    if not 0 < rate < 1:
        raise InputError(f"rate={rate}: a share of the words, between 0 and 1")
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
    words = MaskWords(special.mask, trunk.vocabulary, special.all, rate, whole_words=whole_words)
    split: Split = NextSentence(words, special.start, special.end) if next_sentence else words
    objective = Objective(split, MaskedWords(trunk, next_sentence), TokenCrossEntropy())
    return objective, Recipe(
        base_learning_rate=8e-3, batch_size=32, betas=(0.9, 0.98), weight_decay=0.01, warmup=0.1, clip=1.0, epochs=20
    )
