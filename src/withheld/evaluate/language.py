"""What a language model says: how likely a text is word by word, and what fills a gap.

Shapes: L tokens, V vocabulary, W words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.sample import spaced
from withheld.data.text import open_texts
from withheld.data.tokenizer import encode
from withheld.data.tokens import prepare_tokens
from withheld.errors import InputError
from withheld.evaluate.features import Listen, as_encoder, preparing, silent
from withheld.text_encoder import TextEncoder
from withheld.wording import plural

BITS = 1 / math.log(2)
AT_ONCE = 32
CHUNK = 128
"""Tokens that a recurrent model reads at a time."""


@dataclass(frozen=True)
class WordScore:
    """One word of a text and log p of its tokens, nats."""

    word: str
    log_p: float


@dataclass(frozen=True)
class TextScore:
    """How likely a text is.

    Attributes:
        words: in order. log_p: of all, nats. tokens: how many.
        exact: whether their sum is log p(text); else each word was hidden in turn (a pseudo-log-likelihood).
    """

    words: list[WordScore]
    log_p: float
    tokens: int
    exact: bool


@dataclass(frozen=True)
class Perplexity:
    """How likely held-out texts are, in units that tokenizers do not change.

    Attributes:
        tokens, words, characters: counted; words as white space parts them.
        nats: of all tokens.
    """

    data: str
    documents: int
    tokens: int
    words: int
    characters: int
    nats: float

    @property
    def per_token(self) -> float:
        """exp of the mean over tokens; with word-level tokens, the perplexity of the literature."""
        return math.exp(self.nats / self.tokens)

    @property
    def per_word(self) -> float:
        """exp of the mean over words."""
        return math.exp(min(700.0, self.nats / max(1, self.words)))

    @property
    def bits_per_character(self) -> float:
        """What tokenizers can be compared by."""
        return self.nats * BITS / max(1, self.characters)

    def __str__(self) -> str:
        return (
            f"perplexity {self.per_token:.2f} a token, {self.per_word:.2f} a word; {self.bits_per_character:.4f} bits a "
            f"character ({self.nats / self.tokens:.4f} nats a token; {plural(self.tokens, 'token')} of {self.data})"
        )

    def to_json(self) -> dict[str, Any]:
        """A line of results.jsonl."""
        more = {"per_token": self.per_token, "per_word": self.per_word, "bits_per_character": self.bits_per_character}
        return {"kind": "likelihood", **asdict(self), **more, "nll": self.nats / max(1, self.documents)}


def language_model(subject: Any, device: str = "auto", words: bool = True, such: str = "bert") -> TextEncoder:
    """The language model of a run, an encoder folder or a transformers id.

    Args:
        words: whether it must tell words, which word vectors do not.
        such: methods whose runs would do, for errors.

    Raises:
        InputError: where it is none.
    """
    encoder = as_encoder(subject, device)
    if not isinstance(encoder, TextEncoder):
        of = "clips (of next_frame: withheld generate RUN --data clip.mp4)" if encoder.modality == "video" else "images"
        of += " (of vae: withheld sample RUN)" if encoder.modality == "image" else ""
        raise InputError(f"{subject}: an encoder of {of}; give a run on text, such as withheld pretrain {such} makes")
    if words and encoder.trunk.wordless and not encoder.trunk.recognition:
        raise InputError(
            f"{subject}: word vectors tell what a text is about, and no words: use withheld search, suggest, evaluate or finetune"
        )
    if encoder.trunk.recognition:
        raise InputError(
            f"{subject}: a sentence VAE tells whole sentences from z, and no single words: use withheld likelihood, sample or "
            "interpolate"
        )
    encoder.trunk.know(encoder.tokenizer)
    return encoder


@torch.no_grad()
def score(subject: Any, text: str, device: str = "auto") -> TextScore:
    """log p of every word of a text, nats; of an ELMo, by its forward language model.

    Raises:
        InputError: where the text is empty or longer than the context.
    """
    encoder = language_model(subject, device, such="gpt, transformer_lm or bert")
    ids, offsets = _tokenized(encoder, text)
    if not ids or not text.strip():
        raise InputError("the text is empty: give a sentence")
    trunk = encoder.trunk
    framed = torch.tensor([[*encoder.start, *ids, *encoder.end]], device=encoder.device)
    fits(framed.shape[1], trunk.length, "the text")
    if trunk.causal or trunk.bidirectional:
        log_p = (
            _next_log_p(encoder, framed)[0][len(encoder.start) - 1 :]
            if encoder.start
            else _without_start(encoder, framed)
        )
    else:
        log_p = _masked_log_p(encoder, framed, len(encoder.start), len(ids))
    values = log_p.cpu().double().numpy()[: len(ids)]
    return TextScore(
        _by_word(text, offsets, values), float(values.sum()), len(ids), trunk.causal or trunk.bidirectional
    )


@torch.no_grad()
def fill(subject: Any, text: str, top: int = 5, device: str = "auto") -> list[list[tuple[str, float]]]:
    """For every [MASK] of a text, the likeliest tokens with their probabilities.

    Raises:
        InputError: where no mask is in the text, the model looks back only, or the text is longer than the context.
    """
    encoder = language_model(subject, device)
    mark = encoder.tokenizer.mask_token
    if encoder.trunk.bidirectional:
        raise InputError(
            f"{encoder.name} reads forward and backward apart and was never shown a gap: give a run of bert; or withheld score"
        )
    if encoder.trunk.causal or mark is None:
        raise InputError(
            f"{encoder.name} looks back only and cannot fill a gap: give a run of bert; or withheld generate"
        )
    text = re.sub(r"\[MASK\]|<mask>", lambda _: mark, text, flags=re.IGNORECASE)
    if mark not in text:
        raise InputError(f'no [MASK] in the text: write it where a word is to be told, "paris is the {mark} of france"')
    ids = [*encoder.start, *encode(encoder.tokenizer, [text])[0], *encoder.end]
    fits(len(ids), encoder.trunk.length, "the text")
    item = torch.tensor([ids], device=encoder.device)
    tokens = encoder.trunk.run({"item": item}).last_hidden_state[item == encoder.trunk.special.mask]
    share = encoder.trunk.logits(tokens).float()
    share[:, list(encoder.trunk.special.all)] = -math.inf
    best = share.softmax(dim=1).topk(min(top, share.shape[1]), dim=1)
    words = [encoder.tokenizer.convert_ids_to_tokens(row.tolist()) for row in best.indices]
    shown = [[encoder.tokenizer.convert_tokens_to_string([w]).strip() or w for w in row] for row in words]
    return [list(zip(row, values.tolist(), strict=True)) for row, values in zip(shown, best.values, strict=True)]


@torch.no_grad()
def perplexity(
    subject: Any, data: Any, *, part: str = "test", items: int | None = None, device: str = "auto",
    listen: Listen = silent,
) -> Perplexity:  # fmt: skip
    """How likely the texts of a part are (all, where the data has no such part); causal models, and an ELMo's forward one.

    A Transformer sees every token with at least half of its context before it; an LSTM reads on through a document.

    Args:
        items: at most so many texts, spread over the data; None takes all.

    Raises:
        InputError: where the model does not look back only.
    """
    encoder = language_model(subject, device, such="gpt, transformer_lm or lstm_lm").eval()
    if not (encoder.trunk.causal or encoder.trunk.bidirectional):
        raise InputError(
            f"{encoder.name} sees both ways: it has no log p(text). Its held-out loss is in log.jsonl and the report"
        )
    source = open_texts(data)
    chosen = source.part(part) or source
    tokens = prepare_tokens(chosen, encoder.tokenizer, preparing(listen))
    at = spaced(len(tokens), items or len(tokens))
    nats, count = 0.0, 0
    for done, i in enumerate(at.tolist(), 1):
        found = -document_log_p(encoder, tokens.document(i))
        nats, count = nats + float(found.sum()), count + len(found)
        listen({"kind": "likelihood", "done": done, "total": len(at)})
    if not count:
        raise InputError(f"{data}: no token has another before it; give longer texts")
    where = f"{data}" + (f" ({part})" if chosen is not source else "")
    return Perplexity(where, len(at), count, int(tokens.words[at].sum()), int(tokens.characters[at].sum()), nats)


@torch.no_grad()
def document_log_p(encoder: TextEncoder, ids: NDArray[Any]) -> NDArray[np.float64]:
    """(L - 1,) log p of every token of a document after its first."""
    item = torch.from_numpy(np.asarray(ids).astype(np.int64))[None].to(encoder.device)
    if encoder.trunk.bidirectional:
        return _read_ahead(encoder, item)
    if encoder.trunk.recurrent:
        return _read_on(encoder, item)
    L, length = item.shape[1], encoder.trunk.length
    if length + 1 >= L:
        return _next_log_p(encoder, item)[0].cpu().double().numpy() if L > 1 else np.zeros(0)
    starts = [*range(0, L - length - 1, length - length // 2), L - length - 1]
    found, done = np.zeros(L - 1), 0
    for first in range(0, len(starts), AT_ONCE):
        some = starts[first : first + AT_ONCE]
        rows = torch.stack([item[0, s : s + length + 1] for s in some])
        for s, values in zip(some, _next_log_p(encoder, rows).cpu().double().numpy(), strict=True):
            found[done : s + length] = values[done - s :]
            done = s + length
    return found


def _read_on(encoder: TextEncoder, item: Tensor) -> NDArray[np.float64]:
    state, parts = None, []
    for first in range(0, item.shape[1] - 1, CHUNK):
        stop = min(first + CHUNK, item.shape[1] - 1)
        with one_thread():  # one text at a time: thousands of products too small to share
            output = encoder.trunk.run({"item": item[:, first:stop]}, state=state)
        state = output.state
        log_p = encoder.trunk.logits(output.last_hidden_state).float().log_softmax(dim=2)
        parts.append(log_p.gather(2, item[:, first + 1 : stop + 1, None]).squeeze(2)[0])
    return torch.cat(parts).cpu().double().numpy() if parts else np.zeros(0)


def _read_ahead(encoder: TextEncoder, item: Tensor) -> NDArray[np.float64]:
    """By the forward states of an ELMo; the whole document is read, logits are taken a chunk at a time."""
    tokens = (
        encoder.trunk.run({"item": item[:, :-1]}).last_hidden_state[0] if item.shape[1] > 1 else item.new_zeros(0, 1)
    )
    parts = [
        encoder.trunk.logits(states).float().log_softmax(dim=1).gather(1, after[:, None]).squeeze(1)
        for states, after in zip(tokens.split(CHUNK), item[0, 1:].split(CHUNK), strict=True)
        if len(after)
    ]
    return torch.cat(parts).cpu().double().numpy() if parts else np.zeros(0)


@contextmanager
def one_thread() -> Iterator[None]:
    """On a CPU, work that is not worth sharing: threads would wait for each other at every tiny product, and where other
    programs want the processors too, each of these waits lasts until the scheduler comes round."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _next_log_p(encoder: TextEncoder, item: Tensor) -> Tensor:
    """(B, L - 1) log p of every token after the first."""
    tokens = encoder.trunk.run({"item": item[:, :-1]}).last_hidden_state
    log_p = encoder.trunk.logits(tokens).float().log_softmax(dim=2)
    return log_p.gather(2, item[:, 1:, None]).squeeze(2)


