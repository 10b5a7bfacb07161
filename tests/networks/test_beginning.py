"""A small BERT begins with heads that look at neighbors."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForMaskedLM

from withheld.networks.beginning import sinusoids
from withheld.networks.text import fresh_text_trunk
from withheld.networks.text_open import TEXT_PRESETS, open_text_trunk


def attention_by_offset(model, layer: int, length: int = 64) -> dict[int, list[float]]:
    """Mean attention of every head at some offsets, on random words a third of which are hidden."""
    model.set_attn_implementation("eager")
    torch.manual_seed(0)
    item = torch.randint(5, 500, (4, length))
    item[torch.rand(item.shape) < 0.3] = 4
    with torch.no_grad():
        found = model.base_model(item, output_attentions=True).attentions[layer]
    return {o: found.diagonal(o, 2, 3).mean(dim=(0, 2)).tolist() for o in (-2, -1, 0, 1, 2, 9)}


@pytest.mark.parametrize(("preset", "offsets"), [("bert-tiny", (-1, 1)), ("bert-mini", (-1, 1, -2, 2))])
def test_the_first_heads_look_at_their_neighbors(preset, offsets):
    trunk, _ = open_text_trunk(preset, vocabulary=500, length=64)
    seen = attention_by_offset(trunk.eval().model, 0)
    for head, offset in enumerate(offsets):
        best = max(seen, key=lambda o: seen[o][head])
        assert best == offset
        assert seen[offset][head] > 0.3
        assert seen[9][head] < 0.02


def test_large_networks_begin_as_published():
    config = TEXT_PRESETS["bert-base"].config(30_522, 512)
    assert config.initializer_range == 0.02
    assert getattr(config, "beginning", None) is None


def test_the_beginning_is_kept_with_the_config(tmp_path):
    trunk, _ = open_text_trunk("bert-tiny", vocabulary=60, length=16, seed=3)
    trunk.model.save_pretrained(tmp_path)
    opened = AutoModelForMaskedLM.from_pretrained(tmp_path)
    again = fresh_text_trunk(opened.config, 3)
    for (name, one), (_, two) in zip(trunk.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(one, two), name


def test_places_have_variance_one_and_turn():
    places = sinusoids(32, torch.linspace(2.0, 0.1, 8))
    assert places.shape == (32, 16)
    assert float(places.square().mean()) == pytest.approx(1.0, rel=1e-5)
