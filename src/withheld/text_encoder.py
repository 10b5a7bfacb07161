"""The encoder of texts.

Shapes: B batch, L tokens, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.data.sentences import end_behind
from withheld.data.tokenizer import encode, end_of, open_tokenizer, pieces, start_of
from withheld.data.tokens import padded
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.modes import evaluating
from withheld.networks.open import encoder_folder, read_card
from withheld.networks.text import TextTrunk, fresh_text_trunk
from withheld.networks.text_open import open_text_trunk
from withheld.types import Features

AT_A_TIME = 16_384
"""Tokens of a batch, padding among them."""


class TextEncoder(Encoder):
    """Whole texts in, features out: tokenizes, frames them as in training, runs the trunk and pools over real tokens.

    Texts longer than the trunk's context are seen in windows and pooled over all of them.

    Args:
        trunk: the backbone.
        tokenizer: a transformers fast tokenizer.
        name: what it is called in tables.
        most: tokens of a text that are looked at.
    """

    modality = "text"

    def __init__(self, trunk: TextTrunk, tokenizer: Any, name: str = "encoder", most: int = 1024) -> None:
        super().__init__(trunk, name)
        self.tokenizer, self.most = tokenizer, most
        trunk.know(tokenizer)
        self.start, self.end = start_of(tokenizer), end_of(tokenizer)
        if trunk.recognition:  # it learned from sentences that ended
            self.end = self.end or end_behind(tokenizer)

    @property
    def length(self) -> int:
        """Tokens the trunk sees at once."""
        return self.trunk.length

    @property
    def pad(self) -> int:
        """The number that fills."""
        found = self.tokenizer.pad_token_id
        return int(found) if found is not None else 0

    def rows(self, texts: Sequence[str], most: int | None = None) -> list[np.ndarray]:
        """Token numbers of texts, special tokens included, at most `most` of them (the encoder's own where None)."""
        limit = (self.most if most is None else most) - len(self.start) - len(self.end)
        heads = [next(pieces(text)) if len(text) > 20 * limit else text for text in map(str, texts)]
        return [np.array([*self.start, *ids[:limit], *self.end], np.int64) for ids in encode(self.tokenizer, heads)]

    def pair_rows(
        self, first: Sequence[str], second: Sequence[str], most: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Token numbers of single texts or of pairs, and which of the two each belongs to.

        BERT's kin: [CLS] a [SEP] b [SEP]; causal models: <eos> a <sep> b <eos>, start, delimiter and extract in the words of
        the first GPT. The longer text of a pair is cut.
        """
        a = encode(self.tokenizer, list(first))
        b = encode(self.tokenizer, list(second)) if second else [[] for _ in a]
        ends = self.end or self.start
        between = self.end or ([int(self.tokenizer.sep_token_id)] if self.tokenizer.sep_token_id is not None else ends)
        rows, kinds = [], []
        for one, two in zip(a, b, strict=True):
            free = most - len(self.start) - len(ends) - (len(between) if second else 0)
            if len(one) + len(two) > free:
                half = free // 2
                keep = free - len(two) if len(two) <= half else max(half, 0) if len(one) > half else len(one)
                one, two = one[:keep], two[: free - min(keep, len(one))]
            head = [*self.start, *one, *(between if second else ends)]
            tail = [*two, *ends] if second else []
            rows.append(np.array([*head, *tail], np.int64))
            kinds.append(np.array([0] * len(head) + [1] * len(tail), np.int64))
        return rows, kinds

    def forward(self, items: Sequence[str] | Mapping[str, Tensor], layers: bool = False) -> Features:
        """Features of texts, or of tokens ("item", "mask").

        Args:
            items: strings, or a dict as `TextTrunk` takes it.
            layers: also give the tokens of every layer.
        """
        if not isinstance(items, Mapping):
            items = padded(self.rows(items), self.pad, self.device)
        return self.trunk(items, layers=layers)

    @torch.no_grad()
    def transform(self, items: Any, batch_size: int = 256) -> np.ndarray:
        """Pooled features (n, D), float32.

        Args:
            items: strings.
            batch_size: texts at a time, at most.
        """
        texts = _strings(items)
        found = np.zeros((len(texts), self.width), np.float32)
        for index, seen in self._seen(texts, batch_size, layers=False):
            found[index] = seen.pooled.float().cpu().numpy()
        return found

    @torch.no_grad()
    def transform_layers(self, items: Any, batch_size: int = 256) -> list[np.ndarray]:
        """Features (n, D) float32 of every layer, the first one first: means over real tokens.

        Args:
            items: strings.
            batch_size: texts at a time, at most.
        """
        if self.trunk.depth == 1:
            return [self.transform(items, batch_size)]
        texts = _strings(items)
        found = [np.zeros((len(texts), self.width), np.float32) for _ in range(self.trunk.depth)]
        for index, seen in self._seen(texts, batch_size, layers=True):
            for layer, pooled in zip(found, seen.pooled_layers(self.trunk.depth), strict=True):
                layer[index] = pooled.float().cpu().numpy()
        return found

    def _seen(self, texts: list[str], batch_size: int, layers: bool) -> Iterator[tuple[np.ndarray, Features]]:
        """Features of texts of about one length at a time, and which they are."""
        rows = self.rows(texts)
        order = np.argsort([len(row) for row in rows], kind="stable")
        with evaluating(self):
            for some in batches_of([len(rows[i]) for i in order], batch_size):
                index = order[some]
                yield index, self.trunk(padded([rows[i] for i in index], self.pad, self.device), layers=layers)

    def fresh(self, seed: int) -> TextEncoder:
        """The same architecture, untrained: for the from-scratch rows."""
        trunk = fresh_text_trunk(copy.deepcopy(self.trunk.config), seed).to(self.device)
        return TextEncoder(trunk, self.tokenizer, f"{self.name} untrained", self.most)

    def write(self, folder: Path) -> None:
        """Weights, config and tokenizer."""
        self.trunk.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def card(self) -> dict[str, Any]:
        """Tokens at once and at most."""
        return {
            "length": min(self.length, 1 << 20), "most": self.most,
            "how": "tokenized without special tokens, cut, framed by the start and end tokens; features are the mean of "
            "the last layer over real tokens, of all windows of `length` tokens; of word vectors, divided by its length",
        }  # fmt: skip

    @classmethod
    def opened(cls, where: str | Path) -> TextEncoder:
        """Opens a saved encoder, any transformers language folder, or a transformers id.

        Raises:
            InputError: where there is none, or its card is damaged.
        """
        folder = encoder_folder(where)
        trunk, _ = open_text_trunk(folder or where, vocabulary=None, length=None)
        tokenizer = open_tokenizer(folder or where)
        if len(tokenizer) > trunk.vocabulary:
            raise InputError(
                f"{where}: its tokenizer has {len(tokenizer):,} tokens, its network knows {trunk.vocabulary:,}: they do not "
                "belong together; copy there the tokenizer that it was trained with"
            )
        card = read_card(folder, ("name", "most")) or {"name": Path(where).name, "most": 1024}
        return cls(trunk, tokenizer, card["name"], card["most"])


def batches_of(lengths: Sequence[int], most: int) -> list[slice]:
    """Slices of ascending lengths, each at most `most` items and `AT_A_TIME` tokens with padding."""
    found, first = [], 0
    for i in range(len(lengths) + 1):
        full = i == len(lengths) or i - first >= most or (i > first and lengths[i] * (i - first + 1) > AT_A_TIME)
        if full and i > first:
            found.append(slice(first, i))
            first = i
    return found


def _strings(items: Any) -> list[str]:
    if isinstance(items, str):
        raise InputError("give a list of texts, not one text")
    found = list(items)
    wrong = next((i for i, item in enumerate(found) if not isinstance(item, str)), None)
    if wrong is not None:
        raise InputError(f"text {wrong} is {type(found[wrong]).__name__}; give strings")
    return found
