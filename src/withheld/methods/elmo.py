"""ELMo: the next word from those before it, the word before from those after it."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import BothWaysCrossEntropy
from withheld.networks.text import TextTrunk
from withheld.networks.words import BothWays
from withheld.objective import Objective
from withheld.splits.text import Neighbors
from withheld.types import Recipe

ENCODER = {"cpu": "elmo-tiny", "cuda": "elmo"}
TOKENIZER = "wordpiece"


def elmo(trunk: TextTrunk) -> tuple[Objective, Recipe]:
    """Predicts every word from those before it and, with other LSTMs, from those after it; layers are mixed for each task.

    (x, y): a text; the token after each, and the token before each.
    p(y|x): two categoricals over the vocabulary at every place: of the next token given those up to here, of the one before
        given those from here on; inputs and softmax are shared.
    Source: Peters et al. 2018, Deep contextualized word representations, https://arxiv.org/abs/1802.05365
    Differs: the characters are those of word pieces, so none is unknown (`--set tokenizer=word` takes words); the softmax is
        whole (paper: sampled); AdamW (paper: Adagrad); the state begins anew with every block, and runs on over the
        documents in it; no clipping of cells; the softmax begins at how frequent words are.

    Args:
        trunk: an ELMo.
    """
    if not trunk.bidirectional:
        raise InputError(
            f"elmo needs a forward and a backward LSTM ({trunk.config.model_type} has not both): take --encoder elmo-tiny, "
            "or pretrain it with bert, gpt or lstm_lm"
        )
    rate = 4e-2 if trunk.width < 512 else 8e-3
    objective = Objective(Neighbors(), BothWays(trunk), BothWaysCrossEntropy(), weights={"next": 0.5, "previous": 0.5})
    return objective, Recipe(
        base_learning_rate=rate, batch_size=32, betas=(0.9, 0.98), weight_decay=0.01, warmup=0.05, clip=1.0, epochs=10
    )
