"""The masked autoencoder against transformers' own, with the same weights and the same mask."""

import math

import pytest
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from withheld.methods.mae import mae
from withheld.networks.image import sin_cos_positions
from withheld.networks.open import open_trunk


def hf_mae(channels=3, norm=True, size=32, patch=4, decoder_layers=2):
    config = ViTMAEConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256, image_size=size, patch_size=patch,
        num_channels=channels, decoder_hidden_size=64, decoder_num_hidden_layers=decoder_layers,
        decoder_num_attention_heads=2, decoder_intermediate_size=256, mask_ratio=0.75, norm_pix_loss=norm,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, layer_norm_eps=1e-6,
    )  # fmt: skip
    torch.manual_seed(0)
    model = ViTMAEForPreTraining(config).eval()
    give_positions(model)
    return model


def give_positions(model):
    """Sine and cosine positions as in the published weights: the class leaves them 0 when built from a config."""
    rows = model.config.image_size // model.config.patch_size
    for table in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
        table.data[0, 1:] = sin_cos_positions((rows, rows), table.shape[-1])


def copy_weights(source, objective):
    """Copies a ViTMAEForPreTraining into our network, name by name."""
    trunk, decoder = objective.network.trunk.model, objective.network.decoder
    missing, unexpected = trunk.load_state_dict(source.vit.state_dict(), strict=False)
    assert not missing
    assert not unexpected
    theirs = source.decoder
    decoder.embed.load_state_dict(theirs.decoder_embed.state_dict())
    decoder.norm.load_state_dict(theirs.decoder_norm.state_dict())
    decoder.predict.load_state_dict(theirs.decoder_pred.state_dict())
    decoder.mask_token.data.copy_(theirs.mask_token.data)
    for block, layer in zip(decoder.blocks, theirs.decoder_layers, strict=True):
        block.norm_1.load_state_dict(layer.layernorm_before.state_dict())
        block.norm_2.load_state_dict(layer.layernorm_after.state_dict())
        block.query.load_state_dict(layer.attention.q_proj.state_dict())
        for name in ("weight", "bias"):
            joined = torch.cat([getattr(p, name) for p in (layer.attention.k_proj, layer.attention.v_proj)])
            getattr(block.key_value, name).data.copy_(joined)
        block.output.load_state_dict(layer.attention.o_proj.state_dict())
        block.up.load_state_dict(layer.mlp.fc1.state_dict())
        block.down.load_state_dict(layer.mlp.fc2.state_dict())


def same_mask(noise, ratio):
    """The pair that this noise makes, as transformers masks."""
    order = noise.argsort(dim=1)
    visible = int(noise.shape[1] * (1 - ratio))
    return order[:, :visible], order[:, visible:]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", [True, False])
def test_loss_and_gradients_equal_transformers(channels, norm):
    theirs = hf_mae(channels, norm)
    from transformers import ViTConfig

    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size",
            "num_channels", "layer_norm_eps")  # fmt: skip
    config = ViTConfig(**{key: getattr(theirs.config, key) for key in keys})
    trunk, _ = open_trunk(config, size=32, channels=channels)
    ours, _ = mae(trunk, normalize_patches=norm, decoder_width=64, decoder_layers=2)
    copy_weights(theirs, ours)
    torch.manual_seed(1)
    t = torch.randn(16, channels, 32, 32)
    noise = torch.rand(16, 64)
    expected = theirs(pixel_values=t, noise=noise).loss
    torch.manual_seed(7)
    pair = ours.split(t)
    assert pair.y.shape == (16, 48, 16 * channels)
    from withheld.splits.image import gather_tokens, patchify
    from withheld.types import Pair

    at, hidden = same_mask(noise, 0.75)
    patches = patchify(t, 4)
    pair = Pair({"patches": gather_tokens(patches, at), "at": at, "hidden": hidden}, gather_tokens(patches, hidden))
    loss = ours(pair)["loss"]
    assert abs(loss.item() - expected.item()) <= 1e-5 * expected.item()
    loss.backward()
    expected.backward()
    pairs = zip(trunk.model.named_parameters(), theirs.vit.named_parameters(), strict=True)
    for (name, mine), (other, yours) in pairs:
        assert name == other
        if yours.grad is not None:
            torch.testing.assert_close(mine.grad, yours.grad, rtol=1e-3, atol=1e-6)


def test_positions_equal_the_naive_formula():
    width, rows = 32, 5
    ours = sin_cos_positions((rows, rows), width)
    for row in range(rows):
        for column in range(rows):
            for k in range(width // 4):
                rate = 10000 ** (-k / (width // 4))
                angles = [math.sin(column * rate), math.cos(column * rate), math.sin(row * rate), math.cos(row * rate)]
                for part, value in enumerate(angles):
                    assert ours[row * rows + column, part * (width // 4) + k].item() == pytest.approx(value, abs=1e-6)
