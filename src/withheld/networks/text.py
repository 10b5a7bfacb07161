"""Text backbones: any transformers language model behind one face, a trunk.

Shapes: B batch, L tokens, M asked places, D width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from withheld.errors import InputError
from withheld.networks import attention
from withheld.networks.beginning import begin
from withheld.networks.elmo import ElmoForCausalLM
from withheld.networks.image import depth_of, layer_of
from withheld.networks.text_head import logits_of
from withheld.networks.text_places import WHOLE_MASKS, first_position, positions_of, positions_within
from withheld.networks.word_vectors import WordVectors
from withheld.types import Features

LATE = ("roberta", "xlm-roberta", "camembert")
ENCODER_LAYER = (lambda base: base.encoder.layer[-1], lambda layer: layer.attention.self, ("key", "value"))
# Where the last layer of a family is, in it what calls the attention interface, and in that what makes keys and values.
LAST: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], tuple[str, str]]] = {
    **dict.fromkeys(("bert", *LATE, "electra"), ENCODER_LAYER),
    "distilbert": (lambda base: base.transformer.layer[-1], lambda layer: layer.attention, ("k_lin", "v_lin")),
}
UNBOUNDED = 1 << 20
BLOCKWISE = {"openai-gpt"}
"""Families that take masks of keys only; their blocks are handed the whole mask."""


class Special(NamedTuple):
    """Numbers of the tokens that are no text; None where the tokenizer has none."""

    pad: int | None = None
    start: int | None = None
    end: int | None = None
    mask: int | None = None
    all: tuple[int, ...] = ()
    unknown: int | None = None


def special_of(tokenizer: Any) -> Special:
    """The special tokens of a transformers tokenizer."""
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    last = tokenizer.sep_token_id if tokenizer.cls_token_id is not None else tokenizer.eos_token_id
    known = tuple(sorted(tokenizer.all_special_ids))
    return Special(tokenizer.pad_token_id, first, last, tokenizer.mask_token_id, known, tokenizer.unk_token_id)


class TextTrunk(nn.Module):
    """A transformers language model: tokens in, `Features` out, and logits of tokens on request.

    Args:
        model: with its language-model head: `BertForMaskedLM`, `GPT2LMHeadModel`, `LstmForCausalLM` ...

    Attributes:
        width: D. depth: number of layers. length: tokens it can see at once. vocabulary: V.
        causal: whether a token sees only those before it. recurrent: whether it has a state instead of positions.
        recognition: whether it tells z of a sentence. wordless: whether it tells no words.
        bidirectional: whether it is two language models side by side, one of each direction (ELMo).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        if model.config.model_type in BLOCKWISE and getattr(model.config, "afn", "") == "gelu":
            for block in model.base_model.h:
                block.mlp.act = nn.GELU(approximate="tanh")  # the same in one kernel
        self._special = Special()
        config = model.config
        self.width = int(config.hidden_size)
        self.vocabulary = int(config.vocab_size)
        self.recurrent = bool(getattr(config, "recurrent", False))
        self.recognition = bool(getattr(config, "recognition", False))
        self.wordless = is_wordless(config)
        self.bidirectional = bool(getattr(config, "bidirectional", False))
        self.causal = not (self.bidirectional or self.wordless) and (self.recurrent or is_causal(config))
        self.length = UNBOUNDED if self.recurrent else positions_of(model)
        self.depth = depth_of(model)
        self._takes = set(inspect.signature(self.base.forward).parameters)
        self._first = first_position(model)
        self._whole = config.model_type in WHOLE_MASKS or config.model_type.startswith("withheld")

    def know(self, tokenizer: Any) -> None:
        """Remembers which tokens of this tokenizer are no text, and how all are written where characters are read."""
        self.know_special(special_of(tokenizer))
        if isinstance(self.model, ElmoForCausalLM):
            self.model.spell(list(map(str, tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))))

    def know_special(self, special: Special) -> None:
        """Remembers which tokens are no text."""
        self._special = special
        if isinstance(self.base, WordVectors):
            self.base.silence(special.all)

    @torch.no_grad()
    def begin_at(self, counts_V: NDArray[np.floating]) -> None:
        """An ELMo that has learned nothing begins by telling every token as often as it occurs.

        Else its bounded states learn that first, all alike, and stay there (docs/log.md, 2026-11-29).
        """
        if isinstance(self.model, ElmoForCausalLM):
            share = (counts_V + 0.5) / (counts_V + 0.5).sum()
            self.model.lm_head.bias.copy_(torch.from_numpy(np.log(share)))

    @property
    def special(self) -> Special:
        """Numbers of the tokens that are no text."""
        return self._special

    @property
    def base(self) -> Any:
        """The model without its head."""
        return self.model.base_model

    @property
    def config(self) -> PretrainedConfig:
        """The transformers config."""
        return self.model.config

    def forward(self, x: Mapping[str, Tensor], layers: bool = False) -> Features:
        """Features of texts; what is longer than `length` is seen in windows, and pooled over all of them.

        Args:
            x: "item" (B, L) tokens; "mask" (B, L), True where real; "document" (B, L), which document a token belongs to:
                none sees another's; "kind" (B, L), 0 or 1 for the two texts of a pair.
            layers: also give the tokens of every layer, the embeddings first.
        """
        L = x["item"].shape[1]
        if self.length < L:
            return self._windows(x, layers)
        output = self.run(x, layers)
        tokens, mask = output.last_hidden_state, x.get("mask")
        hidden = tuple(output.hidden_states) if layers and output.hidden_states is not None else None
        return Features(self.pool(tokens, mask), tokens, None, mask, hidden)

    def vector(self, x: Mapping[str, Tensor]) -> Tensor:
        """What `forward` gives as pooled, (B, D), of tokens with "mask"; word vectors are summed where they lie."""
        short = isinstance(self.base, WordVectors)
        return F.normalize(self.base.mean(x["item"], x["mask"]), dim=1) if short else self(x).pooled

    def pool(self, tokens_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        """(B, D), the mean over real tokens; of word vectors, of length 1: else short texts would be far from everything."""
        found = pool(tokens_BLD, mask_BL)
        return F.normalize(found, dim=1) if isinstance(self.base, WordVectors) else found

    def run(self, x: Mapping[str, Tensor], layers: bool = False, **more: Any) -> Any:
        """The base model's own output."""
        item = x["item"]
        given: dict[str, Any] = {"input_ids": item, **more}
        if layers:
            given["output_hidden_states"] = True
        if self.recurrent:
            if x.get("mask") is not None:
                given["attention_mask"] = x["mask"]
            return self.base(**given)
        if "kind" in x and "token_type_ids" in self._takes:
            given["token_type_ids"] = x["kind"]
        if "use_cache" in self._takes:
            given.setdefault("use_cache", False)
        if not self._whole:
            return self._apart(x, given)
        seen = self._seen(x)
        if seen is not None and "position_ids" in self._takes and x.get("mask") is None:
            given["position_ids"] = positions_within(x["document"]) + self._first
        if seen is None:
            return self.base(**given)
        if self.config.model_type in BLOCKWISE:
            return self._blockwise(seen, given)
        return self.base(attention_mask=seen, **given)

    def run_asked(self, x: Mapping[str, Tensor], wanted_BL: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's tokens (B, M, D) at the wanted places, in order, and which places (B, M) these are.

        M is the most that a row wants; rows that want fewer end in others. The last layer computes nothing for tokens that
        nobody reads, where the family is known and attention is ours.
        """
        most = int(wanted_BL.sum(dim=1).max())
        places = wanted_BL.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : max(1, most)]
        family = LAST.get(self.config.model_type)
        if family is not None and self.config._attn_implementation == attention.NAME:
            layer = family[0](self.base)
            with attention.asked_only(layer, family[1](layer), family[2], places):
                return self.run(x).last_hidden_state, places
        tokens = self.run(x).last_hidden_state
        return tokens.gather(1, places.unsqueeze(2).expand(-1, -1, tokens.shape[2])), places

    def logits(self, tokens: Tensor) -> Tensor:
        """(..., V) of tokens (..., D) as the last layer gives them."""
        return logits_of(self.model, tokens)

    def layer_of(self, name: str) -> int:
        """The layer of a parameter: 0 embeddings, 1 ... depth, depth + 1 what comes after; for layer-wise decay."""
        return layer_of(name, self.depth, ("embed", "wte", "wpe"))

    def _seen(self, x: Mapping[str, Tensor]) -> Tensor | None:
        """(B, 1, L, L), True where a token may look; None where the model's own mask does."""
        mask, document = x.get("mask"), x.get("document")
        L = x["item"].shape[1]
        if mask is not None:
            if bool(mask.all()):
                return None
            seen = mask[:, None, None, :].expand(-1, 1, L, -1)
        elif document is not None and bool(document.any()):
            seen = document[:, None, :, None] == document[:, None, None, :]
        else:
            return None
        if self.causal:
            seen = seen & torch.ones(L, L, dtype=torch.bool, device=seen.device).tril()
            if mask is not None:  # a padded query sees itself: a row with nothing to look at has no softmax
                seen = seen | torch.eye(L, dtype=torch.bool, device=seen.device)
        return seen

    def _apart(self, x: Mapping[str, Tensor], given: dict[str, Any]) -> Any:
        """The base model's output where it is told of padding only, as every family can be."""
        mask, document = x.get("mask"), x.get("document")
        if mask is not None or document is None or not bool(document.any()):
            return self.base(**given, **({} if mask is None or bool(mask.all()) else {"attention_mask": mask.long()}))
        place = positions_within(document).flatten()
        row = (place == 0).cumsum(0) - 1
        real = torch.zeros(int(row[-1]) + 1, int(place.max()) + 1, dtype=torch.long, device=place.device)
        real[row, place] = 1
        for name in {"input_ids", "token_type_ids"} & set(given):
            whole, given[name] = given[name], torch.zeros_like(real)
            given[name][row, place] = whole.flatten()
        output = self.base(attention_mask=real, **given)
        back = lambda tokens: tokens[row, place].unflatten(0, document.shape)  # noqa: E731
        output.last_hidden_state = back(output.last_hidden_state)
        if output.get("hidden_states") is not None:
            output.hidden_states = tuple(map(back, output.hidden_states))
        return output

    def _blockwise(self, seen: Tensor, given: dict[str, Any]) -> Any:
        bias = torch.zeros_like(seen, dtype=torch.float32).masked_fill(~seen, torch.finfo(torch.float32).min)
        hooks = [
            block.register_forward_pre_hook(
                lambda module, args, kwargs: ((args[0], bias, *args[2:]), kwargs), with_kwargs=True
            )
            for block in self.base.h
        ]
        try:
            return self.base(**given)
        finally:
            for hook in hooks:
                hook.remove()

    def _windows(self, x: Mapping[str, Tensor], layers: bool) -> Features:
        B, L = x["item"].shape
        W = -(-L // self.length)
        short = W * self.length - L
        mask = x.get("mask")
        mask = torch.ones(B, L, dtype=torch.bool, device=x["item"].device) if mask is None else mask
        item = F.pad(x["item"], (0, short)).view(B * W, self.length)
        real = F.pad(mask, (0, short)).view(B * W, self.length)
        alive = real.any(dim=1)  # windows past the end of a text are not computed
        found = self({"item": item[alive], "mask": real[alive]}, layers)
        spread = lambda t: _spread(t, alive, B, W)[:, :L]  # noqa: E731
        tokens = spread(found.tokens)
        hidden = None if found.layers is None else tuple(spread(t) for t in found.layers)
        return Features(self.pool(tokens, mask), tokens, None, mask, hidden)


def pool(tokens_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
    """(B, D), the mean over real tokens."""
    if mask_BL is None:
        return tokens_BLD.mean(dim=1)
    weight = mask_BL.to(tokens_BLD.dtype).unsqueeze(2)
    return (tokens_BLD * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


def _spread(t: Tensor, alive: Tensor, B: int, W: int) -> Tensor:
    whole = t.new_zeros(B * W, *t.shape[1:])
    whole[alive] = t
    return whole.view(B, W * t.shape[1], t.shape[2])


def is_causal(config: PretrainedConfig) -> bool:
    """Whether this family of models looks back only."""
    known = type(config) in AutoModelForMaskedLM._model_mapping
    return not known and type(config) in AutoModelForCausalLM._model_mapping


def language_class(config: PretrainedConfig) -> Any:
    """The transformers class that builds this config with its language-model head; what tells no words has none.

    Raises:
        InputError: for a model that is no language model.
    """
    for kind in (AutoModelForMaskedLM, AutoModelForCausalLM):
        if type(config) in kind._model_mapping:
            return kind
    if is_wordless(config):
        return AutoModel
    raise InputError(
        f"{config.model_type} is no language model that transformers knows: give a BERT, GPT-2 or their kin"
    )


def language_settings(config: PretrainedConfig) -> dict[str, Any]:
    """How a model of this config is built here: no remote code, short attention."""
    settings: dict[str, Any] = {"trust_remote_code": False}
    kind = language_class(config)._model_mapping[type(config)]
    kind = kind[0] if isinstance(kind, tuple) else kind
    if getattr(kind, "_supports_attention_backend", False):
        settings["attn_implementation"] = attention.NAME
    return settings


def fresh_text_trunk(config: PretrainedConfig, seed: int) -> TextTrunk:
    """An untrained language model of this architecture, as transformers initializes it; small BERTs begin at neighbors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = language_class(config).from_config(config, **language_settings(config))
        begin(model, config)
        return TextTrunk(model)


def is_wordless(config: PretrainedConfig) -> bool:
    """Whether this config is that of a network which tells no words: z of a sentence, or word vectors."""
    return bool(getattr(config, "wordless", False))


def is_language(config: PretrainedConfig) -> bool:
    """Whether this config is that of a model of texts."""
    kinds = (AutoModelForMaskedLM, AutoModelForCausalLM)
    return any(type(config) in kind._model_mapping for kind in kinds) or is_wordless(config)
