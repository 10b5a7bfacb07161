"""Adapters beside the linear maps of language models: what learns, what stays, and what is merged in the end."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors import safe_open
from transformers import (
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    OpenAIGPTConfig,
    RobertaConfig,
)

from withheld.learn.watch import _change, _matrices
from withheld.networks.adapters import adapt, is_adapted, merged, own_numbers
from withheld.networks.text import TextTrunk, language_class, language_settings
from withheld.networks.words import MaskedWords, NextWord

pytest.importorskip("peft")

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 50}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
KINDS = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "distilbert": DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, vocab_size=50),
    "modernbert": ModernBertConfig(**SIZES, **SPECIAL),
    "gpt2": GPT2Config(**GPT, bos_token_id=None, eos_token_id=None),
    "gpt": OpenAIGPTConfig(**GPT),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=1),
    "llama, tied": LlamaConfig(**SIZES, num_key_value_heads=1, tie_word_embeddings=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_every_family(kind, tmp_path):
    torch.manual_seed(0)
    config = copy.deepcopy(KINDS[kind])
    model = language_class(config).from_config(config, **language_settings(config))
    trunk = TextTrunk(model).eval()
    asked = torch.zeros(3, 12, dtype=torch.bool)
    asked[:, 3] = asked[0, 5] = True
    x = {"item": torch.randint(5, 50, (3, 12)), "asked": asked}

    def told(trunk: TextTrunk) -> torch.Tensor:
        if trunk.causal:
            return NextWord(trunk)({"item": x["item"]})
        return MaskedWords(trunk)(x)["words"]

    before, numbers = told(trunk), sum(p.numel() for p in trunk.parameters())
    adapt(trunk, 4)
    assert torch.equal(told(trunk), before)
    assert own_numbers(trunk) == numbers
    learned = {name: p for name, p in trunk.named_parameters() if p.requires_grad}
    assert all(
        ".lora_" in name and not {"cls", "lm_head", "head", "embeddings"} & set(name.split(".")) for name in learned
    )
    for name, p in learned.items():
        if ".lora_B." in name:
            torch.nn.init.normal_(p, std=0.3)
    moved = told(trunk)
    moved.square().sum().backward()
    assert not [name for name, p in learned.items() if p.grad is None or not p.grad.any()]  # none is passed by
    assert float((moved - before).detach().abs().max()) > 1e-3

    whole = merged(trunk)
    assert not is_adapted(whole)
    assert is_adapted(trunk)
    torch.testing.assert_close(told(whole), moved, atol=1e-5, rtol=1e-5)
    theirs = copy.deepcopy(trunk)
    for part in theirs.modules():
        if hasattr(part, "get_delta_weight"):
            part.merge()  # peft's own
    state = {name.replace(".base_layer", ""): tensor for name, tensor in theirs.state_dict().items()}
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict().items())

    whole.model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "lora" in name or "base_layer" in name]  # noqa: SIM118
    opened = language_class(config).from_pretrained(tmp_path, trust_remote_code=False, **language_settings_of(config))
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (opened.get_output_embeddings().weight is opened.get_input_embeddings().weight) == tied
    torch.testing.assert_close(told(TextTrunk(opened.eval())), moved, atol=1e-5, rtol=1e-5)


def language_settings_of(config) -> dict:
    return {name: value for name, value in language_settings(config).items() if name != "trust_remote_code"}


def test_steps_of_adapters_are_measured_against_the_weights_beside_them():
    """Adapters begin at nothing: measured against themselves every first step would be too large."""
    torch.manual_seed(0)
    trunk = TextTrunk(language_class(KINDS["bert"]).from_config(copy.deepcopy(KINDS["bert"])))
    adapt(trunk, 4)
    twin = copy.deepcopy(trunk).requires_grad_(False)  # a teacher's weights are not what learns
    model = torch.nn.ModuleList([trunk, twin])
    before = _matrices(model)
    with torch.no_grad():
        for name, p in trunk.named_parameters():
            if ".lora_B." in name:
                p.fill_(1e-3)
    now = _matrices(model, copy=False)
    whole = merged(trunk).base.encoder.layer
    learned = [p for name, p in whole.named_parameters() if p.ndim == 2]
    assert len(now) == len(learned) == 12
    assert all(torch.equal(a, b) for a, b in zip(now, learned, strict=True))
    size = torch.cat([p.detach().flatten() for p in learned]).norm()
    moved = torch.cat([(b - a).flatten() for a, b in zip(before, now, strict=True)]).norm()
    assert _change(before, now) == pytest.approx(float(moved / size), rel=1e-5)
    assert 0 < _change(before, now) < 0.2
