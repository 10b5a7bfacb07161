"""Sentences as items: where they begin and end in a text, and padded batches of them.

Axes: B batch, L tokens of the longest sentence of a batch.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.tokenizer import end_of, start_of
from withheld.data.tokens import Parted, Tokens
from withheld.errors import InputError, nearest

HOW = ("auto", "lines", "ends", "documents", "passages")
LOOKED_AT = 4000
"""Lines of a text that are looked at to see whether each is a sentence."""
PASSAGE = 1500
"""Characters of a passage, about: a page of a paperback."""
MOST_INNER = 0.1
"""Share of the lines that may hold the end of a sentence inside where lines are sentences; prose has more."""
BREAK = re.compile(r"(?:<br\s*/?>\s*)+")
PARAGRAPH = re.compile(r"\n\s*\n")
SPACE = re.compile(r"\s")
CLOSE, OPEN = "\"'\u201d\u2019)\\]", "\"'\u201c\u2018(["
END = re.compile(
    rf"(?:(\S*?)[.!?\u2026]+[{CLOSE}]*\s+|[\u3002\uff01\uff1f]+[\u201d\u2019\u300d\u300f]*\s*)(?=[{OPEN}]*(\S))"
)
SHORT = frozenset(
    ["mr", "mrs", "ms", "dr", "st", "prof", "gen", "col", "capt", "lt", "rev", "hon", "jr", "sr", "vs", "etc", "e.g", "i.e", "cf",
     "no", "fig", "vol"]
)  # fmt: skip


def sentences_of(text: str, how: str = "auto") -> list[str]:
    """The sentences of a text, in order, none of them empty.

    Args:
        text: a document.
        how: "lines", one on each, as in the Penn Treebank sets; "ends", at full stops, question and exclamation marks
            before anything but a small letter, and at blank lines; "auto" takes lines where at most a tenth of them hold
            the end of a sentence inside; "documents", the whole text as one; "passages", equal parts of about `PASSAGE`
            characters, cut at white space: short texts stay whole.

    Raises:
        InputError: for another word.
    """
    if how not in HOW:
        raise InputError(f"sentences={how}: {nearest(how, HOW)}; there are {', '.join(HOW)}")
    if how == "documents":
        return [text.strip()] if text.strip() else []
    if how == "passages":
        return _passages(text)
    text = BREAK.sub("\n\n", text)
    if how == "lines" or (how == "auto" and lines_are_sentences(text)):
        return [line.strip() for line in text.split("\n") if line.strip()]
    found: list[str] = []
    for paragraph in PARAGRAPH.split(text):
        joined = " ".join(paragraph.split())
        cuts = [0, *_cuts(joined), len(joined)]
        found += [joined[a:b].strip() for a, b in itertools.pairwise(cuts) if joined[a:b].strip()]
    return found


def parted_by(how: str) -> Parted:
    """How `prepare_tokens` parts documents into sentences.

    Raises:
        InputError: for a way that there is not.
    """
    sentences_of("", how)
    return Parted(f"sentences 1 {how}", lambda text: sentences_of(text, how))


def parted_as(run: dict[str, Any]) -> str | None:
    """How a run of texts parted them, a word of `sentences_of`; None where its items were blocks.

    Args:
        run: what run.json holds.
    """
    if run["data"].get("unit") != "sentence":
        return None
    return str(run["data"].get("sentences") or (run["given"].get("settings") or {}).get("sentences", "auto"))


def lines_are_sentences(text: str) -> bool:
    """Whether every line is a sentence of its own: hardly any holds another's end inside, and there are no paragraphs."""
    lines = [line.strip() for line in text.split("\n", LOOKED_AT)[:LOOKED_AT] if line.strip()]
    return sum(bool(_cuts(line)) for line in lines) <= MOST_INNER * len(lines)


def _passages(text: str) -> list[str]:
    """Parts of like length; where a script has no spaces, cut between characters."""
    count = max(1, round(len(text) / PASSAGE))
    cuts = [0]
    for i in range(1, count):
        at = round(i * len(text) / count)
        space = SPACE.search(text, at, at + PASSAGE // 3)
        cuts.append(max(cuts[-1], space.end() if space else at))
    return [part for a, b in itertools.pairwise([*cuts, len(text)]) if (part := text[a:b].strip())]


def _cuts(line: str) -> list[int]:
    """Where in a line without breaks the next sentence begins."""
    found = []
    for match in END.finditer(line):
        word = (match[1] or "").lstrip(OPEN)
        initial = len(word) == 1 and word.isupper() and word != "I"
        if not (match[2].islower() or word.lower() in SHORT or initial):
            found.append(match.end())
    return found


class Sentences:
    """One sentence an item, padded to the longest of its batch; what the loop asks for batches.

    A batch is a dict: "item" (B, L) int64 tokens, special ones at both ends, and "mask" (B, L), True where real.

    Args:
        tokens: of sentences (`prepare_tokens` with `sentences`).
        length: tokens of a sentence at most, special ones included; longer ones are cut before their last.
        end: what is put behind every sentence whose tokens do not end in it yet: causal models have no end of their own.
        pad: the number that fills.

    Attributes:
        lengths: (n,) tokens of every item; the loop makes batches of sentences of like length, so that little is padded.
        cut: how many are longer than `length`.
    """

    def __init__(self, tokens: Tokens, length: int, end: list[int], pad: int) -> None:
        self.tokens, self.length, self.end, self.pad = tokens, length, end, pad
        whole = tokens.starts[1:] - tokens.starts[:-1] + len(end)
        self.cut = int((whole > length).sum())
        self.lengths = np.minimum(whole, length)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> dict[str, Tensor]:
        """Sentences by number."""
        index = np.asarray(index)
        lengths, starts = self.lengths[index], self.tokens.starts[index]
        place = np.arange(max(1, int(lengths.max(initial=1))))
        mask = place < lengths[:, None]
        last = place == lengths[:, None] - 1
        stop = self.tokens.starts[index + 1] - 1  # of the sentence's last token
        source = np.where(last, stop[:, None], starts[:, None] + np.minimum(place, (stop - starts)[:, None]))
        item = self.tokens.ids[source].astype(np.int64)
        if self.end:
            item[last] = self.end[0]
        item[~mask] = self.pad
        return {"item": torch.from_numpy(item).to(device), "mask": torch.from_numpy(mask).to(device)}


def alone(tokens: Tokens, length: int, tokenizer: Any) -> Sentences:
    """Sentences as a model with this tokenizer takes them, of `length` tokens at most."""
    return Sentences(tokens, length, end_behind(tokenizer), tokenizer.pad_token_id or 0)


def end_behind(tokenizer: Any) -> list[int]:
    """What stands behind a sentence of a causal model: the token that stands before the next one."""
    return [] if end_of(tokenizer) else start_of(tokenizer)[:1]
