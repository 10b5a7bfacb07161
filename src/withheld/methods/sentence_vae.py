"""Variational autoencoder of sentences."""

from __future__ import annotations

import math

from withheld.errors import InputError
from withheld.losses.latent import SentenceBound
from withheld.networks.sentence_vae import SentenceAutoencoder
from withheld.networks.text import TextTrunk
from withheld.objective import Objective
from withheld.splits.text import WholeSentence
from withheld.types import Moment, Recipe

ENCODER = "lstm-vae"
TOKENIZER = "word"
ITEMS = "sentences"
FROM_Z = True


def logistic(progress: float, middle: float = 0.475, steepness: float = 13.0) -> float:
    """A weight from 0 to 1, at half at `middle` of the run (Bowman et al. 2015)."""
    return 1 / (1 + math.exp(-steepness * (progress - middle)))


def cyclical(progress: float, cycles: int = 4, rising: float = 0.5) -> float:
    """A weight that rises from 0 to 1 in the first part of each cycle, and stays (Fu et al. 2019)."""
    return 1.0 if progress >= 1 else min(1.0, progress * cycles % 1 / rising)


ANNEALINGS = {"logistic": logistic, "cyclical": cyclical, "none": lambda progress: 1.0}


def sentence_vae(
    trunk: TextTrunk,
    *,
    annealing: str = "logistic",
    word_dropout: float = 0.3,
    dropout: float = 0.2,
    free_bits: float = 0.0,
    beta: float = 1.0,
    width: int = 256,
) -> tuple[Objective, Recipe]:
    """Explains every sentence by a few numbers z, drawn from a normal distribution, and an LSTM that makes sentences of them.

    (x, y): the sentence twice; what is hidden is z, and the copy in x feeds the recognition network only.
    p(y|x): the product over its words and its end of p(word | z, words before); learning raises E_q[log p(y|z)] -
        KL(q(z|x) || p(z)), a bound of log p(y) in nats a sentence.
    Source: Bowman et al. 2015, Generating Sentences from a Continuous Space, https://arxiv.org/abs/1511.06349; cyclical
        annealing: Fu et al. 2019, https://arxiv.org/abs/1903.10145; free bits: Kingma et al. 2016
    Differs: z goes to every step of the decoder, not only to its first state; both sides share one table of words;
        vocabularies above 4,096 get an adaptive softmax (Grave et al. 2016), which is exact; AdamW with a cosine schedule.

    Args:
        trunk: a recognition network of sentences ("lstm-vae").
        annealing: of the KL's weight over the run: "logistic", "cyclical" (four times) or "none".
        word_dropout: share of the words before that the decoder does not see while it learns; 1 makes it inputless.
        dropout: of the decoder's inputs and outputs.
        free_bits: nats that every dimension of z may cost for nothing.
        beta: weight of the KL in the end; 1 is the bound.
        width: of the decoder.
    """
    if annealing not in ANNEALINGS:
        raise InputError(f"annealing={annealing}: there are {', '.join(ANNEALINGS)}")
    weight = ANNEALINGS[annealing]

    def kl_weight(moment: Moment) -> float:
        return beta * weight(moment.progress)

    return (
        Objective(
            WholeSentence(),
            SentenceAutoencoder(trunk, width, word_dropout, dropout),
            SentenceBound(free_bits),
            weights={"kl": kl_weight},
        ),
        Recipe(base_learning_rate=1.6e-2, batch_size=32, weight_decay=0.0, warmup=0.02, clip=50.0, epochs=4),
    )
