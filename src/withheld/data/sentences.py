"""Sentences as items: where they begin and end in a text, and padded batches of them.

Axes: B batch, L tokens of the longest sentence of a batch.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.scripts import WORD
from withheld.data.text import documents, spread_documents
from withheld.data.tokenizer import end_of, start_of
from withheld.data.tokens import Parted, Tokens
from withheld.errors import InputError, nearest
from withheld.wording import plural

HOW = ("auto", "lines", "ends", "documents", "passages")
LOOKED_AT = 4000
"""Lines of a text that are looked at to see whether each is a sentence."""
PASSAGE = 1500
"""Characters of a passage, about: a page of a paperback."""
MOST_INNER = 0.1
"""Share of the lines that may hold the end of a sentence inside where lines are sentences; prose has more."""
MORE = 1.05
"""Times as many items as texts, from which it is said what an item is."""
SAMPLED = 200_000
"""Characters of which words are counted."""
FEWEST_LINES, NEARLY = 50, 0.9
"""Lines, and the share of them, that make a file one of a text a line."""
BREAK = re.compile(r"(?:<br\s*/?>\s*)+")
PARAGRAPH = re.compile(r"\n\s*\n")
SPACE = re.compile(r"\s")
CLOSE, OPEN = "\"'\u201d\u2019)\\]", "\"'\u201c\u2018(["
END = re.compile(
    rf"(?:(\S*?)[.!?\u2026]+[{CLOSE}]*\s+|[\u3002\uff01\uff1f]+[\u201d\u2019\u300d\u300f]*\s*)(?=[{OPEN}]*(\S))"
)
ENDS = re.compile(rf"[.!?\u2026\u3002\uff01\uff1f][{CLOSE}\u300d\u300f]{{0,3}}$")
WORDS = re.compile(WORD)
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


def how_parted(settings: Mapping[str, Any], source: Any, usual: str) -> str:
    """How texts are parted: as it was asked for, else as usual; passages are lines where a single .txt holds a text on each.

    Args:
        settings: of the run. source: of the texts. usual: what the method does.
    """
    if "sentences" in settings:
        return str(settings["sentences"])
    single = usual == "passages" and len(source) == 1 and source.kind == "folder"
    return "lines" if single and any(lines_stand_alone(text) for _, text in documents(source, [])) else usual


def notes_on(source: Any, tokens: Any, how: str) -> list[str]:
    """What a user should know of how texts were taken: which column, and what an item is.

    Args:
        tokens: of the items; None where these are not parts of texts. how: a word of `sentences_of`, "" where it was asked for.
    """
    notes = [source.told] if source.told else []
    texts = 0 if tokens is None or not how else len(np.unique(tokens.kept))
    return notes + ([items_told(source, len(tokens), how)] if texts and len(tokens) > MORE * texts else [])


def items_told(source: Any, count: int, how: str) -> str:
    """What an item is, where there are more of them than texts, and how to have others."""
    lengths = [len(WORDS.findall(one)) for text in spread_documents(source, SAMPLED) for one in sentences_of(text, how)]
    one = {"passages": "passage", "lines": "line"}.get(how, "sentence")
    other = {"lines": "passages of about a page instead: --set sentences=passages"}.get(
        how, "each line an item instead: --set sentences=lines"
    )
    if source.kind in ("table", "hub", "array"):
        other = "each text whole instead: --set sentences=documents"
    return f"{plural(count, one)} of about {plural(float(np.mean(lengths)), 'word')}; {other}"


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


def lines_stand_alone(text: str) -> bool:
    """Whether nearly every line is a short text of its own: begins and ends as a sentence does, in one piece. Books are not so."""
    lines = [line.strip() for line in text.split("\n", LOOKED_AT)[:LOOKED_AT]]
    full = [line for line in lines if line]
    if len(full) < FEWEST_LINES or len(full) < NEARLY * len(lines):
        return False
    whole = sum(bool(ENDS.search(line[-10:])) and not line[0].islower() for line in full)
    short = sum(len(line) <= PASSAGE // 4 for line in full)
    return min(whole, short) >= NEARLY * len(full) and lines_are_sentences(text)


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
