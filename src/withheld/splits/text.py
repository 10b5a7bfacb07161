"""Hiding words: some of them, those that come next, one text's from another's, or none, where a sentence is told from z.

Shapes: B batch, L tokens. t is a dict: "item" (B, L) tokens, and what else the items tell ("document", "word", "mask", "first").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from withheld.types import UNKNOWN_LABEL, Pair, Split

Tokens = Mapping[str, Tensor]


@dataclass(frozen=True)
class NextToken(Split):
    """Every token from those before it: x is the sequence without its last, y the sequence without its first.

    A causal network makes of it as many questions as there are tokens. Padding is not asked for.
    """

    def __call__(self, t: Tokens) -> Pair:
        """Blocks (B, L + 1) -> x, y (B, L)."""
        x = {name: part[:, :-1] if part.ndim == 2 else part for name, part in t.items()}
        y = t["item"][:, 1:]
        if "mask" in t:
            y = torch.where(t["mask"][:, 1:], y, UNKNOWN_LABEL)
        return Pair(x, y)

    def merge(self, pair: Pair) -> Any:
        """The sequence."""
        return {**pair.x, "item": torch.cat([pair.x["item"][:, :1], pair.y], dim=1)}


@dataclass(frozen=True)
class WholeSentence(Split):
    """Nothing observed is hidden: the sentence is told from z, which nobody saw; the copy in x feeds the recognition network.

    x is the sentence, y what comes behind each of its tokens. Padding is not asked for.
    """

    def __call__(self, t: Tokens) -> Pair:
        """Sentences (B, L) -> x, y (B, L - 1)."""
        y = t["item"][:, 1:]
        x = {name: t[name] for name in ("item", "mask") if name in t}
        return Pair(x, torch.where(t["mask"][:, 1:], y, UNKNOWN_LABEL) if "mask" in t else y)

    def merge(self, pair: Pair) -> Any:
        """The sentence."""
        return pair.x


@dataclass(frozen=True)
class Neighbors(Split):
    """Both neighbors of every token: x is the sequence, y what comes after each token and what came before.

    A network that reads each way by itself makes of it two questions a token. Padding is not asked for.
    """

    def __call__(self, t: Tokens) -> Pair:
        """Blocks (B, L) -> x (B, L); y: "next" and "previous" (B, L - 1), of all but the last and of all but the first."""
        item = t["item"]
        y = {"next": item[:, 1:], "previous": item[:, :-1]}
        if "mask" in t:
            real = t["mask"][:, 1:]  # padding stands at the end: what is real has a real one before it
            y = {way: torch.where(real, part, UNKNOWN_LABEL) for way, part in y.items()}
        return Pair(dict(t), y)

    def merge(self, pair: Pair) -> Any:
        """The sequence."""
        return pair.x


@dataclass(frozen=True)
class MaskWords(Split):
    """Some tokens from all others: of those asked for, 80 % show [MASK], 10 % a random token, 10 % themselves.

    Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805.

    Attributes:
        mask: number of [MASK]. vocabulary: V.
        special: numbers that are never asked for.
        rate: share of the tokens that are asked for.
        shown: share of those that show [MASK]. random: share that show a random token.
        whole_words: whether all parts of a word are asked for together; then t must hold "word".
    """

    mask: int = 4
    vocabulary: int = 30
    special: tuple[int, ...] = ()
    rate: float = 0.15
    shown: float = 0.8
    random: float = 0.1
    whole_words: bool = False

    def __call__(self, t: Tokens) -> Pair:
        """x: "item" with tokens hidden and "asked" (B, L); y (B, L), UNKNOWN_LABEL where not asked for."""
        item = t["item"]
        asked = self.choose(t)
        dice = torch.rand(item.shape, device=item.device)
        other = torch.randint(0, self.vocabulary, item.shape, device=item.device)
        shown = torch.where(dice < self.shown, self.mask, torch.where(dice < self.shown + self.random, other, item))
        x = {name: part for name, part in t.items() if name != "word"}
        return Pair(
            {**x, "item": torch.where(asked, shown, item), "asked": asked}, torch.where(asked, item, UNKNOWN_LABEL)
        )

    def choose(self, t: Tokens) -> Tensor:
        """(B, L), True where a token is asked for: `rate` of every row's, at least one."""
        item = t["item"]
        free = torch.ones_like(item, dtype=torch.bool)
        for number in self.special:
            free &= item != number
        if "mask" in t:
            free &= t["mask"]
        noise = torch.rand(item.shape, device=item.device)
        if self.whole_words:
            noise = noise.gather(1, t["word"] - t["word"][:, :1])  # one for all parts of a word
        noise = noise.masked_fill(~free, 2.0)
        wanted = (self.rate * free.sum(dim=1)).round().clamp_min(1).long()
        last = noise.sort(dim=1).values.gather(1, (wanted - 1)[:, None])
        return (noise <= last) & free

    def merge(self, pair: Pair) -> Any:
        """The text."""
        return {**pair.x, "item": torch.where(pair.x["asked"], pair.y, pair.x["item"])}


