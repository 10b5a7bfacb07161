"""Image backbones: any transformers vision model behind one face, a trunk.

Shapes: B batch, C channels, H W pixels, L patches in row-by-row order, V visible ones, P values of a patch, D width.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.models.vit.modeling_vit import ViTEmbeddings
from transformers.utils import logging as transformers_logging

from withheld import distributed
from withheld.modes import evaluating
from withheld.networks import attention
from withheld.networks.layout import channels_last
from withheld.types import Features

transformers_logging.disable_progress_bar()  # loading a local file is not worth a bar

LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks?|stages|h)\.(\d+)\.")


def sin_cos_positions(grid: tuple[int, ...], width: int) -> Tensor:
    """Fixed sine and cosine positions of a grid (H, W) or (T, H, W), (L, D), last axis first as in the MAE weights."""
    each = width // (2 * len(grid))
    frequency = 1.0 / 10000 ** (torch.arange(each, dtype=torch.float64) / each)
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [place.flatten()[:, None] * frequency for place in reversed(places)]
    waves = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()
    return F.pad(waves, (0, width - waves.shape[1]))


class ImageTrunk(nn.Module):
    """A transformers vision backbone: normalized images (B, C, size, size) in, `Features` out.

    Args:
        model: e.g. `ViTModel`, `Dinov2Model`, `ResNetModel`; its config names size, channels and patch.
        pooling: "mean" of the patch tokens or the "cls" token.

    Attributes:
        width: D. depth: number of layers. size, channels, patch: of its input, pixels.
    """

    def __init__(self, model: PreTrainedModel, pooling: str = "mean") -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        config = model.config
        self.size: int = _first(getattr(config, "image_size", 224))
        self.channels: int = getattr(config, "num_channels", 3)
        # what has stages ends in a smaller grid than that of its patches
        self.patch: int = 0 if hasattr(config, "depths") else _first(getattr(config, "patch_size", 0) or 0)
        own = getattr(config, "grid_width", 0) or getattr(config, "hidden_size", 0)
        self.width: int = own or (getattr(config, "hidden_sizes", None) or [self._blank().shape[1]])[-1]
        self.depth: int = depth_of(model)
        for name, parameter in model.named_parameters():
            if "mask_token" in name:
                parameter.requires_grad_(False)  # never in the graph here, and idle parameters stall DDP

    @property
    def base(self) -> PreTrainedModel:
        """The model without a head: all of it."""
        return self.model

    @property
    def config(self) -> PretrainedConfig:
        """The transformers config."""
        return self.model.config

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size // max(1, self.patch), self.size // max(1, self.patch)

    @property
    def small_side(self) -> int:
        """Side of small views, pixels: three fifths of the size, a multiple of the patch, 4 where there is none."""
        unit = self.patch or 4
        return max(unit, round(0.6 * self.size / unit) * unit)

    @property
    def values(self) -> int:
        """P, the values of a patch."""
        return self.patch**2 * self.channels

    def forward(self, t_BCHW: Tensor, layers: bool = False) -> Features:
        """Features of whole images.

        Args:
            t_BCHW: normalized, of the trunk's size.
            layers: also give the tokens after every layer.
        """
        if not self.patch:  # convolutional
            t_BCHW = channels_last(t_BCHW)
        output = self.model(pixel_values=t_BCHW, output_hidden_states=layers)
        last = output.last_hidden_state
        if last.ndim == 4:  # convolutional: (B, D, H, W)
            grid = (last.shape[2], last.shape[3])
            tokens = last.flatten(2).transpose(1, 2)
            hidden = tuple(part.flatten(2).transpose(1, 2) for part in output.hidden_states or ())
            return Features(tokens.mean(dim=1), tokens, grid, None, hidden or None)
        grid = self._grid(t_BCHW, last.shape[1])
        count = grid[0] * grid[1]
        tokens = last[:, -count:]
        pooled = last[:, 0] if self.pooling == "cls" and last.shape[1] > count else tokens.mean(dim=1)
        hidden = tuple(
            part.flatten(2).transpose(1, 2) if part.ndim == 4 else part[:, -count:] if self.patch else part
            for part in output.hidden_states or ()
        )
        return Features(pooled, tokens, grid, None, hidden or None)

    def _grid(self, t_BCHW: Tensor, tokens: int) -> tuple[int, int]:
        """Rows and columns of the tokens: of the patches, or, of what has stages, the square that fits into them."""
        if self.patch:
            return t_BCHW.shape[2] // self.patch, t_BCHW.shape[3] // self.patch
        return math.isqrt(tokens), math.isqrt(tokens)

    @torch.no_grad()
    def _blank(self) -> Tensor:
        """(1, D, h, w) of a blank image, for what does not say how wide it is."""
        with evaluating(self.model):
            found: Tensor = self.model(torch.zeros(1, self.channels, self.size, self.size)).last_hidden_state
        return found

    def crops(self, t_BChw: Tensor) -> Features:
        """Features of images smaller than the trunk's own, such as single patches of one.

        A ViT sees a crop's tokens at a block of its positions, drawn anew for every batch in training and the middle one
        otherwise: one block for the whole batch, so that a position tells nothing of where a crop was.
        """
        h, w = t_BChw.shape[-2:]
        if not self.patch or (h, w) == (self.size, self.size):
            return self(t_BChw)
        rows, (down, across) = self.size // self.patch, (h // self.patch, w // self.patch)
        room = [rows - n for n in (down, across)]
        if h % self.patch or w % self.patch or min(room) < 0:
            raise ValueError(f"crops of {h}x{w} do not fit a trunk of {self.size} with patches of {self.patch}")
        drawn = [int(torch.randint(n + 1, ())) if self.training else n // 2 for n in room]
        top, left = distributed.from_first(drawn)
        at = torch.arange(top, top + down)[:, None] * rows + torch.arange(left, left + across)
        cut = t_BChw.reshape(len(t_BChw), -1, down, self.patch, across, self.patch).permute(0, 2, 4, 3, 5, 1)
        tokens = self.visible(
            cut.reshape(len(cut), down * across, -1), at.flatten().to(t_BChw.device).expand(len(cut), -1)
        )[:, -down * across :]
        return Features(tokens.mean(dim=1), tokens, (down, across))

    def visible(self, patches_BVP: Tensor, at_BV: Tensor) -> Tensor:
        """Tokens of the visible patches only, prefix tokens (such as [CLS]) first: (B, prefix + V, D).

        Works on every ViT-like model whose `embeddings` give prefix and patch tokens in row-by-row order: the layers see the chosen
        tokens and nothing else. Where the embedding is transformers' plain ViT one, hidden patches are not even embedded.
        """
        embeddings = self.model.embeddings
        tokens = self._embed_visible if isinstance(embeddings, ViTEmbeddings) else self._embed_and_pick
        with instead(embeddings, tokens(patches_BVP, at_BV)):
            return self.model(pixel_values=patches_BVP).last_hidden_state

    def layer_of(self, name: str) -> int:
        """The layer of a parameter: 0 embeddings, 1 ... depth, depth + 1 what comes after; for layer-wise decay."""
        return layer_of(name, self.depth, ("embed", "cls_token"))

    def _embed_visible(self, patches_BVP: Tensor, at_BV: Tensor) -> Tensor:
        embeddings = self.model.embeddings
        kernel = (
            embeddings.patch_embeddings.projection
        )  # a convolution whose stride is its size: a linear map of each patch
        weight = kernel.weight.permute(0, 2, 3, 1).flatten(1)
        positions = embeddings.position_embeddings[0]
        tokens = F.linear(patches_BVP, weight, kernel.bias) + positions[1:][at_BV]
        prefix = (embeddings.cls_token + positions[:1]).expand(len(tokens), -1, -1)
        return embeddings.dropout(torch.cat([prefix, tokens], dim=1))

    def _embed_and_pick(self, patches_BVP: Tensor, at_BV: Tensor) -> Tensor:
        rows = self.size // self.patch
        B, V, P = patches_BVP.shape
        blank = patches_BVP.new_zeros(B, rows * rows, P)
        spread = blank.scatter(1, at_BV.unsqueeze(-1).expand(-1, -1, P), patches_BVP)
        image = spread.view(B, rows, rows, self.patch, self.patch, -1).permute(0, 5, 1, 3, 2, 4)
        tokens = self.model.embeddings(image.reshape(B, -1, self.size, self.size))
        prefix = tokens.shape[1] - rows * rows
        index = (at_BV + prefix).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        return torch.cat([tokens[:, :prefix], tokens.gather(1, index)], dim=1)


def depth_of(model: nn.Module) -> int:
    """How many layers it has, by the names of its parameters."""
    found = [LAYER.search(name) for name, _ in model.named_parameters()]
    return 1 + max((int(match[1]) for match in found if match), default=0)


def layer_of(name: str, depth: int, embeddings: Sequence[str]) -> int:
    """The layer of a parameter: 0 what has a name of embeddings, then 1 ... depth, depth + 1 what comes after."""
    if match := LAYER.search(name):
        return int(match[1]) + 1
    return 0 if any(part in name for part in embeddings) else depth + 1


@contextmanager
def instead(embeddings: nn.Module, tokens: Tensor) -> Iterator[None]:
    """Within it, the embedding layer answers with these tokens; the model's own layers, masks and norm do the rest."""
    embeddings.forward = lambda *_, **__: tokens  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del embeddings.forward


