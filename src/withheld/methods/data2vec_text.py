"""data2vec for texts: from the words around what a slower self makes of hidden ones in their context."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import SmoothError
from withheld.networks.teacher import HiddenWords, Teacher
from withheld.networks.text import TextTrunk
from withheld.networks.words import WordStates
from withheld.objective import Objective
from withheld.splits.text import MaskWords, WordsInContext
from withheld.types import Recipe

ENCODER = {"cpu": "bert-tiny", "cuda": "bert-small"}
TOKENIZER = "wordpiece"
TELLS_WORDS = False


def data2vec_text(
    trunk: TextTrunk, *, momentum: float = 0.99, layers: int = 0, rate: float = 0.3, shown: float = 1.0, random: float = 0.0
) -> tuple[Objective, Recipe]:  # fmt: skip
    """Hides some of the words and predicts the mean of the upper layers that a running mean of the network gives them in context.

    (x, y): the text with 30 % of its tokens replaced by [MASK]; the whole text, of which the teacher tells these tokens' states.
    p(y|x): a Gaussian with heavier tails around the predicted state of every token asked for.
    Source: Baevski et al. 2022, data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language,
        https://arxiv.org/abs/2202.03555
    Differs: 30 % of the tokens, all of them [MASK] (paper: 15 %, 80/10/10); half of the layers (10 of 12); each layer's tokens are
        normalized over their width, and so is their mean; momentum from 0.99 (0.999) to 1; blocks are packed.

    Args:
        trunk: a bidirectional language model; its head is not trained.
        momentum: share of the teacher's weights that stays in a step, at the start; it rises to 1.
        layers: of the teacher, whose mean is told, from the last; 0 takes half of them.
        rate: share of the tokens that are asked for.
        shown: share of those that show [MASK].
        random: share that show a random token; the rest show themselves.
    """
    if not 0 < rate < 1:
        raise InputError(f"rate={rate}: a share of the words, between 0 and 1")
    if min(shown, random) < 0 or shown + random > 1:
        raise InputError(f"shown={shown}, random={random}: shares of the words asked for, together at most 1")
    if not 0 <= momentum < 1:
        raise InputError(f"momentum={momentum}: from 0 to below 1; 0.98 to 0.9999 are usual, larger for longer runs")
    if trunk.causal or trunk.bidirectional or trunk.wordless:
        raise InputError("data2vec_text needs a network that sees both ways at once, such as --encoder bert-tiny")
    if not 0 <= layers <= trunk.depth:
        raise InputError(f"layers={layers}: this encoder has {trunk.depth}")
    special = trunk.special
    if special.mask is None:
        raise InputError("the tokenizer of this encoder has no token for mask: use one that has, or another --encoder")
    split = WordsInContext(MaskWords(special.mask, trunk.vocabulary, special.all, rate, shown, random))
    target = HiddenWords(Teacher(trunk, momentum), layers or max(1, trunk.depth // 2))
    recipe = Recipe(
        base_learning_rate=8e-3, batch_size=32, betas=(0.9, 0.98), weight_decay=0.01, warmup=0.1, clip=1.0, epochs=20
    )
    return Objective(split, WordStates(trunk), SmoothError(), target), recipe