def _without_start(encoder: TextEncoder, item: Tensor) -> Tensor:
    """The first token of a model without a start token has no probability: 0 nats."""
    return torch.cat([item.new_zeros(1, dtype=torch.float32), _next_log_p(encoder, item)[0]])


def _masked_log_p(encoder: TextEncoder, framed: Tensor, first: int, count: int) -> Tensor:
    """(count,) log p of every token, hidden in turn (Salazar et al. 2019)."""
    mask = encoder.trunk.special.mask
    if mask is None:
        raise InputError("the tokenizer of this encoder has no mask token")
    found = []
    for start in range(0, count, AT_ONCE):
        places = torch.arange(first + start, first + min(start + AT_ONCE, count), device=framed.device)
        rows = framed.repeat(len(places), 1)
        at = torch.arange(len(places), device=framed.device)
        rows[at, places] = mask
        tokens = encoder.trunk.run({"item": rows}).last_hidden_state[at, places]
        log_p = encoder.trunk.logits(tokens).float().log_softmax(dim=1)
        found.append(log_p.gather(1, framed[0, places][:, None]).squeeze(1))
    return torch.cat(found)


def _tokenized(encoder: TextEncoder, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    found = encoder.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    return found.ids, found.offsets


def _by_word(text: str, offsets: list[tuple[int, int]], values: NDArray[np.float64]) -> list[WordScore]:
    """Tokens joined to words at white space; a token belongs to the word its last character is in."""
    number = np.zeros(len(text) + 1, int)
    words, inside = [], False
    for place, character in enumerate(text):
        if character.isspace():
            inside = False
        elif not inside:
            words.append(place)
            inside = True
        number[place] = len(words) - 1
    sums = np.zeros(len(words))
    for (_, stop), value in zip(offsets, values, strict=True):
        sums[max(0, int(number[max(0, stop - 1)]))] += value
    shown = text.split()
    return [WordScore(word, float(total)) for word, total in zip(shown, sums, strict=True)]


def fits(count: int, length: int, what: str) -> None:
    """Says so where a text is longer than the context.

    Raises:
        InputError: with the remedy.
    """
    if count > length:
        raise InputError(
            f"{what} has {plural(count, 'token')}, the model sees {length}: shorten it, or pretrain with a larger --size"
        )
