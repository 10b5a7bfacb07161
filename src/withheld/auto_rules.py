"""The rules of `pretrain auto`, a table read from above: the first line that fits decides.

Each line says why, and on which measurement that rests (docs/gallery.md has them with commands and spreads). To change what is
chosen, change this table and nothing else; a line whose method is not there yet is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FEW_IMAGES, FEW_CLIPS, FEW_ROWS, FEW_CHARACTERS = 100, 20, 50, 200_000
"""Below these there is too little to learn from."""
LITTLE_TEXT = 4_000_000
"""Characters, of some 3,000 reviews, below which counting words tells as much as vectors of them do."""
FOR_A_NETWORK = 1000
"""Images below which a deep network learns too little from scratch: 292 smears made no encoder in 5 minutes, and of 1,600
photographs HOG with a color histogram knew more, 51.2 against 36.4 % at 10 labels per class (gallery: finding objects; 1,600
photographs)."""
FOR_VIEWS, FOR_SMALL_VIEWS, SMALL, MINUTES_FOR_VIEWS = 10_000, 5_000, 64, 3.0
"""Photographs, images of at most 64 pixels, and minutes of a CPU, from which on views of them teach more than a dictionary of their
patches."""


@dataclass(frozen=True)
class Facts:
    """What the rules look at.

    Attributes:
        modality: "image", "text", "video" or "table".
        items: images, clips, rows or texts to learn from.
        minutes: there are.
        gpu: whether it learns on one.
        side: of images in pixels, the larger of the two, of a sample.
        characters: of all texts, about.
        binary: whether all cells of a table are 0 or 1.
        grey: whether images have no color.
        continues: whether an encoder is named that has learned already.
        named: whether any encoder is named, learned or not.
        streamed: whether the items are read as they come.
    """

    modality: str
    items: int
    minutes: float = 10.0
    gpu: bool = False
    side: int = 0
    characters: int = 0
    binary: bool = False
    grey: bool = False
    continues: bool = False
    named: bool = False
    streamed: bool = False


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        modality: that it is for.
        when: whether it fits.
        method: what is run; "" refuses.
        why: said to the user, with the facts filled in.
        measured: where this was found out, or that it was not.
        encoder: "auto" leaves it to the method (small ones on a CPU, larger ones on a GPU).
        size, batch_size: as the options of these names; None and "auto" leave them to the method.
        settings: of the method and its recipe.
    """

    modality: str
    when: Callable[[Facts], bool]
    method: str
    why: str
    measured: str
    encoder: str = "auto"
    size: int | str = "auto"
    batch_size: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def _hurried(facts: Facts) -> bool:
    return not facts.gpu and facts.minutes < MINUTES_FOR_VIEWS


def _few_for_views(facts: Facts) -> bool:
    return facts.items < (FOR_SMALL_VIEWS if 0 < facts.side <= SMALL else FOR_VIEWS)


