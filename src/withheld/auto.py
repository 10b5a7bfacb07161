"""`pretrain auto`: looks at the data and the time, and chooses what to run by the table in auto_rules.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from withheld.asked import Asked
from withheld.auto_rules import FOR_A_NETWORK, RULES, Facts, Rule
from withheld.data.sample import spaced
from withheld.data.vectors import is_table
from withheld.data.wanted import named_modality
from withheld.errors import InputError

AUTO = "auto"
LOOKED_AT = 2000
"""Texts that are read to tell how long all are, and what a table's cells are."""


class TooLittle(InputError):
    """The data is too little to learn from.

    Attributes:
        why, measured: the two lines for the user. method: what learns from it all the same, named outright.
    """

    def __init__(self, why: str, measured: str, method: str) -> None:
        self.why, self.measured, self.method = why, measured, method
        super().__init__(
            f"{why}. Measured: {measured}. To learn from it all the same, name a method: withheld pretrain {method} --data DATA "
            "--out RUN"
        )


@dataclass(frozen=True)
class Choice:
    """What is run instead of `auto`, and why.

    Attributes:
        method, encoder, size, batch_size, settings: as `withheld.pretrain` takes them.
        why, measured: the two lines for the user.
    """

    method: str
    encoder: Any
    size: int | str
    batch_size: int | None
    settings: dict[str, Any]
    why: str
    measured: str

    def lines(self) -> list[str]:
        """Two lines: what is run and why, and on what that rests."""
        told = [self.method, *(f"{name}={value}" for name, value in self.settings.items())]
        told += [] if self.encoder == "auto" else [f"encoder {self.encoder}"]
        told += [] if self.size == "auto" else [f"size {self.size}"]
        return [f"auto: {', '.join(told)}. {self.why}", f"measured: {self.measured}"]

    def asked(self, asked: Asked) -> Asked:
        """What the run is asked for instead; the settings that the user gave win."""
        return replace(
            asked, encoder=self.encoder, size=self.size, batch_size=self.batch_size,
            settings={**self.settings, **asked.settings}, auto={"why": self.why, "measured": self.measured},
        )  # fmt: skip


def choose(facts: Facts, rules: tuple[Rule, ...] = RULES) -> Choice:
    """The first rule that fits and whose method there is.

    Raises:
        TooLittle: where there is too little to learn from, with the remedy.
    """
    from withheld.run import method_names

    known = {*method_names(), ""}
    mine = [rule for rule in rules if rule.modality == facts.modality and rule.method in known]
    rule = next(rule for rule in mine if rule.when(facts))
    why = rule.why.format(items=facts.items, minutes=facts.minutes, characters=facts.characters)
    if not rule.method:
        else_ = next(rule for rule in mine if rule.method and rule.when(facts))
        raise TooLittle(why, rule.measured, else_.method)
    return Choice(rule.method, rule.encoder, rule.size, rule.batch_size, dict(rule.settings), why, rule.measured)


def too_little(modality: str, items: int, continues: bool = False, rules: tuple[Rule, ...] = RULES) -> str:
    """Why so few images, clips or rows are too few for a network from scratch; "" where they are not, and of texts, which count in
    characters."""
    if modality == "text":
        return ""
    if modality == "image":
        few = f"too few images to learn from ({items:,}) for a deep network: patch_dictionary takes a few hundred; or continue "
        few += "from a checkpoint (--encoder RUN/encoder, or --encoder facebook/dinov2-small), or distill one"
        return "" if continues or items >= FOR_A_NETWORK else few
    facts = Facts(modality, items, continues=continues)
    rule = next((rule for rule in rules if rule.modality == modality and rule.when(facts)), None)
    return rule.why.format(items=items, minutes=facts.minutes, characters=0) if rule and not rule.method else ""


def decide(
    data: Any, *, minutes: float | None = None, encoder: Any = "auto", size: int | str = "auto",
    batch_size: int | None = None, device: str = "auto", stream: bool = False,
) -> Choice:  # fmt: skip
    """Looks at the data and chooses; what is given is kept.

    Raises:
        InputError: for data that cannot be read, or that there is too little of.
    """
    from withheld.run import pick_device

    facts = look(data, encoder, stream)
    gpu = not pick_device(device).startswith("cpu")
    facts = replace(facts, minutes=minutes or facts.minutes, gpu=gpu, named=encoder != AUTO)
    found = choose(facts)
    return replace(
        found,
        encoder=found.encoder if encoder == "auto" else encoder,
        size=found.size if size == "auto" else size,
        batch_size=batch_size or found.batch_size,
    )


