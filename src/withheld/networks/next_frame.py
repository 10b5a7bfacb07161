"""Predicting frames: a recurrent network that remembers in space (ConvLSTM), and one that mixes all frames at once (SimVP).

Shapes: B batch, T frames given, U frames told, C channels, H W pixels, h w the grid of features, D its width, d hidden width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.errors import InputError
from withheld.networks.video import VideoTrunk


class ConvLSTMCell(nn.Module):
    """An LSTM whose products are convolutions (Shi et al. 2015, https://arxiv.org/abs/1506.04214), without peepholes."""

    def __init__(self, width_in: int, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.gates = nn.Conv2d(width_in + width, 4 * width, kernel, padding=kernel // 2)

    def forward(self, x_BDhw: Tensor, hidden_Bdhw: Tensor, cell_Bdhw: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden and cell state."""
        i, f, o, g = self.gates(torch.cat([x_BDhw, hidden_Bdhw], dim=1)).chunk(4, dim=1)
        cell = (f + 1).sigmoid() * cell_Bdhw + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class ToPixels(nn.Module):
    """Features on a grid to a frame: one patch a place."""

    def __init__(self, width: int, stride: int, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.tell = nn.Conv2d(width, stride * stride * channels, 1)
        self.stride = stride

    def forward(self, t_Bdhw: Tensor) -> Tensor:
        """(B, C, h * stride, w * stride)."""
        return F.pixel_shuffle(self.tell(F.gelu(self.mix(t_Bdhw))), self.stride)


class FramePredictor(nn.Module):
    """The next frames from those before; every frame enters through the trunk.

    Args:
        trunk: of images, with a grid of tokens.
        told: U.
        kind: "convlstm" tells one frame after the other and takes its own frames for true ones; "simvp" tells all at once.
        width: d. layers: of either.
    """

    def __init__(self, trunk: VideoTrunk, told: int, kind: str = "convlstm", width: int = 64, layers: int = 2) -> None:
        super().__init__()
        if kind not in ("convlstm", "simvp"):
            raise InputError(f"kind={kind}: there are convlstm and simvp")
        self.trunk, self.told, self.kind, self.width = trunk, told, kind, width
        stride = trunk.size // trunk.frame_grid
        self.pixels = ToPixels(width, stride, trunk.channels)
        if kind == "convlstm":
            self.cells = nn.ModuleList([ConvLSTMCell(width if i else trunk.width, width) for i in range(layers)])
        else:
            given = trunk.frames - told
            wide = 4 * width
            self.enter = nn.Conv2d(given * trunk.width, wide, 1)
            self.blocks = nn.ModuleList([MixBlock(wide) for _ in range(2 * layers)])
            self.leave = nn.Conv2d(wide, told * width, 1)

    def forward(self, x_BTCHW: Tensor, told: int | None = None) -> Tensor:
        """(B, T, C, H, W) -> (B, U, C, H, W), any number of frames: what was told is given again.

        ConvLSTM tells each as a change of the frame before it, SimVP as it is, so many at once as it was trained to.
        """
        told = told or self.told
        if self.kind == "convlstm":
            return self._step_by_step(x_BTCHW, told)
        frames = self._at_once(x_BTCHW)
        while frames.shape[1] < told:
            last = torch.cat([x_BTCHW, frames], dim=1)[:, -x_BTCHW.shape[1] :]
            frames = torch.cat([frames, self._at_once(last)], dim=1)
        return frames[:, :told]

    @torch.no_grad()
    def vitals(self, t_BTCHW: Tensor) -> dict[str, float]:
        """Mean squared errors of whoever copies the last frame, or tells the mean of those given: what must be beaten."""
        x, y = t_BTCHW[:, : -self.told], t_BTCHW[:, -self.told :]
        return {
            "copy_last_error": float((x[:, -1:] - y).square().mean()),
            "mean_frame_error": float((x.mean(dim=1, keepdim=True) - y).square().mean()),
        }

    def features(self, t_BCHW: Tensor) -> Tensor:
        """(B, D, h, w) of single frames."""
        found = self.trunk.frame(t_BCHW)
        return found.tokens.transpose(1, 2).unflatten(2, tuple(found.grid or (1, 1)))

    def _step_by_step(self, x_BTCHW: Tensor, told: int) -> Tensor:
        B, T = x_BTCHW.shape[:2]
        seen = self.features(x_BTCHW.flatten(0, 1)).unflatten(0, (B, T))
        blank = seen.new_zeros(B, self.width, *seen.shape[-2:])
        states = [(blank, blank) for _ in self.cells]
        frame, frames = x_BTCHW[:, -1], []
        for at in range(T + told - 1):
            flow = seen[:, at] if at < T else self.features(frame)
            for i, cell in enumerate(self.cells):
                states[i] = cell(flow, *states[i])
                flow = states[i][0]
            if at >= T - 1:
                frame = frame + self.pixels(flow)
                frames.append(frame)
        return torch.stack(frames, dim=1)

    def _at_once(self, x_BTCHW: Tensor) -> Tensor:
        B = len(x_BTCHW)
        hidden = self.enter(self.features(x_BTCHW.flatten(0, 1)).unflatten(0, (B, -1)).flatten(1, 2))
        for block in self.blocks:
            hidden = block(hidden)
        frames = self.pixels(self.leave(hidden).unflatten(1, (self.told, self.width)).flatten(0, 1))
        return frames.unflatten(0, (B, self.told))


class MixBlock(nn.Module):
    """All frames' channels mixed at every place and with its neighborhood (Gao et al. 2022, SimVP: Simpler yet Better Video
    Prediction, https://arxiv.org/abs/2206.05099; one kernel of 7, in groups, in place of four)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.near = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.up, self.down = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)

    def forward(self, t_Bdhw: Tensor) -> Tensor:
        """The same shape."""
        normed = self.norm(t_Bdhw).contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
        return t_Bdhw + self.down(F.gelu(self.up(self.near(normed))))