RULES: tuple[Rule, ...] = (
    # Images
    Rule(
        "image", lambda f: f.items < FEW_IMAGES and not f.continues, "",
        "too few images to learn from ({items:,}): continue from a checkpoint that has seen more (--encoder RUN/encoder, or "
        "--encoder facebook/dinov2-small) or distill one",
        "300 photographs made a dictionary of patches as good as 1,600 did (gallery: a dictionary of patches); fewer than 100 were "
        "not tried",
    ),
    Rule(
        "image", lambda f: f.continues, "simclr",
        "an encoder that has learned already goes on by telling views of an image from those of others: it rests while the new "
        "head warms up, then learns at a fifth of the rate",
        "linear probe at 10 labels per class: an encoder of 30,000 small images knows 38.3 of 1,600 photographs, 39.0 after eight "
        "minutes with these: nothing is lost, little is won (docs/recipes.md, Let it choose)",
    ),
    Rule(
        "image", lambda f: not f.named and (f.grey or _few_for_views(f) or _hurried(f)), "patch_dictionary",
        "{items:,} images: a dictionary of their small patches, learned in seconds; deeper networks want more images than these, "
        "colors, or more minutes",
        "linear probe at 10 labels per class: 1,600 photographs 52.4 (HOG with colors 51.4, simclr 37.6), garments 76.2 (simclr "
        "74.7), CIFAR-10 38.0 from 5,000 images or 30,000 (simclr in 3,000 steps 43.8 and 43.6; gallery: a dictionary of "
        "patches)",
    ),
    Rule(
        "image", lambda f: True, "simclr",
        "{items:,} images: two views of each told from all others, by a light network that sees every image many times",
        "linear probe at 10 labels per class: CIFAR-10 43.6 after 9 minutes on one core (mae 30.8 after 20), 43.8 from 5,000 of "
        "its images, 1,600 photographs 37.6 after 10 (exemplar 41.5, relative_position 26.4, mae 22.3, colorization 20.9 %; "
        "gallery: image pretext tasks)",
    ),
    # Texts
    Rule(
        "text", lambda f: f.characters < FEW_CHARACTERS and not f.continues, "",
        "too few characters to learn from ({characters:,}): continue from a checkpoint (--encoder RUN/encoder, or "
        "--encoder google/bert_uncased_L-2_H-128_A-2)",
        "of 13 M characters a small BERT still knows less about opinions than tf-idf: 55.5 against 64.2 % (gallery: reviews)",
    ),
    Rule(
        "text", lambda f: f.continues or f.streamed, "bert",
        "{characters:,} characters: hidden words, in blocks of 64 tokens, twice as many steps as blocks of 128",
        "reviews, 5 minutes on one core: hidden words 4.14 nats where counting has 6.62 (gallery: reviews, at --size 64)",
        size=64,
    ),
    Rule(
        "text", lambda f: f.characters < LITTLE_TEXT, "same_text",
        "{characters:,} characters: word vectors learn from which text some of its words are; of so few counting words is as good, "
        "and what has learned elsewhere knows more (withheld evaluate RUN --data LABELLED --against "
        "sentence-transformers/all-MiniLM-L6-v2)",
        "linear probe at 10 labels per class, 500, 1,000 and 2,000 reviews: 62.1, 64.7, 64.9 % where LSA has 60.5, 67.1, 68.8, "
        "tf-idf 62.8, 64.4, 63.0, and the same network at random 53 to 56 (gallery: from which text are these words?)",
    ),
    Rule(
        "text", lambda f: True, "same_text",
        "{characters:,} characters: word vectors learn from which text some of its words are, a pass takes seconds; they tell "
        "what texts are about, and no words (for that: withheld pretrain bert, or gpt)",
        "linear probe at 10 labels per class, reviews: 76.1 % after a minute on one core, where LSA has 70.0, tf-idf 64.2 "
        "and BERT after half an hour 57.2; which of 24 books: 77.8, LSA 54.4 (gallery: from which text are these words?)",
    ),
    # Clips
    Rule(
        "video", lambda f: f.items < FEW_CLIPS and not f.continues, "",
        "too few clips to learn from ({items:,}): give more of them, cut long ones, or continue from a checkpoint (--encoder "
        "MCG-NJU/videomae-small-finetuned-kinetics)",
        "not measured; 8 sequences were enough to track colors, not to make features of whole clips (gallery: following masks)",
    ),
    Rule(
        "video", lambda f: True, "videomae",
        "{items:,} clips: tubes through all frames are hidden, 90 % of every clip is never computed",
        "not compared with frame_order and arrow_of_time here; it is the one whose encoder the field fine-tunes",
    ),
    # Tables
    Rule(
        "table", lambda f: f.items < FEW_ROWS, "",
        "too few rows to find groups in ({items:,}): give 50 or more",
        "groups of iris (150 rows) and Old Faithful (272) are found (gallery: mixtures)",
    ),
    Rule(
        "table", lambda f: f.binary, "mixture",
        "{items:,} rows of 0 and 1: a mixture of Bernoullis, as many groups as the evidence is for",
        "binarized MNIST, gallery: mixtures",
        settings={"kind": "bernoulli", "components": "auto"},
    ),
    Rule(
        "table", lambda f: True, "mixture",
        "{items:,} rows: a mixture of Gaussians, as many groups as the evidence is for",
        "iris with 15 labels: 97.3 % of the rows; Old Faithful: two components (gallery: mixtures)",
        settings={"components": "auto"},
    ),
)  # fmt: skip
