"""A light convolutional network as a transformers model: four 3x3 convolutions behind a strided stem, for minutes on a CPU.

Of all networks tried for pretraining on small images it sees most images a second and has the best features after minutes: no
shortcut connections and few channels where the grid is fine (docs/log.md). In the manner of the plain networks of Simonyan and
Zisserman 2014, https://arxiv.org/abs/1409.1556, with batch normalization. Registered when this module is imported, so that
`AutoModel` opens it. Shapes: B batch, C H W image, D channels of the last layer, h w its grid.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithNoAttention


class ConvNetConfig(PretrainedConfig):
    """Channels and strides of every layer.

    Args:
        image_size, num_channels: of its input.
        hidden_sizes: channels after every layer; the first is the stem.
        strides: of every layer; the stem's kernel is twice its stride, all others are 3x3.
    """

    model_type = "withheld_convnet"

    def __init__(
        self, image_size: int = 32, num_channels: int = 3, hidden_sizes: tuple[int, ...] = (32, 64, 128, 256),
        strides: tuple[int, ...] = (2, 2, 1, 2), **rest: Any,
    ) -> None:  # fmt: skip
        self.image_size, self.num_channels = image_size, num_channels
        self.hidden_sizes, self.strides = list(hidden_sizes), list(strides)
        super().__init__(**rest)


def _layer(C: int, D: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(C, D, kernel, stride, (kernel - 1) // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(D), nn.ReLU())


class ConvNetModel(PreTrainedModel):
    """Images (B, C, H, W) to `last_hidden_state` (B, D, h, w)."""

    config_class = ConvNetConfig
    base_model_prefix = "convnet"
    main_input_name = "pixel_values"

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__(config)
        widths, strides = config.hidden_sizes, config.strides
        self.embedder = _layer(config.num_channels, widths[0], 2 * strides[0], strides[0])
        self.layers = nn.ModuleList(
            _layer(C, D, 3, stride) for C, D, stride in zip(widths, widths[1:], strides[1:], strict=False)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **unused: Any
    ) -> BaseModelOutputWithNoAttention:
        """The last grid; with `output_hidden_states` all grids, the stem's first."""
        hidden = [self.embedder(pixel_values)]
        for layer in self.layers:
            hidden.append(layer(hidden[-1]))
        return BaseModelOutputWithNoAttention(
            last_hidden_state=hidden[-1], hidden_states=tuple(hidden) if output_hidden_states else None
        )


AutoConfig.register(ConvNetConfig.model_type, ConvNetConfig, exist_ok=True)
AutoModel.register(ConvNetConfig, ConvNetModel, exist_ok=True)
