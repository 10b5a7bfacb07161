"""Tokenizers that come from another encoder, or are trained on the texts of a run and kept in the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from withheld.data import cache
from withheld.data.source import digest
from withheld.data.text import spread_documents
from withheld.data.text_stream import beginnings
from withheld.data.tokenizer import end_of, open_tokenizer, start_of, train_tokenizer
from withheld.errors import InputError
from withheld.modalities.modality import Tell
from withheld.networks.open import encoder_folder
from withheld.networks.text_open import own_tokenizer

VOCABULARY = {"wordpiece": (8192, 30_522), "bpe": (8192, 32_768), "word": (10_000, 10_000), "character": (2000, 2000)}
"""Tokens by kind, on a CPU and on a GPU."""
LEARNED_FROM = 50_000_000
"""Characters that a tokenizer is trained on."""


def lent_tokenizer(lender: str, settings: dict[str, Any], own: str | None) -> tuple[str, Any]:
    """Whose tokenizer it is, and the tokenizer of an encoder that tells something of the same tokens.

    Args:
        lender: the setting that names that encoder. settings: of the run.
        own: where the tokenizer of the encoder that learns lies; None where it brings none.

    Raises:
        InputError: where there is none, or another is asked for.
    """
    named = str(settings.get(lender) or "")
    if not named:
        raise InputError(f"needs a {lender}: --set {lender}=RUN, an encoder folder, or a transformers id")
    for name in ("tokenizer", "vocabulary"):
        if name in settings:
            raise InputError(f"{name}={settings[name]}: tokens are those of {lender}={named}; leave {name} out")
    where = own_tokenizer(named)
    if where is None or (Path(named).is_dir() and encoder_folder(named) is None):
        raise InputError(
            f"{lender}={named}: no encoder of texts with its tokenizer is there; give a run of texts, an encoder folder, or a "
            "transformers id"
        )
    found = open_tokenizer(where)
    if own is not None and spelling_of(open_tokenizer(own)) != spelling_of(found):
        raise InputError(
            f"--encoder has the tokens of {own}, {lender}={named} has others: leave --encoder out, or take an untrained one such "
            "as bert-tiny, which reads what the teacher reads"
        )
    return f"of {where}", found


def spelling_of(tokenizer: Any) -> tuple[Any, ...]:
    """What decides the numbers of a text's tokens, as far as two tokenizers are compared."""
    return tokenizer.get_vocab(), start_of(tokenizer), end_of(tokenizer)


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