@dataclass(frozen=True)
class WordsInContext(Split):
    """Some tokens from all others, told by what a teacher makes of them, seeing the whole text (Baevski et al. 2022).

    Attributes:
        words: how they are hidden.
    """

    words: MaskWords = MaskWords()

    def __call__(self, t: Tokens) -> Pair:
        """x: "item" with tokens hidden and "asked" (B, L); y: the text as it is, and "asked"."""
        x = self.words(t).x
        return Pair(x, {**{name: part for name, part in x.items() if name != "item"}, "item": t["item"]})


@dataclass(frozen=True)
class NextSentence(Split):
    """Hidden words, and whether the second half of a pair follows the first: half of the pairs get another's second half.

    Blocks (B, L) become [CLS] first [SEP] second [SEP], (B, L), without their last three tokens.

    Attributes:
        words: how words are hidden. start, end: numbers of [CLS] and [SEP].
    """

    together: ClassVar[int] = 2
    words: MaskWords = MaskWords()
    start: int = 2
    end: int = 3

    def __call__(self, t: Tokens) -> Pair:
        """x: "item", "asked", "kind" (B, L); y: {"words" (B, L), "follows" (B,)}."""
        B, L = t["item"].shape
        swap = (torch.rand(B, device=t["item"].device) < 0.5) & torch.tensor(B > 1, device=t["item"].device)
        first, second = self._halves(t["item"], swap)
        edge = lambda number: first.new_full((B, 1), number)  # noqa: E731
        joined = {"item": torch.cat([edge(self.start), first, edge(self.end), second, edge(self.end)], dim=1)}
        if "word" in t:
            a, b = self._halves(t["word"], swap)
            a = a - a[:, :1] + 1
            b = b - b[:, :1] + a[:, -1:] + 2
            joined["word"] = torch.cat([edge(0), a, a[:, -1:] + 1, b, b[:, -1:] + 1], dim=1)
        kind = torch.zeros_like(joined["item"])
        kind[:, first.shape[1] + 2 :] = 1
        pair = self.words(joined)
        return Pair({**pair.x, "kind": kind}, {"words": pair.y, "follows": (~swap).long()})

    def _halves(self, t_BL: Tensor, swap_B: Tensor) -> tuple[Tensor, Tensor]:
        """The first half, and the second: its own, or another's."""
        whole = t_BL[:, : t_BL.shape[1] - 3]
        half = whole.shape[1] // 2
        second = whole[:, half:]
        return whole[:, :half], torch.where(swap_B[:, None], second.roll(1, dims=0), second)


