"""Same text: some of a text's words tell which text the others are from."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.contrast import NTXent
from withheld.networks.text import TextTrunk
from withheld.networks.text_vector import SentenceVector
from withheld.objective import Objective
from withheld.splits.text import PartWords
from withheld.types import Recipe

ENCODER = {"cpu": "word-vectors", "cuda": "word-vectors"}
TOKENIZER = "wordpiece"
VOCABULARY = 30_522
ITEMS = "sentences"
SENTENCES = "passages"
LENGTH = 512  # a passage whole
TELLS_WORDS = False
REMEDY = "it needs more texts, or more labels; a run of more than ten epochs would not help"


def same_text(
    trunk: TextTrunk, *, temperature: float = 0.2, share: float = 0.5, cut: float = 0.5
) -> tuple[Objective, Recipe]:
    """Parts the words of every text in two and brings the two parts together, away from those of other texts.

    (x, y): some of the words of a text, drawn at random or all those before some place; the other words.
    p(y|x): a categorical over the texts of the batch: which of them the words are from, by cosine / temperature.
    Source: Chen et al. 2020, SimCLR, https://arxiv.org/abs/2002.05709, with words in place of crops, as Chen 2017, Doc2VecC,
        https://arxiv.org/abs/1707.02377, leaves out words, and Giorgi et al. 2020, DeCLUTR, https://arxiv.org/abs/2006.03659,
        contrasts parts of documents
    Differs: the encoder is a table of word vectors whose mean is the text (Iyyer et al. 2015, without layers): a pass
        over 12,000 reviews takes seconds; no head, the vector is what is kept.

    Args:
        trunk: word vectors, or any language model; its mean over words is the vector.
        temperature: of the softmax over cosines.
        share: of the words that x has.
        cut: share of the texts that are cut at one place; of the others each word is drawn by itself.
    """
    if not temperature > 0:
        raise InputError(f"temperature={temperature} must be above 0; 0.2 is usual")
    if not 0 < share < 1:
        raise InputError(f"share={share}: a share of the words, between 0 and 1")
    if not 0 <= cut <= 1:
        raise InputError(f"cut={cut}: a share of the texts, from 0 to 1")
    split = PartWords(share, cut, trunk.special.all)
    objective = Objective(split, SentenceVector(trunk), NTXent(temperature), target="network")
    rate = 2e-3 if trunk.wordless else 1e-4 * max(1.0, 256 / trunk.width)
    return objective, Recipe(
        base_learning_rate=rate, batch_size=256, weight_decay=0.0, warmup=0.05, clip=1.0, epochs=10, most_epochs=10
    )
