"""TSDAE: a text from one vector of what deletion left of it."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.text import TextTrunk
from withheld.networks.text_vector import Reconstructor
from withheld.objective import Objective
from withheld.splits.text import DeleteWords
from withheld.types import Recipe

ENCODER = {"cpu": "bert-tiny", "cuda": "bert-small"}
TOKENIZER = "wordpiece"
ITEMS = "sentences"
CONTINUES = True


def tsdae(trunk: TextTrunk, *, rate: float = 0.6, layers: int = 1) -> tuple[Objective, Recipe]:
    """Deletes most words of a text and tells the whole of it from one vector of the rest.

    Meant to continue from a language model: `--encoder runs/bert/encoder`.

    (x, y): the text without 60 % of its tokens, put into one vector, and before every word those that went before; the words.
    p(y|x): a categorical over the vocabulary for every word; their product is p(text | vector).
    Source: Wang, Reimers and Gurevych 2021, TSDAE, https://arxiv.org/abs/2104.06979
    Differs: exactly `rate` of every text is deleted; the decoder is a small one of its own that shares words and head with
        the encoder (paper: all weights shared); the vector is the mean of the last states (paper: [CLS], as good).

    Args:
        trunk: a language model, best a trained one.
        rate: share of the tokens that are deleted.
        layers: of the decoder, which is thrown away.
    """
    if not 0 <= rate < 1:
        raise InputError(f"rate={rate}: a share of the words, from 0 to below 1")
    if layers < 1:
        raise InputError(f"layers={layers}: the decoder needs 1 or more")
    special = trunk.special
    kept = tuple(number for number in (special.start, special.end) if number is not None)
    objective = Objective(DeleteWords(rate, kept, special.pad or 0), Reconstructor(trunk, layers), TokenCrossEntropy())
    peak = 3e-5 * max(1.0, 768 / trunk.width) ** 1.6
    return objective, Recipe(
        base_learning_rate=8 * peak,
        batch_size=32,
        weight_decay=0.01,
        warmup=0.05,
        clip=1.0,
        schedule="linear",
        epochs=1,
    )
