"""Decoders of images: from what the encoder saw to what was hidden.

Shapes: B batch, C H W image, V tokens of the encoder, M queries (what is asked for), D width, d decoder's width,
P values of a patch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.networks.attention import SHORT, short_attention
from withheld.networks.image import ImageTrunk, sin_cos_positions
from withheld.networks.video import VideoTrunk
from withheld.types import Pair


class Block(nn.Module):
    """A pre-norm transformer block (Xiong et al. 2020) that may answer for its last `asked` tokens only."""

    def __init__(self, width: int, heads: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens_BLD: Tensor, asked: int | None = None) -> Tensor:
        """(B, L, D) -> (B, asked or L, D)."""
        B, L, D = tokens_BLD.shape
        first = 0 if asked is None else L - asked
        normed = self.norm_1(tokens_BLD)
        query = self.query(normed[:, first:]).view(B, L - first, self.heads, -1).transpose(1, 2)
        key, value = self.key_value(normed).view(B, L, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        if query.device.type == "cpu" and L <= SHORT:
            mixed = short_attention(query, key, value, query.shape[-1] ** -0.5)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        tokens_BLD = tokens_BLD[:, first:] + self.output(mixed.reshape(B, L - first, D))
        return tokens_BLD + self.down(F.gelu(self.up(self.norm_2(tokens_BLD))))


class PatchDecoder(nn.Module):
    """A light transformer that answers queries: mask tokens with positions, beside the encoder's tokens (He et al. 2021)."""

    def __init__(self, width_in: int, width: int, layers: int, heads: int, values: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width_in, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, 1e-6)
        self.predict = nn.Linear(width, values)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens_BVD: Tensor, positions_BVd: Tensor, query_positions_BMd: Tensor) -> Tensor:
        """What stands at the queries, (B, M, P). The last block computes nothing for the other tokens: nobody reads it."""
        M = query_positions_BMd.shape[1]
        seen_BVd = self.embed(tokens_BVD) + positions_BVd
        hidden_BLd = torch.cat([seen_BVd, self.mask_token + query_positions_BMd.expand(len(seen_BVd), -1, -1)], dim=1)
        for i, block in enumerate(self.blocks):
            hidden_BLd = block(hidden_BLd, asked=M if i == len(self.blocks) - 1 else None)
        return self.predict(self.norm(hidden_BLd[:, -M:]))


class PatchPredictor(nn.Module):
    """Hidden patches from visible ones: the trunk sees only the visible, the decoder fills the rest.

    Args:
        trunk: a ViT-like backbone, of images or of clips.
        width, layers, heads: of the decoder.
        values: P, of what is told at a hidden patch; 0 takes its pixels.
    """

    positions: Tensor

    def __init__(self, trunk: ImageTrunk | VideoTrunk, width: int, layers: int, heads: int, values: int = 0) -> None:
        super().__init__()
        self.trunk = trunk
        self.decoder = PatchDecoder(trunk.width, width, layers, heads, values or trunk.values)
        self.register_buffer("positions", sin_cos_positions(trunk.grid, width), persistent=False)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """x of `MaskPatches` or `MaskTubes` -> (B, M, P)."""
        tokens = self.trunk.visible(x["patches"], x["at"])
        prefix = tokens.shape[1] - x["at"].shape[1]
        positions = F.pad(self.positions[x["at"]], (0, 0, prefix, 0))  # [CLS] stands nowhere
        return self.decoder(tokens, positions, self.positions[x["hidden"]])


class Predictor(nn.Module):
    """Any part of an image from any other: x is laid on the trunk's canvas, y is asked for patch by patch.

    Args:
        encoder: a trunk, or its name ("vit-nano", a transformers id, a folder); opened when the data is first seen.
        layers: of the decoder.

    The shape of y is learned from the first pair: images (B, C, H, W) or (B, T, C, H, W) of any size, or vectors (B, K).
    """

    trunk: ImageTrunk
    positions: Tensor
    head: nn.Module

    def __init__(self, encoder: ImageTrunk | str = "vit-nano", layers: int = 2) -> None:
        super().__init__()
        self.encoder = encoder if isinstance(encoder, str) else None
        if not isinstance(encoder, str):
            self.trunk = encoder
        self.layers = layers

    def fitted(self, sample: Pair) -> Predictor:
        """Builds the decoder for pairs of this shape."""
        from withheld.networks.open import open_trunk, patch_for

        x, y = _image_of(sample.x), sample.y
        if self.encoder is not None:
            longest = max(x.shape[-2:])
            size = -(-longest // patch_for(longest)) * patch_for(longest)
            seed = torch.initial_seed() % 2**31
            self.trunk, _ = open_trunk(self.encoder, size=size, channels=x.shape[-3], seed=seed)
        trunk, patch, width = self.trunk, self.trunk.patch, max(64, self.trunk.width // 2)
        self.y_shape = tuple(y.shape[1:])
        rows = trunk.size // patch
        self.register_buffer("positions", sin_cos_positions((rows, rows), width), persistent=False)
        if len(self.y_shape) == 1:
            self.head = nn.Linear(trunk.width, self.y_shape[0])
            return self
        self.grid = (-(-y.shape[-2] // patch), -(-y.shape[-1] // patch))
        self.planes = int(torch.tensor(self.y_shape[:-2]).prod())
        self.head = PatchDecoder(trunk.width, width, self.layers, max(1, width // 32), patch * patch * self.planes)
        self.queries = nn.Parameter(
            0.02 * torch.randn(self.grid[0] * self.grid[1], width) + sin_cos_positions(self.grid, width)
        )
        return self

    def forward(self, x: Any) -> Tensor:
        """x -> a prediction of y's shape."""
        image = _image_of(x)
        trunk = self.trunk
        image = image.flatten(1, -3)  # frames of a clip become channels
        canvas = F.pad(image, (0, trunk.size - image.shape[-1], 0, trunk.size - image.shape[-2]))
        features = trunk(canvas)
        if len(self.y_shape) == 1:
            return self.head(features.pooled)
        B, patch = len(canvas), trunk.patch
        answer = self.head(features.tokens, self.positions.unsqueeze(0), self.queries.unsqueeze(0))
        cut = answer.view(B, *self.grid, patch, patch, self.planes).permute(0, 5, 1, 3, 2, 4)
        whole = cut.reshape(B, self.planes, self.grid[0] * patch, self.grid[1] * patch)
        return whole[..., : self.y_shape[-2], : self.y_shape[-1]].reshape(B, *self.y_shape)


def _image_of(x: Any) -> Tensor:
    return x["item"] if isinstance(x, dict) else x