def fresh_trunk(config: PretrainedConfig, seed: int, pooling: str = "mean") -> ImageTrunk:
    """An untrained backbone of this architecture: Xavier weights and, in a ViT, sine-cosine positions, as in MAE."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = ImageTrunk(AutoModel.from_config(config, **model_settings(config)), pooling)
        for module in trunk.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        embeddings = getattr(trunk.model, "embeddings", None)
        if isinstance(embeddings, ViTEmbeddings):
            weight = embeddings.patch_embeddings.projection.weight
            nn.init.xavier_uniform_(weight.data.view(weight.shape[0], -1))
            nn.init.normal_(embeddings.cls_token, std=0.02)
            rows = trunk.size // trunk.patch
            with torch.no_grad():
                embeddings.position_embeddings.zero_()
                embeddings.position_embeddings[0, 1:] = sin_cos_positions((rows, rows), trunk.width)
    return trunk


def model_settings(config: PretrainedConfig) -> dict[str, Any]:
    """How a model of this config is built here: no remote code, short attention, and no pooling head, which is never trained."""
    settings: dict[str, Any] = {"trust_remote_code": False}
    model_class = AutoModel._model_mapping.get(type(config), None)
    model_class = model_class[0] if isinstance(model_class, tuple) else model_class
    if model_class is not None and "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        settings["add_pooling_layer"] = False
    if getattr(model_class, "_supports_attention_backend", False):
        settings["attn_implementation"] = attention.NAME
    return settings


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, (list, tuple)) else value)
