"""How a text goes on, drawn token by token from a language model.

Shapes: n texts, L tokens, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from withheld.aloud import Listen, silent
from withheld.data.tokenizer import encode
from withheld.errors import InputError
from withheld.evaluate.language import fits, language_model
from withheld.text_encoder import TextEncoder


@torch.no_grad()
def generate(
    subject: Any, prompt: str = "", *, length: int = 100, count: int = 1, temperature: float = 1.0, top_k: int = 0,
    top_p: float = 1.0, seed: int = 0, device: str = "auto", listen: Listen = silent,
) -> list[str]:  # fmt: skip
    """Texts that go on from a prompt, drawn token by token; they end at an end token, or after `length`.

    Args:
        temperature: below 1 is surer. top_k: only so many tokens may come, 0 for all. top_p: only the likeliest that
            together have this probability (Holtzman et al. 2019).
        listen: is told how far it is.

    Raises:
        InputError: where the model does not look back only, or the prompt is longer than the context.
    """
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    encoder = language_model(subject, device, such="gpt, transformer_lm or lstm_lm")
    trunk = encoder.trunk
    if trunk.bidirectional:
        raise InputError(
            f"{encoder.name} is an ELMo, made for features: to go on from a prompt give a run of gpt, transformer_lm or lstm_lm"
        )
    if not trunk.causal:
        raise InputError(
            f"{encoder.name}: a model that sees both ways cannot go on from a prompt: use withheld fill, or give a run of gpt"
        )
    prompted = encode(encoder.tokenizer, [prompt])[0] if prompt else []
    ids = [*encoder.start, *prompted]
    fits(len(ids), trunk.length, "the prompt")
    warpers: list[Any] = [TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    torch.manual_seed(seed)
    item = torch.tensor([ids or [0]] * count, device=encoder.device)
    never = [n for n in trunk.special.all if n != encoder.tokenizer.eos_token_id]
    ended = torch.zeros(count, dtype=torch.bool, device=encoder.device)
    line = getattr(encoder.tokenizer, "eos_token", None)
    ends = None if _ends_lines(encoder) else encoder.tokenizer.eos_token_id
    reader = _Reader(encoder)
    for done in range(length):
        listen({"kind": "tokens", "done": done, "total": length})
        logits = reader(item)
        logits[:, never] = -math.inf
        for warper in warpers:
            logits = warper(item, logits)
        token = torch.multinomial(logits.softmax(dim=1), 1)
        item = torch.cat([item, token], dim=1)
        ended |= token.squeeze(1) == ends if ends is not None else False
        if bool(ended.all()):
            break
    texts = []
    for row in item[:, len(encoder.start) if ids else 1 :].tolist():
        if ends is not None and ends in row:
            row = row[: row.index(ends)]
        text = encoder.tokenizer.decode(row, skip_special_tokens=ends is not None)
        texts.append(text.replace(f" {line} ", "\n").replace(f" {line}", "\n") if ends is None and line else text)
    return texts


class _Reader:
    """Reads tokens and tells the next one's logits; an LSTM keeps its state, a Transformer sees its context again."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.trunk, self.state = encoder.trunk, None

    def __call__(self, item: Tensor) -> Tensor:
        """(n, V), of n texts so far."""
        if self.trunk.recurrent:
            output = self.trunk.run({"item": item if self.state is None else item[:, -1:]}, state=self.state)
            self.state = output.state
        else:
            output = self.trunk.run({"item": item[:, -self.trunk.length :]})
        return self.trunk.logits(output.last_hidden_state[:, -1]).float()


def _ends_lines(encoder: TextEncoder) -> bool:
    """Whether the end token stands for the end of a line, as with word-level tokens."""
    return type(encoder.tokenizer.backend_tokenizer.normalizer).__name__ == "Replace"
