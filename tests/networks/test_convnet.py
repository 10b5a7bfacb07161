"""The plain convolutional network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel

from withheld.networks.convnet import ConvNetConfig, ConvNetModel
from withheld.networks.open import open_trunk
from withheld.networks.vae import conv_decoder


def test_it_is_convolutions_norms_and_relus_one_after_the_other() -> None:
    torch.manual_seed(0)
    model = ConvNetModel(ConvNetConfig(16, 1, (4, 8, 8), (2, 1, 2))).eval()
    x = t = torch.randn(3, 1, 16, 16)
    for layer, (kernel, stride) in zip([model.embedder, *model.layers], [(4, 2), (3, 1), (3, 2)], strict=True):
        norm = layer[1]
        x = F.conv2d(x, layer[0].weight, stride=stride, padding=(kernel - 1) // 2)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    torch.testing.assert_close(model(t).last_hidden_state, x)


def test_it_opens_with_transformers(tmp_path: Path) -> None:
    trunk, _ = open_trunk("conv-nano", size=32, channels=3)
    trunk.eval().model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    t = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again(pixel_values=t).last_hidden_state, trunk.model(pixel_values=t).last_hidden_state)


def test_large_images_are_quartered_by_the_stem() -> None:
    for size, grid in ((28, (4, 4)), (32, (4, 4)), (96, (6, 6))):
        trunk, _ = open_trunk("conv-nano", size=size, channels=3)
        assert trunk(torch.zeros(2, 3, size, size)).grid == grid


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_lie_channels_last_whatever_is_given(channels: int) -> None:
    """Grey images too, which are in both orders at once and of which `contiguous` changes nothing; the numbers stay."""
    torch.manual_seed(0)
    trunk, _ = open_trunk("conv-nano", size=32, channels=channels)
    t = torch.randn(4, channels, 32, 32)
    seen: list[torch.Tensor] = []
    trunk.model.embedder.register_forward_hook(lambda *given: seen.append(given[-1]))
    features = trunk.eval()(t)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()
    torch.testing.assert_close(features.pooled, trunk.model(pixel_values=t).last_hidden_state.mean(dim=(2, 3)))


def test_a_convolutional_decoder_makes_maps_channels_last() -> None:
    decoder = conv_decoder(20, (1, 28, 28))
    maps = decoder[:5](torch.randn(3, 20))
    assert maps.shape == (3, 64, 7, 7)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(decoder(torch.zeros(3, 20)), decoder[5:](decoder[:5](torch.zeros(3, 20)).contiguous()))