@dataclass(frozen=True)
class DeleteWords(Split):
    """The whole text from what is left of it when most tokens are deleted; and every word also from those before it.

    Source: Wang et al. 2021, https://arxiv.org/abs/2104.06979.

    Attributes:
        rate: share of the tokens that are deleted, the same in every row; one at least is left.
        kept: numbers that are never deleted, at most two a row.
        pad: the number that fills.
    """

    rate: float = 0.6
    kept: tuple[int, ...] = ()
    pad: int = 0

    def __call__(self, t: Tokens) -> Pair:
        """x: "item", "mask" (B, M) what is left, in order; "before" (B, L - 1); y (B, L - 1), UNKNOWN_LABEL at padding."""
        item = t["item"]
        B, L = item.shape
        real = t["mask"] if "mask" in t else torch.ones_like(item, dtype=torch.bool)
        always = torch.zeros_like(real)
        for number in self.kept:
            always |= item == number
        free = real & ~always
        noise = torch.rand(L, B, device=item.device).T  # a token's number does not depend on how far its row is padded
        noise = noise.masked_fill(~free, 2.0)
        left = ((1 - self.rate) * free.sum(dim=1)).round().clamp_min(1)
        stay = (noise.argsort(dim=1).argsort(dim=1) < left[:, None]) & free | always & real
        M = min(L, math.ceil((1 - self.rate) * L) + 2)
        at = (~stay).to(torch.uint8).argsort(dim=1, stable=True)[:, :M]
        mask = stay.gather(1, at)
        seen = item.gather(1, at).masked_fill(~mask, self.pad)
        told = torch.where(real[:, 1:], item[:, 1:], UNKNOWN_LABEL)
        return Pair({"item": seen, "mask": mask, "before": item[:, :-1]}, told)

    def merge(self, pair: Pair) -> Any:
        """The text."""
        last = torch.where(pair.y[:, -1:] == UNKNOWN_LABEL, self.pad, pair.y[:, -1:])
        return {"item": torch.cat([pair.x["before"], last], dim=1)}


@dataclass(frozen=True)
class PartWords(Split):
    """The rest of a text's words from a share of them. A part that would be empty is the whole text.

    Attributes:
        share: of the tokens that x has, on average.
        cut: share of the texts that are cut once, somewhere around the share; of all others each token is drawn by itself.
        special: numbers that neither has.
    """

    parts: ClassVar[str] = "[word]: y; all others are x. From which of many texts are they?"
    share: float = 0.5
    cut: float = 0.5
    special: tuple[int, ...] = ()

    def __call__(self, t: Tokens) -> Pair:
        """x and y: "item" as it is and "mask" (B, L), True where a token is theirs."""
        item = t["item"]
        real = t["mask"] if "mask" in t else torch.ones_like(item, dtype=torch.bool)
        for number in self.special:
            real = real & (item != number)
        whether, where = torch.rand(2, len(item), 1, device=item.device)
        noise = torch.rand(
            item.shape[::-1], device=item.device
        ).T  # a token's does not depend on how far its row is padded
        place = real.cumsum(dim=1) / real.sum(dim=1, keepdim=True).clamp_min(1)
        at = self.share + (where - 0.5) * min(self.share, 1 - self.share)
        first = torch.where(whether < self.cut, place <= at, noise < self.share)
        parts = []
        for part in (real & first, real & ~first):
            parts.append({"item": item, "mask": torch.where(part.any(dim=1, keepdim=True), part, real)})
        return Pair(*parts)

    def merge(self, pair: Pair) -> Any:
        """The text without special tokens."""
        return {"item": pair.x["item"], "mask": pair.x["mask"] | pair.y["mask"]}


@dataclass(frozen=True)
class LeaveOutWords(Split):
    """What is told of a whole text from the text without some of its words, each left out by itself.

    A text of which no word would be left is whole.

    Attributes:
        rate: share of the tokens that x has not, on average.
        special: numbers that are never left out.
    """

    parts: ClassVar[str] = "[word]: left out of x. What does the teacher say of all of them?"
    rate: float = 0.3
    special: tuple[int, ...] = ()

    def __call__(self, t: Tokens) -> Pair:
        """x and y: "item" as it is and "mask" (B, L), True where a token is there."""
        item = t["item"]
        real = t["mask"] if "mask" in t else torch.ones_like(item, dtype=torch.bool)
        word = real
        for number in self.special:
            word = word & (item != number)
        noise = torch.rand(item.shape[::-1], device=item.device).T  # as in `PartWords`
        left = word & (noise >= self.rate)
        left = torch.where(left.any(dim=1, keepdim=True), left | (real & ~word), real)
        return Pair({"item": item, "mask": left}, {"item": item, "mask": real})

    def merge(self, pair: Pair) -> Any:
        """The text."""
        return pair.y
