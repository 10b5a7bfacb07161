"""Image backbones from elsewhere: what a trunk gives is what transformers gives, on the grid that it lies on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from withheld.errors import InputError
from withheld.image_encoder import ImageEncoder
from withheld.networks.open import open_trunk
from withheld.run import load_method

VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32, "patch_size": 8,
}  # fmt: skip
SWIN = {
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1, 1],
    "num_heads": [1, 2, 4],
    "window_size": 4,
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_channels": 3}
FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    **dict.fromkeys(("beit", "clip_vision_model", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "ijepa"), (VIT, 4)),
    **dict.fromkeys(("siglip_vision_model", "vit", "vit_msn"), (VIT, 4)),
    "swin": (SWIN, 4), "swinv2": (SWIN, 4),
    "convnext": ({**STAGES, "image_size": 64}, 2), "dinov3_convnext": ({**STAGES, "image_size": 64}, 2),
    "resnet": ({**STAGES, "embedding_size": 8}, 7), "mobilenet_v2": ({"image_size": 64, "depth_multiplier": 0.25}, 2),
}  # fmt: skip
"""Config, and rows of the grid that the tokens lie on."""
PAIR = {
    "vision_config": VIT,
    "text_config": {**VIT, "vocab_size": 40, "max_position_embeddings": 8},
    "projection_dim": 16,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_transformers_and_lie_on_their_grid(family: str, tmp_path: Path) -> None:
    settings, rows = FAMILIES[family]
    torch.manual_seed(0)
    theirs = AutoModel.from_config(AutoConfig.for_model(family, **settings)).eval()
    theirs.save_pretrained(tmp_path)
    encoder = ImageEncoder.opened(tmp_path).eval()
    shown = torch.rand(2, 3, encoder.size, encoder.size)
    with torch.no_grad():
        ours, whole = encoder.trunk(shown, layers=True), theirs(pixel_values=shown).last_hidden_state
    whole = whole.flatten(2).transpose(1, 2) if whole.ndim == 4 else whole[:, -rows * rows :]
    assert ours.grid == (rows, rows)
    torch.testing.assert_close(ours.tokens, whole, atol=1e-4, rtol=1e-4)
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    assert encoder.transform_patches(images).shape == (2, rows, rows, encoder.width)
    assert [layer.shape[0] for layer in encoder.transform_layers(images)] == [2] * encoder.trunk.depth
    assert encoder.transform(images).shape == (2, encoder.width)


@pytest.mark.parametrize("kinds", [(CLIPConfig, CLIPModel), (SiglipConfig, SiglipModel)])
def test_of_models_of_images_and_texts_the_part_that_sees_is_opened(kinds: tuple[Any, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    both = kinds[1](kinds[0](**PAIR)).eval()
    both.save_pretrained(tmp_path)
    trunk, pretrained = open_trunk(tmp_path, size=None, channels=3)
    assert pretrained
    shown = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        whole = both.vision_model(pixel_values=shown).last_hidden_state[:, -16:]
        torch.testing.assert_close(trunk.eval()(shown).tokens, whole, atol=1e-5, rtol=1e-5)
    assert trunk.pooling == ("cls" if kinds[0] is CLIPConfig else "mean")


def test_what_has_stages_hides_no_patches() -> None:
    trunk, _ = open_trunk(AutoConfig.for_model("swin", **SWIN), size=64, channels=3)
    with pytest.raises(InputError, match="mae hides patches, and this encoder has none"):
        load_method("mae")(trunk)


def test_what_wants_more_than_pixels_says_so(tmp_path: Path) -> None:
    AutoModel.from_config(AutoConfig.for_model("siglip2_vision_model", **VIT)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"siglip2_vision_model wants .*spatial_shapes beside pixels"):
        open_trunk(tmp_path, size=None, channels=3)
