"""Video backbones behind one face: a transformers model of whole clips (VideoMAE), or one of images, frame by frame.

Shapes: B batch, T frames, C channels, H W pixels, L tokens (T' * H' * W', time first, then row by row), D width.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, VideoMAEConfig

from withheld.errors import InputError
from withheld.modes import evaluating
from withheld.networks.image import ImageTrunk, fresh_trunk, instead, layer_of, model_settings
from withheld.networks.open import PRESETS, encoder_folder, open_trunk, read_config, with_weights
from withheld.types import Features

WHOLE_CLIPS = ("videomae",)
"""transformers' model types that take (B, T, C, H, W)."""
VIDEO_PRESETS = {
    "videomae-nano": (128, 4, 4, "0.9 M parameters, for minutes on a CPU"),
    "videomae-small": (384, 12, 6, "22 M parameters (Tong et al. 2022), for a GPU"),
    "videomae-base": (768, 12, 12, "86 M parameters (Tong et al. 2022), for a large GPU"),
}


class VideoTrunk(nn.Module):
    """A backbone of clips: normalized (B, T, C, size, size) in, `Features` out.

    Args:
        model: a transformers model, of clips or of images.
        frames: T that it is fed; models of clips know it themselves.
        pooling: of a model of images.

    Attributes:
        width: D. depth: layers. size, channels, patch: of its input, pixels. image: the trunk of single frames, or None.
    """

    image: ImageTrunk | None

    def __init__(self, model: PreTrainedModel, frames: int = 8, pooling: str = "mean") -> None:
        super().__init__()
        config = model.config
        self.whole = config.model_type in WHOLE_CLIPS
        if self.whole:
            self.image, self._model = None, model
            self.size, self.channels, self.patch = config.image_size, config.num_channels, config.patch_size
            self.width, self.depth, self.frames = config.hidden_size, config.num_hidden_layers, config.num_frames
            self.tubelet = config.tubelet_size
        else:
            self.image = ImageTrunk(model, pooling)
            self.size, self.channels, self.patch = self.image.size, self.image.channels, self.image.patch
            self.width, self.depth, self.frames, self.tubelet = self.image.width, self.image.depth, frames, 1

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model."""
        return self._model if self.image is None else self.image.model

    @property
    def base(self) -> PreTrainedModel:
        """The model without a head: all of it."""
        return self.model

    @property
    def config(self) -> PretrainedConfig:
        """The transformers config."""
        return self.model.config

    @property
    def pooling(self) -> str:
        """How tokens of a frame become one vector."""
        return "mean" if self.image is None else self.image.pooling

    def forward(self, t_BTCHW: Tensor, layers: bool = False) -> Features:
        """Features of clips; `pooled` is the mean over time."""
        if self.image is None:
            output = self.model(pixel_values=t_BTCHW, output_hidden_states=layers)
            tokens = output.last_hidden_state
            side = self.size // self.patch
            grid = (t_BTCHW.shape[1] // self.tubelet, side, side)
            return Features(tokens.mean(dim=1), tokens, grid, None, tuple(output.hidden_states or ()) or None)
        B, T = t_BTCHW.shape[:2]
        found = self.image(t_BTCHW.flatten(0, 1), layers)
        join = lambda part: part.reshape(B, -1, part.shape[-1])  # noqa: E731
        hidden = tuple(join(part) for part in found.layers) if found.layers else None
        return Features(
            found.pooled.view(B, T, -1).mean(dim=1), join(found.tokens), (T, *(found.grid or (1, 1))), None, hidden
        )

    def frame(self, t_BCHW: Tensor) -> Features:
        """Features of single frames.

        Raises:
            InputError: where the model takes whole clips only.
        """
        if self.image is None:
            raise InputError(
                "this method looks at single frames: it needs a model of images, such as --encoder vit-nano"
            )
        return self.image(t_BCHW)

    @property
    @torch.no_grad()
    def frame_grid(self) -> int:
        """Places along a side of the grid of a single frame's tokens."""
        blank = next(self.parameters()).new_zeros(1, self.channels, self.size, self.size)
        with evaluating(self):
            return (self.frame(blank).grid or (1,))[-1]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches in time, rows and columns."""
        side = self.size // max(1, self.patch)
        return self.frames // self.tubelet, side, side

    @property
    def values(self) -> int:
        """P, the values of a patch."""
        return self.tubelet * self.patch**2 * self.channels

    def visible(self, patches_BVP: Tensor, at_BV: Tensor) -> Tensor:
        """Tokens of the visible patches only, (B, V, D): the others are not even embedded.

        Raises:
            InputError: where the model is one of images, which sees frame by frame.
        """
        if self.image is not None:
            raise InputError(
                "this method hides tubes of a clip: it needs a model of clips, such as --encoder videomae-nano"
            )
        embeddings = self.model.embeddings
        kernel = embeddings.patch_embeddings.projection
        weight = kernel.weight.permute(0, 2, 3, 4, 1).flatten(1)
        positions = embeddings.position_embeddings[0].to(patches_BVP)
        with instead(embeddings, F.linear(patches_BVP, weight, kernel.bias) + positions[at_BV]):
            return self.model(pixel_values=patches_BVP).last_hidden_state

    def layer_of(self, name: str) -> int:
        """The layer of a parameter: 0 embeddings, 1 ... depth, depth + 1 what comes after; for layer-wise decay."""
        return layer_of(name, self.depth, ("embed", "cls_token"))


def open_video_trunk(
    encoder: Any, *, size: int | None, frames: int, channels: int = 3, seed: int = 0
) -> tuple[VideoTrunk, bool]:
    """A trunk of clips, and whether it comes with trained weights.

    Args:
        encoder: a preset of clips or of images (then frame by frame), a transformers id, a folder or a config.
        size: side in pixels; None takes the encoder's own.
        frames: T of a preset, or of an encoder of images.

    Raises:
        InputError: for an unknown name, or a folder that holds no encoder.
    """
    name = str(encoder)
    if name in VIDEO_PRESETS:
        width, layers, heads, _ = VIDEO_PRESETS[name]
        size = size or 224
        config = VideoMAEConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width,
            image_size=size, patch_size=8 if size <= 128 else 16, num_channels=channels, num_frames=frames, tubelet_size=2,
            use_mean_pooling=False,
        )  # fmt: skip
        return fresh_video_trunk(config, seed, frames), False
    folder = encoder_folder(name) if isinstance(encoder, (str, Path)) and name not in PRESETS else None
    if folder is not None and read_config(folder / "config.json").model_type in WHOLE_CLIPS:
        config = read_config(folder / "config.json")
        if not list(folder.glob("*.safetensors")):
            raise InputError(f"{folder}: no model.safetensors in this folder; pickled weights are never opened")
        return VideoTrunk(with_weights(AutoModel, str(folder), config, model_settings(config))), True
    trunk, pretrained = open_trunk(encoder, size=size, channels=channels, seed=seed)
    return VideoTrunk(trunk.model, frames, trunk.pooling), pretrained


def fresh_video_trunk(config: PretrainedConfig, seed: int, frames: int, pooling: str = "mean") -> VideoTrunk:
    """An untrained backbone of this architecture."""
    config = copy.deepcopy(config)
    if config.model_type not in WHOLE_CLIPS:
        return VideoTrunk(fresh_trunk(config, seed, pooling).model, frames, pooling)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VideoTrunk(AutoModel.from_config(config, **model_settings(config)))
