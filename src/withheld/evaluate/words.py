"""Words as a model sees them: those that were hidden and what was told, or how expected each one was.

Shapes: B texts, L tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from withheld.data.sample import spaced
from withheld.errors import InputError
from withheld.learn.checkpoint import write_json
from withheld.networks.sentence_vae import WordsTold
from withheld.objective import Objective
from withheld.text_encoder import TextEncoder
from withheld.types import UNKNOWN_LABEL

TEXTS, TOKENS = 6, 64
GAP = " \u00b7"
"""What is seen where a word went to the other part."""


@torch.no_grad()
def draw_words(objective: Objective, encoder: TextEncoder, trial: Any, out: Path) -> None:
    """Writes pictures/words.json: texts that were never learned from, as `words_of` tells them."""
    t = trial.batch(spaced(len(trial), TEXTS), encoder.device)
    masked, texts = words_of(objective, t, speaker(encoder.tokenizer))
    kept = [[{k: v for k, v in token.items() if k in ("text", "p", "guess")} for token in text] for text in texts]
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    write_json(out / "pictures" / "words.json", {"masked": masked, "texts": kept})


@torch.no_grad()
def words_of(
    objective: Objective, t: Any, spoken: Callable[[int], str], seed: int = 0, predict: bool = True
) -> tuple[bool, list[list[dict[str, Any]]]]:
    """Texts as lists of tokens, and whether some of them were hidden (else each is told from those before it).

    A token is {"text", "asked", "shown", "p"}: whether it is asked for, what the network sees at this place, and the
    probability it gave the true one, None where it was not asked; and "guess" where it thought of another.

    Args:
        t: blocks as a split of texts takes them.
        spoken: a token's text.
        predict: whether the network is asked; else every "p" is None.

    Raises:
        InputError: for an objective that asks for something else than tokens.
    """
    parts = objective.split.parts
    if parts:  # what is drawn is cut, not what lies far behind it
        t = {name: part[:, :TOKENS] for name, part in t.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pair = objective.split(t)
    if parts:
        return True, _parts(pair.x, pair.y, spoken)
    way = "words" if isinstance(pair.y, dict) and "words" in pair.y else "next"
    y = pair.y.get(way) if isinstance(pair.y, dict) else pair.y
    seen = pair.x.get("item") if isinstance(pair.x, dict) else None
    if not isinstance(y, Tensor) or not isinstance(seen, Tensor) or y.ndim != seen.ndim:
        raise InputError(f"{objective.split!r} asks for no tokens: there are no words to draw")
    seen = seen if seen.shape == y.shape else y  # both neighbors of a token are asked for: shown is what comes next
    asked = y != UNKNOWN_LABEL
    told: Any = None
    if predict:
        prediction = objective.network(pair.x)
        key = (
            next((name for name in ("words", "told") if name in prediction), way)
            if isinstance(prediction, dict)
            else way
        )
        logits = prediction[key] if isinstance(prediction, dict) else prediction
        logits = logits.log_all() if isinstance(logits, WordsTold) else logits
        logits = logits if logits.ndim == 2 else logits[asked]  # some networks answer only where they are asked
        share = logits.float().softmax(dim=1)
        told = iter(
            zip(share.gather(1, y[asked][:, None]).squeeze(1).tolist(), share.argmax(dim=1).tolist(), strict=True)
        )
    masked = not bool(asked.all())
    true = torch.where(asked, y, seen)
    rows = zip(true.tolist(), seen.tolist(), asked.tolist(), strict=True)
    return masked, [_text(row, told, spoken) for row in rows]


def _parts(x: Any, y: Any, spoken: Callable[[int], str]) -> list[list[dict[str, Any]]]:
    """Texts whose words are in one of two parts: those of y alone are what is asked for, no network tells them."""
    found = []
    for ids, mine, asked in zip(x["item"].tolist(), x["mask"].tolist(), y["mask"].tolist(), strict=True):
        tokens = zip(ids, mine, asked, strict=True)
        shown = [
            {"text": spoken(i), "asked": a and not m, "shown": spoken(i) if m else GAP, "p": None}
            for i, m, a in tokens
            if m or a
        ]
        found.append(shown)
    return found


def _text(
    row: tuple[list[int], list[int], list[bool]], told: Any, spoken: Callable[[int], str]
) -> list[dict[str, Any]]:
    tokens = []
    for token, shown, asked in zip(*row, strict=True):
        p, guess = next(told) if asked and told is not None else (None, None)
        entry: dict[str, Any] = {
            "text": spoken(token), "asked": asked, "shown": spoken(shown), "p": None if p is None else round(p, 4),
        }  # fmt: skip
        if guess is not None and guess != token:
            entry["guess"] = spoken(guess)
        tokens.append(entry)
    return tokens[:TOKENS]


def speaker(tokenizer: Any) -> Callable[[int], str]:
    """Of a tokenizer: a token's text, with the space before it where it begins a word."""
    style = type(tokenizer.backend_tokenizer.model).__name__
    single = style == "WordLevel" and type(tokenizer.backend_tokenizer.pre_tokenizer).__name__ == "Split"

    def spoken(token: int) -> str:
        piece = str(tokenizer.convert_ids_to_tokens(token))
        if piece.startswith("##"):
            return piece[2:]
        if piece[:1] in ("Ġ", "▁", "Ċ"):
            return str(tokenizer.convert_tokens_to_string([piece]))
        return piece if single or style == "BPE" else f" {piece}"

    return spoken
