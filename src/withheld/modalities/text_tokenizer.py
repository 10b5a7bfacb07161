"""Tokenizers that are trained on the texts of a run, and kept in the cache."""

from __future__ import annotations

import json
from typing import Any

from withheld.data import cache
from withheld.data.source import digest
from withheld.data.text import spread_documents
from withheld.data.text_stream import beginnings
from withheld.data.tokenizer import open_tokenizer, train_tokenizer
from withheld.modalities.modality import Tell

VOCABULARY = {"wordpiece": (8192, 30_522), "bpe": (8192, 32_768), "word": (10_000, 10_000), "character": (2000, 2000)}
"""Tokens by kind, on a CPU and on a GPU."""
LEARNED_FROM = 50_000_000
"""Characters that a tokenizer is trained on."""


def trained_tokenizer(source: Any, stream: bool, kind: str, count: int, masked: bool, length: int, tell: Tell) -> Any:
    """A tokenizer of texts, trained once.

    Args:
        source: of the texts. stream: whether they are read as they are needed.
        kind: one of `KINDS`. count: of its tokens, at most. masked: whether it needs tokens for mask, start and end.
        length: tokens of the context it is made for.
        tell: see `Modality`.
    """
    train = source if stream else source.part("train") or source
    key = digest(["tokenizer", 3, train.fingerprint, train.stamp, kind, count, masked, length])[:32]
    with cache.locked(key) as entry:
        if not (entry / "prepared.json").is_file():
            tell("note", text=f"learning a tokenizer ({kind}, up to {count:,} tokens) from the texts")
            texts = beginnings(train, LEARNED_FROM) if stream else spread_documents(train, LEARNED_FROM)
            made = train_tokenizer(kind, texts, count, masked, min(length, 1 << 20))
            with cache.filling(entry) as folder:
                made.save_pretrained(folder)
                (folder / "prepared.json").write_text(json.dumps({"kind": kind}), encoding="utf-8")
        else:
            cache.touch(entry)
        return open_tokenizer(entry)
