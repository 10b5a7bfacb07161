"""VQ-VAE-2: an image as two grids of codes, a coarse one and a fine one that knows the coarse.

Shapes: B batch, C H W image, D width of a code, h w grid (bottom H/4, top H/8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from withheld.errors import InputError
from withheld.modes import evaluating
from withheld.networks.image import ImageTrunk
from withheld.networks.quantizer import Quantizer, perplexity
from withheld.types import Pair


class VqConfig(PretrainedConfig):
    """Widths of the two encoders.

    Args:
        image_size, num_channels: of its input; the size a multiple of 8.
        hidden_size: D of the codes. width: of the convolutions. residual_width, residual_layers: of the residual blocks.
    """

    model_type = "withheld_vq_vae2"

    def __init__(
        self, image_size: int = 32, num_channels: int = 3, hidden_size: int = 64, width: int = 128, residual_width: int = 32,
        residual_layers: int = 2, **rest: Any,
    ) -> None:  # fmt: skip
        self.image_size, self.num_channels, self.hidden_size = image_size, num_channels, hidden_size
        self.width, self.residual_width, self.residual_layers = width, residual_width, residual_layers
        super().__init__(**rest)

    @property
    def grid_width(self) -> int:
        """Channels of the grids, before they become codes."""
        return self.width


@dataclass
class Grids(ModelOutput):
    """`last_hidden_state` is the fine grid (B, width, H/4, W/4), `top` the coarse one (B, width, H/8, W/8)."""

    last_hidden_state: Tensor | None = None
    top: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class Residual(nn.Module):
    """Residual blocks of 3x3 and 1x1 convolutions."""

    def __init__(self, width: int, inner: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, width, 1))
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return F.relu(x)


class VqEncoder(PreTrainedModel):
    """The convolutions from an image to its two grids, before quantization (Razavi et al. 2019)."""

    config_class = VqConfig
    base_model_prefix = "vq"
    main_input_name = "pixel_values"

    def __init__(self, config: VqConfig) -> None:
        super().__init__(config)
        if config.image_size % 8:
            side = config.image_size
            raise InputError(
                f"{side} pixels a side: vq_vae2 halves images three times; give --size {-(-side // 8) * 8}"
            )
        wide, inner, layers = config.width, config.residual_width, config.residual_layers
        self.bottom = nn.Sequential(
            nn.Conv2d(config.num_channels, wide // 2, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(wide // 2, wide, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(wide, wide, 3, padding=1),
            Residual(wide, inner, layers),
        )  # fmt: skip
        self.top = nn.Sequential(
            nn.Conv2d(wide, wide, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(wide, wide, 3, padding=1),
            Residual(wide, inner, layers),
        )  # fmt: skip
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor, output_hidden_states: bool | None = None, **unused: Any) -> Grids:
        """Both grids of images (B, C, H, W)."""
        bottom = self.bottom(pixel_values)
        return Grids(bottom, self.top(bottom), (bottom,) if output_hidden_states else None)


AutoConfig.register(VqConfig.model_type, VqConfig, exist_ok=True)
AutoModel.register(VqConfig, VqEncoder, exist_ok=True)


class VectorQuantizedAutoencoder(nn.Module):
    """Images to two grids of codes, and back.

    Args:
        trunk: a `VqEncoder` as a trunk.
        codes: K, of each book.
        decay: of the books.
    """

    def __init__(self, trunk: ImageTrunk, codes: int = 512, decay: float = 0.99) -> None:
        super().__init__()
        if not isinstance(trunk.model, VqEncoder):
            raise InputError("vq_vae2 brings its own encoder: leave --encoder at auto, or give vq-vae2")
        self.trunk = trunk
        config = trunk.model.config
        wide, D, inner, layers = config.width, config.hidden_size, config.residual_width, config.residual_layers
        self.to_top, self.to_bottom = nn.Conv2d(wide, D, 1), nn.Conv2d(wide + D, D, 1)
        self.top, self.bottom = Quantizer(D, codes, decay), Quantizer(D, codes, decay)
        self.from_top = nn.Sequential(
            nn.Conv2d(D, wide, 3, padding=1),
            Residual(wide, inner, layers),
            nn.ConvTranspose2d(wide, D, 4, stride=2, padding=1),
        )
        self.up_top = nn.ConvTranspose2d(D, D, 4, stride=2, padding=1)
        self.decoder = nn.Sequential(
            nn.Conv2d(2 * D, wide, 3, padding=1), Residual(wide, inner, layers),
            nn.ConvTranspose2d(wide, wide // 2, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(wide // 2, trunk.channels, 4, stride=2, padding=1),
        )  # fmt: skip

    @property
    def grids(self) -> tuple[int, int]:
        """Sides of the top and the bottom grid."""
        return self.trunk.size // 8, self.trunk.size // 4

    @property
    def book_size(self) -> int:
        """K."""
        return len(self.top.book)

    def fitted(self, sample: Pair) -> VectorQuantizedAutoencoder:
        """Starts both books at the k-means of a sample."""
        with torch.no_grad():
            grids = self.trunk.model(pixel_values=sample.x)
            self.top.start(_rows(self.to_top(grids.top)))
            self.eval()
            top = self.top(self.to_top(grids.top))[0]
            self.train()
            self.bottom.start(_rows(self._bottom_of(grids.last_hidden_state, top)))
        return self

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Quantized top and bottom, their codes, and the commitment."""
        grids = self.trunk.model(pixel_values=x)
        top, top_codes, first = self.top(self.to_top(grids.top))
        bottom, bottom_codes, second = self.bottom(self._bottom_of(grids.last_hidden_state, top))
        return top, bottom, top_codes, bottom_codes, first + second

    def _bottom_of(self, grid: Tensor, top: Tensor) -> Tensor:
        return self.to_bottom(torch.cat([grid, self.from_top(top)], dim=1))

    def decode(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Images of quantized grids."""
        return self.decoder(torch.cat([self.up_top(top), bottom], dim=1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The reconstruction (B, C, H, W) and the commitment."""
        top, bottom, _, _, commitment = self.encode(x)
        return {"image": self.decode(top, bottom), "commitment": commitment}

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Top (B, h, w) and bottom codes of images."""
        return self.encode(x)[2:4]

    def reconstruct(self, x: Tensor) -> Tensor:
        """Images from their codes."""
        return self(x)["image"]

    def decode_codes(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Images (B, C, H, W), as the network is fed, of codes (B, h, w)."""
        return self.decode(self.top.look_up(top), self.bottom.look_up(bottom))

    def vitals(self, t: Tensor) -> dict[str, float]:
        """Reconstruction error over variance, perplexity and dead codes of both books."""
        top, bottom, top_codes, bottom_codes, _ = self.encode(t)
        error = float(F.mse_loss(self.decode(top, bottom), t) / t.var())
        found: dict[str, float] = {"error_over_variance": error}
        for name, codes, book in (("top", top_codes, self.top), ("bottom", bottom_codes, self.bottom)):
            found[f"{name}_perplexity"] = perplexity(codes, len(book.book))
            found[f"{name}_dead_codes"] = float(book.dead().sum())
            found[f"{name}_codes"] = float(len(book.book))
        return found

    @torch.no_grad()
    def revive(self, t: Tensor) -> int:
        """Puts codes of both books that these images never choose vectors of them lie; returns how many."""
        with evaluating(self):
            grids = self.trunk.model(pixel_values=t)
            count = self.top.revive(_rows(self.to_top(grids.top)))
            top = self.top(self.to_top(grids.top))[0]
            return count + self.bottom.revive(_rows(self._bottom_of(grids.last_hidden_state, top)))


def _rows(grid_BDHW: Tensor) -> Tensor:
    return grid_BDHW.permute(0, 2, 3, 1).flatten(0, 2)
