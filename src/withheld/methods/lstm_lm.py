"""An LSTM language model: the next word from all before it, its state carried through the text."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.text import TextTrunk
from withheld.networks.words import NextWord
from withheld.objective import Objective
from withheld.splits.text import NextToken
from withheld.types import Recipe

ENCODER = "lstm-small"
TOKENIZER = "word"
STREAMS = 20
CARRIES = True
"""What it has read so far, from block to block."""
SCHEDULES = {200: (4, 0.5, 13, 5.0, 20), 650: (6, 1 / 1.2, 39, 5.0, 35), 1500: (14, 1 / 1.15, 55, 10.0, 35)}
"""Width: epochs at the full learning rate, what it is multiplied by after each further one, epochs, clipping, L."""


def lstm_lm(trunk: TextTrunk) -> tuple[Objective, Recipe]:
    """Predicts the next word from all before it; 20 streams of text, the state carried from block to block.

    (x, y): a block of a stream, and the state that the stream has come to; each block's words one later.
    p(y|x): a categorical over the vocabulary at every place; their product is p(text).
    Source: Zaremba, Sutskever and Vinyals 2014, https://arxiv.org/abs/1409.2329
    Differs: nothing known; small, medium and large with their schedules, other widths with the nearest.

    Args:
        trunk: an LSTM.
    """
    if not (trunk.recurrent and trunk.causal):
        raise InputError(f"lstm_lm needs an LSTM ({trunk.config.model_type} is none): use transformer_lm")
    hold, decay, epochs, clip, length = SCHEDULES[min(SCHEDULES, key=lambda width: abs(width - trunk.width))]
    # the paper sums the loss over a block's words and takes steps of 1; here it is the mean over them
    return Objective(NextToken(), NextWord(trunk), TokenCrossEntropy()), Recipe(
        base_learning_rate=length * 256 / STREAMS, batch_size=STREAMS, weight_decay=0.0, warmup=0.0, schedule="steps",
        hold=hold, decay=decay, clip=clip / length, epochs=epochs, optimizer="sgd", order="streams",
    )  # fmt: skip