def look(data: Any, encoder: Any = "auto", stream: bool = False) -> Facts:
    """What kind of data this is and how much of it there is: images, clips, texts or rows of numbers, asked in this order,
    or clips first where files of clips are more than those of images.

    Raises:
        InputError: where it is none of them, with what is wrong with it as the kind that its names tell of.
    """
    if isinstance(data, str) and data.startswith("run:"):
        raise InputError(f"auto does not look into a run: name the method for {data}, such as mixture or code_prior")
    named = named_modality(data)
    kinds: dict[str, Callable[[Any], Facts]] = {
        "image": partial(_images, stream=stream),
        "video": _clips,
        "text": partial(_texts, stream=stream),
        "table": _rows,
    }
    wrong: dict[str, InputError] = {}
    for modality, kind in sorted(kinds.items(), key=lambda one: named == "video" and one[0] != "video"):
        try:
            return replace(kind(data), continues=_has_learned(encoder))
        except InputError as error:
            wrong[modality] = error
    if named == "text" and is_table(data):  # a csv may have been meant as either
        raise InputError(f"{data} cannot be read; as texts: {wrong['text']}; as numbers: {wrong['table']}")
    if isinstance(data, str | os.PathLike) and Path(data).is_file() and not Path(data).suffix:
        raise InputError(f"{wrong[named]}; a text needs a name such as {data}.txt, a table one such as {data}.csv")
    raise wrong[named]


def _images(data: Any, stream: bool) -> Facts:
    from withheld.data.image import heads, typical_size
    from withheld.data.source import open_source

    source = _train(open_source(data, stream=stream))
    seen = heads(source)
    grey = all(each.channels == 1 for each in seen)
    return Facts("image", len(source), side=max(typical_size(seen)), grey=grey, streamed=stream)


def _clips(data: Any) -> Facts:
    from withheld.data.video import open_videos

    return Facts("video", len(_train(open_videos(data))))


def _texts(data: Any, stream: bool) -> Facts:
    from withheld.data.text import documents, open_texts

    if stream:
        return _streamed_texts(data)
    bad: list[dict[str, str]] = []
    source = _train(open_texts(data))
    some = spaced(len(source), LOOKED_AT)
    texts = [text for _, text in documents(source.subset(some), bad)]
    if not texts:
        first = f"; the first, {bad[0]['file']}: {bad[0]['reason']}" if bad else ""
        raise InputError(f"none of the texts looked at in {data} can be read{first}")
    _check_wordy(texts, data)
    return Facts("text", len(source), characters=round(sum(map(len, texts)) * len(source) / len(some)))


def _streamed_texts(data: Any) -> Facts:
    """By the first window, and the bytes of all."""
    from withheld.data.text_corpus import open_corpus

    corpus = open_corpus(data)
    bad: dict[str, str] = {}
    texts = list(corpus.documents(0, bad))
    if not texts:
        first = f"; the first, {next(iter(bad.items()))}" if bad else ""
        raise InputError(f"none of the texts looked at in {data} can be read{first}")
    _check_wordy(texts, data)
    share = float(corpus.sizes.sum() / corpus.sizes[0])
    characters = round(sum(map(len, texts)) * share)
    return Facts("text", round(len(texts) * share), characters=characters, streamed=True)


def _check_wordy(texts: list[str], data: Any) -> None:
    from withheld.data.scripts import is_sentence

    if sum(map(is_sentence, texts)) < len(texts) / 2:
        raise InputError(f"most of {data} is numbers or single words, no sentences")


def _rows(data: Any) -> Facts:

    from withheld.data.vectors import as_floats, open_vectors

    table = open_vectors(data)
    some = as_floats(np.asarray(table.values[:LOOKED_AT]))
    return Facts("table", len(table), binary=bool(np.isin(some[np.isfinite(some)], (0.0, 1.0)).all()))


def _train(source: Any) -> Any:
    train = source.part("train")
    return source if train is None or not len(train) else train


def _has_learned(encoder: Any) -> bool:
    """Whether an encoder is named that is no untrained preset."""
    if encoder == "auto" or str(encoder).endswith(".json"):
        return False
    from withheld.networks.open import PRESETS
    from withheld.networks.text_open import TEXT_PRESETS
    from withheld.networks.video import VIDEO_PRESETS

    return str(encoder) not in {*PRESETS, *TEXT_PRESETS, *VIDEO_PRESETS}
