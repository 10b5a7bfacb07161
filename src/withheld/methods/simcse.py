"""SimCSE: the same text twice, seen through other dropout."""

from __future__ import annotations

from torch import nn

from withheld.errors import InputError
from withheld.losses.contrast import InfoNCE
from withheld.networks.text import TextTrunk
from withheld.networks.text_vector import SentenceVector
from withheld.objective import Objective
from withheld.splits.whole import Whole
from withheld.types import Recipe

ENCODER = {"cpu": "bert-tiny", "cuda": "bert-small"}
TOKENIZER = "wordpiece"
ITEMS = "sentences"
CONTINUES = True
TELLS_WORDS = False


def simcse(trunk: TextTrunk, *, temperature: float = 0.05, dropout: float = 0.1) -> tuple[Objective, Recipe]:
    """Brings two views of a text together and those of different texts apart; the views differ in dropout only.

    Meant to continue from a language model: `--encoder runs/bert/encoder`.

    (x, y): a text; the same text.
    p(y|x): a categorical over the texts of the batch: which of them is the same, by cosine / temperature.
    Source: Gao, Yao and Chen 2021, SimCSE, unsupervised, https://arxiv.org/abs/2104.08821
    Differs: the vector is the mean of the last states, which is what the encoder gives (paper: [CLS] through a layer that
        is thrown away); dropout in the layers and not on attention weights; learning rate by the width of the network.

    Args:
        trunk: a language model, best a trained one.
        temperature: of the softmax over cosines.
        dropout: the only difference between two views; above 0.
    """
    if not temperature > 0:
        raise InputError(f"temperature={temperature} must be above 0; 0.05 is usual")
    if not 0 < dropout < 1:
        raise InputError(
            f"dropout={dropout}: between 0 and 1; without it two views of a text are the same, and nothing is learned"
        )
    if not any(isinstance(part, nn.Dropout) for part in trunk.modules()):
        raise InputError("simcse needs dropout between layers, and this encoder has none: continue it by same_text")
    network = SentenceVector(trunk, dropout)
    objective = Objective(Whole(), network, InfoNCE(temperature), target="network")
    rate = 3e-5 * max(1.0, 768 / trunk.width) ** 1.6
    return objective, Recipe(
        base_learning_rate=4 * rate, batch_size=64, weight_decay=0.0, warmup=0.05, clip=1.0, schedule="linear", epochs=1
    )
