"""Texts that are read as they are needed: which methods learn from them, and what a user is told."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.text_shards import Corpus
from withheld.data.text_stream import SET_ASIDE, BlockStream, make_plan, sampled
from withheld.data.windows import HELD_BYTES
from withheld.errors import InputError
from withheld.modalities.modality import Tell
from withheld.run import constant
from withheld.wording import size


def check_stream(method: str, settings: dict[str, Any]) -> None:
    """Says so where a stream cannot give what is asked for.

    Raises:
        InputError: with the remedy.
    """
    remedy = (
        "leave out --stream: the tokens of all texts are then prepared once (in WITHHELD_CACHE, on a disk with room)"
    )
    if constant(method, "ITEMS", "blocks") == "sentences":
        raise InputError(
            f"--stream: {method} learns from sentences of like length, which takes knowing all of them; {remedy}"
        )
    if constant(method, "CARRIES", False):
        raise InputError(
            f"--stream: {method} carries its state through a text from block to block, and a stream shows blocks in a shuffled "
            f"order; take transformer_lm, or {remedy}"
        )
    if "held_out" in settings:
        raise InputError(
            f"--set held_out: a stream sets aside a hundredth of its texts, and {SET_ASIDE} blocks at most; leave it out"
        )


def open_stream(
    corpus: Corpus, tokenizer: Any, length: int, overlap: int, continues: NDArray[np.bool_] | None, tell: Tell
) -> BlockStream:
    """The blocks of a corpus, and a note about how they are read; see `BlockStream`."""
    plan = make_plan(corpus, tokenizer, length, overlap, lambda done, total: tell("prepare", done=done, total=total))
    tell(
        "note",
        text=f"texts are tokenized as they are needed, from {len(corpus):,} windows of {size(corpus.sizes.mean())} on "
        f"average; at most {HELD_BYTES / 1e6:.0f} MB of tokens are held in memory. How many there are is reckoned from "
        f"{len(sampled(corpus))} of the windows",
    )
    return BlockStream(corpus, plan, tokenizer, length, overlap, continues)
