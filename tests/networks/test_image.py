"""Trunks: any transformers vision model behind one face."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModel, BeitConfig, DeiTConfig, Dinov2Config, ResNetConfig, ViTConfig

from withheld.errors import InputError
from withheld.methods.mae import mae
from withheld.networks.attention import short_attention
from withheld.networks.decoder import Block
from withheld.networks.image import ImageTrunk, fresh_trunk
from withheld.networks.open import PRESETS, open_trunk
from withheld.splits.image import MaskPatches

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
VITS = [
    ViTConfig(**SMALL, intermediate_size=64),
    DeiTConfig(**SMALL, intermediate_size=64),
    Dinov2Config(**SMALL),
    BeitConfig(**SMALL, intermediate_size=64, use_absolute_position_embeddings=True),
]


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", VITS, ids=lambda config: config.model_type)
class TestViTs:
    def test_mae_trains_it(self, config):
        objective, _ = mae(open_trunk(config, size=16, channels=3)[0])
        objective.fit_parts(images())
        objective(images())["loss"].backward()
        assert [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None] == []

    def test_features_have_their_shapes(self, config):
        trunk, _ = open_trunk(config, size=16, channels=3)
        features = trunk(images(), layers=True)
        assert features.pooled.shape == (4, 32)
        assert features.tokens.shape == (4, 16, 32)
        assert features.grid == (4, 4)
        assert len(features.layers) == 3
        assert all(layer.shape == (4, 16, 32) for layer in features.layers)

    def test_all_patches_visible_is_the_whole_image(self, config):
        trunk, _ = open_trunk(config, size=16, channels=3)
        trunk.eval()
        split = MaskPatches(patch=4, ratio=0.5).fitted(images())
        pair = split(images())
        patches, at = torch.cat([pair.x["patches"], pair.y], 1), torch.cat([pair.x["at"], pair.x["hidden"]], 1)
        order = at.argsort(dim=1)
        with torch.no_grad():
            tokens = trunk.visible(patches.gather(1, order.unsqueeze(-1).expand_as(patches)), at.sort(dim=1).values)
            whole = trunk(images()).tokens
        torch.testing.assert_close(tokens[:, -16:], whole, atol=1e-5, rtol=1e-4)

    def test_hidden_patches_are_not_seen(self, config):
        trunk, _ = open_trunk(config, size=16, channels=3)
        trunk.eval()
        pair = MaskPatches(patch=4, ratio=0.75)(images())
        with torch.no_grad():
            tokens = trunk.visible(pair.x["patches"], pair.x["at"])
        assert tokens.shape[1] <= 4 + 2

    def test_layers_of_parameters(self, config):
        trunk, _ = open_trunk(config, size=16, channels=3)
        layers = {trunk.layer_of(name) for name, _ in trunk.named_parameters()}
        assert {0, 1, 2} <= layers
        assert max(layers) <= trunk.depth + 1 == 3


def test_the_short_way_of_embedding_equals_the_general_one():
    trunk = fresh_trunk(VITS[0], 0)
    pair = MaskPatches(patch=4, ratio=0.75)(images())
    quick = trunk._embed_visible(pair.x["patches"], pair.x["at"])
    general = trunk._embed_and_pick(pair.x["patches"], pair.x["at"])
    torch.testing.assert_close(quick, general, atol=1e-5, rtol=1e-5)


def test_convolutional_models_give_features_too():
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    features = open_trunk(config, size=32, channels=3)[0](torch.randn(2, 3, 32, 32))
    assert features.pooled.shape == (2, 16)
    assert features.grid == (4, 4)


def test_short_attention_equals_torchs():
    q, k, v = torch.randn(3, 2, 4, 7, 8).unbind()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    torch.testing.assert_close(short_attention(q, k, v, 8**-0.5), expected, atol=1e-6, rtol=1e-5)


def test_a_block_that_answers_for_some_equals_the_whole_block():
    torch.manual_seed(0)
    block, tokens = Block(16, 2), torch.randn(3, 10, 16)
    torch.testing.assert_close(block(tokens, asked=4), block(tokens)[:, -4:], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["vit-nano", "vit-micro", "vit-tiny"])
def test_presets_have_the_size_they_claim(name):
    trunk, trained = open_trunk(name, size=32, channels=3)
    claimed = float(PRESETS[name].about.split(" M ")[0])
    assert sum(p.numel() for p in trunk.parameters()) / 1e6 == pytest.approx(claimed, rel=0.1)
    assert not trained


def test_a_checkpoint_keeps_its_features_and_fits_another_size(tmp_path):
    model = fresh_trunk(VITS[0], 3).model.eval()
    model.save_pretrained(tmp_path / "vit")
    trunk, trained = open_trunk(tmp_path / "vit", size=None, channels=3)
    assert trained
    with torch.no_grad():
        theirs = AutoModel.from_pretrained(tmp_path / "vit").eval()(pixel_values=images()).last_hidden_state[:, 1:]
        torch.testing.assert_close(trunk.eval()(images()).tokens, theirs, atol=1e-5, rtol=0)
    larger, _ = open_trunk(tmp_path / "vit", size=32, channels=3)
    assert larger(torch.randn(1, 3, 32, 32)).grid == (8, 8)
    with pytest.raises(InputError, match="multiple"):
        open_trunk(tmp_path / "vit", size=30, channels=3)


def test_what_is_no_encoder_is_named(tmp_path):
    with pytest.raises(InputError, match="no encoder in this folder"):
        open_trunk(tmp_path, size=16, channels=3)
    (tmp_path / "config.json").write_text("{]")
    with pytest.raises(InputError, match=r"config\.json"):
        open_trunk(tmp_path, size=16, channels=3)
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    with pytest.raises(InputError, match="model_type"):
        open_trunk(tmp_path, size=16, channels=3)


@pytest.mark.promise("S2", "a config that names code")
def test_a_config_cannot_name_code(tmp_path):
    settings = {"model_type": "vit", **SMALL, "intermediate_size": 64, "num_channels": 3}
    hostile = {"auto_map": {"AutoModel": "evil--model.Evil"}, "_attn_implementation": "evil/kernel"}
    (tmp_path / "config.json").write_text(json.dumps({**settings, **hostile}))
    trunk, trained = open_trunk(tmp_path, size=16, channels=3)
    assert isinstance(trunk, ImageTrunk)
    assert not trained
    assert "evil" not in str(trunk.config)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.rsplit("-", 1)[-1] not in ("base", "large")])
def test_every_preset_has_the_width_of_its_features(name):
    """That of vq-vae2 was the width of its codes, and nothing could be learned on its features."""
    trunk, _ = open_trunk(name, size=32, channels=3)
    with torch.no_grad():
        found = trunk.eval()(torch.zeros(2, 3, 32, 32))
    assert found.pooled.shape == (2, trunk.width)
    assert found.tokens.shape[-1] == trunk.width
