"""Distillation of texts: an encoder that somebody trained, made small."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.agreement import StandardizedError
from withheld.networks.frozen_text import FrozenText
from withheld.networks.projector import projector
from withheld.networks.text import TextTrunk
from withheld.networks.text_vector import VectorProjector
from withheld.objective import Objective
from withheld.splits.text import LeaveOutWords
from withheld.types import Recipe

ENCODER = {"cpu": "word-vectors", "cuda": "word-vectors"}
NEEDS = {"teacher": "encoder of texts"}
"""Settings without a default that serves, and what each names."""
TOKENIZER_OF = "teacher"
"""The setting that names an encoder whose tokens are read."""
ITEMS = "sentences"
SENTENCES = "passages"
LENGTH = 512  # a passage whole
TELLS_WORDS = False


def distill_text(
    trunk: TextTrunk, *, teacher: str = "", hidden: int = 0, left_out: float = 0.5
) -> tuple[Objective, Recipe]:
    """Predicts the vector that a frozen encoder gives the same text: any transformers model, or a run of your own.

    (x, y): a text without some of its words; the whole text, of which the teacher tells its vector.
    p(y|x): a Gaussian around the prediction for each of the teacher's features, brought to mean 0 and variance 1 over the batch.
    Source: Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531; of
        vectors of sentences: Reimers and Gurevych 2020, https://arxiv.org/abs/2004.09813; into a table of word vectors:
        Tulkens and van Dongen 2024, Model2Vec, https://github.com/MinishLab/model2vec
    Differs: the vector is standardized (Reimers: as it is); no translations; word vectors are learned from texts (Model2Vec: from
        the words alone, without texts). The student reads the teacher's tokens.

    Args:
        trunk: the student, word vectors or any language model.
        teacher: a run, an encoder folder, or a transformers id; it is only asked, once for every text, and never trained.
        hidden: of the head's hidden layer; 0 is a linear head, so that what the student keeps is near to what it tells.
        left_out: share of the words that the student does not see, drawn anew every time.
    """
    if not teacher:
        raise InputError(
            "distill_text needs a teacher: --set teacher=RUN, an encoder folder, or a transformers id such as "
            "sentence-transformers/all-MiniLM-L6-v2"
        )
    if not 0 <= left_out < 1:
        raise InputError(f"left_out={left_out}: a share of the words, from 0 to below 1")
    frozen = FrozenText(str(teacher), trunk.special)
    widths = (trunk.width, hidden, frozen.width) if hidden else (trunk.width, frozen.width)
    network = VectorProjector(trunk, projector(*widths))
    rate = 6e-3 if trunk.wordless else 2e-4 * max(1.0, 256 / trunk.width)
    recipe = Recipe(
        base_learning_rate=rate, batch_size=256, weight_decay=0.0, warmup=0.05, clip=1.0, epochs=10, most_epochs=20
    )
    return Objective(LeaveOutWords(left_out, trunk.special.all), network, StandardizedError(), target=frozen), recipe
