"""Words as a model sees them, for the report: those that were hidden and what was told, or how expected each one was.

Shapes: B texts, L tokens, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from withheld.learn.checkpoint import write_json
from withheld.objective import Objective
from withheld.text_encoder import TextEncoder
from withheld.types import UNKNOWN_LABEL

TEXTS, TOKENS = 6, 64


@torch.no_grad()
def draw_words(objective: Objective, encoder: TextEncoder, trial: Any, out: Path) -> None:
    """Writes pictures/words.json: texts that were never learned from, as lists of tokens.

    A token is {"text", "p"}, p the probability that the model gave it, None where it was not asked for, and "guess" where
    the model thought of another.
    """
    t = trial.batch(np.linspace(0, len(trial) - 1, min(TEXTS, len(trial))).astype(np.int64), encoder.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pair = objective.split(t)
    prediction = objective.network(pair.x)
    y = pair.y
    if isinstance(prediction, dict):
        way = "words" if "words" in prediction else "next"
        prediction = prediction[way]
        y = y[way] if isinstance(y, dict) else y
    asked = y != UNKNOWN_LABEL
    masked = "asked" in pair.x
    logits = prediction if masked else prediction[asked]
    share = logits.float().softmax(dim=1)
    true = share.gather(1, y[asked][:, None]).squeeze(1).tolist()
    best = share.argmax(dim=1).tolist()
    told = iter(zip(true, best, strict=True))
    shown = torch.where(asked, y, pair.x["item"]) if masked else y
    texts = []
    for row, question in zip(shown.tolist(), asked.tolist(), strict=True):
        tokens = []
        for number, (token, is_asked) in enumerate(zip(row, question, strict=True)):
            p, guess = next(told) if is_asked else (None, None)
            if number >= TOKENS:
                continue
            entry: dict[str, Any] = {"text": _spoken(encoder, token), "p": None if p is None else round(p, 4)}
            if guess is not None and guess != token:
                entry["guess"] = _spoken(encoder, guess)
            tokens.append(entry)
        texts.append(tokens)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    write_json(out / "pictures" / "words.json", {"masked": masked, "texts": texts})


def _spoken(encoder: TextEncoder, token: int) -> str:
    """A token with the space before it, where it begins a word."""
    piece = str(encoder.tokenizer.convert_ids_to_tokens(token))
    if piece.startswith("##"):
        return piece[2:]
    if piece[:1] in ("Ġ", "▁", "Ċ"):
        return encoder.tokenizer.convert_tokens_to_string([piece])
    style = type(encoder.tokenizer.backend_tokenizer.model).__name__
    single = style == "WordLevel" and type(encoder.tokenizer.backend_tokenizer.pre_tokenizer).__name__ == "Split"
    return piece if single or style == "BPE" else f" {piece}"
