"""Recognition networks q(z | x) as transformers models: what a variational autoencoder keeps.

Registered when this module is imported, so that `AutoModel` opens them. Shapes: B batch, C H W image, Z latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from withheld.networks.layout import channels_last

MOST = 8.0
"""Bound of log variances on either side, reached smoothly: nothing overflows, and nothing of use lies beyond."""


class RecognitionConfig(PretrainedConfig):
    """Layers of a recognition network.

    Args:
        kind: "mlp" or "conv".
        image_size, num_channels: of its input.
        hidden_size: Z, the number of latents.
        hidden_sizes_of_layers: widths of the hidden layers; of "conv" the channels, halving the image at each.
    """

    model_type = "withheld_recognition"

    def __init__(
        self, kind: str = "mlp", image_size: int = 28, num_channels: int = 1, hidden_size: int = 40,
        widths: tuple[int, ...] = (512, 512), **rest: Any,
    ) -> None:  # fmt: skip
        self.kind, self.image_size, self.num_channels = kind, image_size, num_channels
        self.hidden_size, self.widths = hidden_size, list(widths)
        super().__init__(**rest)


@dataclass
class Posterior(ModelOutput):
    """A factorized Gaussian: `last_hidden_state` is its mean (B, Z, 1, 1), `log_variance` is (B, Z)."""

    last_hidden_state: Tensor | None = None
    log_variance: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class RecognitionModel(PreTrainedModel):
    """q(z | x), a Gaussian whose mean and variances are functions of the image (Kingma and Welling 2013)."""

    config_class = RecognitionConfig
    base_model_prefix = "recognition"
    main_input_name = "pixel_values"

    def __init__(self, config: RecognitionConfig) -> None:
        super().__init__(config)
        C, side = config.num_channels, config.image_size
        layers: list[nn.Module] = []
        if config.kind == "mlp":
            width = C * side * side
            layers.append(nn.Flatten())
            for wide in config.widths:
                layers += [nn.Linear(width, wide), nn.ReLU()]
                width = wide
        else:
            for wide in config.widths:
                layers += [nn.Conv2d(C, wide, 4, stride=2, padding=1), nn.ReLU()]
                C, side = wide, side // 2
            layers += [nn.Flatten(), nn.Linear(C * side * side, 256), nn.ReLU()]
            width = 256
        self.layers = nn.Sequential(*layers)
        self.mean = nn.Linear(width, config.hidden_size)
        self.spread = nn.Linear(width, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor, output_hidden_states: bool | None = None, **unused: Any) -> Posterior:
        """The posterior of images (B, C, H, W)."""
        hidden = self.layers(pixel_values if self.config.kind == "mlp" else channels_last(pixel_values))
        mean = self.mean(hidden)[:, :, None, None]
        log_variance = MOST * torch.tanh(self.spread(hidden) / MOST)
        return Posterior(mean, log_variance, (mean,) if output_hidden_states else None)


AutoConfig.register(RecognitionConfig.model_type, RecognitionConfig, exist_ok=True)
AutoModel.register(RecognitionConfig, RecognitionModel, exist_ok=True)
