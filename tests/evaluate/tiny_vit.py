"""A ViT small enough for tests."""

from __future__ import annotations

from withheld.image_encoder import ImageEncoder
from withheld.networks.image import fresh_trunk


def tiny_encoder(size: int = 8, channels: int = 1, patch: int = 4, seed: int = 99) -> ImageEncoder:
    from transformers import ViTConfig

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=size,
        patch_size=patch, num_channels=channels, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    trunk = fresh_trunk(config, seed)
    return ImageEncoder(trunk, [0.3] * channels, [0.35] * channels, name="tiny", flips=False).eval()
