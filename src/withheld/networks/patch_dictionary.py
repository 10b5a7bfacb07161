"""A dictionary of small patches of images as a transformers model: how like each of its atoms every place of an image is.

One layer, whose filters are learned from patches alone; where many images are wanted to learn a deep network, a few hundred are
enough for it. Registered when this module is imported, so that `AutoModel` opens it. Shapes: B batch, C channels, H W image, N
patches, V values of a patch, K atoms, h w grid of places, R regions a side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithNoAttention

from withheld import distributed
from withheld.errors import InputError
from withheld.networks.image import ImageTrunk
from withheld.types import Pair

FLAT = 2.5e-3
"""Added to the variance of a patch, of images of variance 1, so that empty sky is not made into noise."""
SMOOTH = 0.1
"""Added to the variances that are brought to 1."""
LIKER = 0.75
"""An atom answers where it is this many deviations more like the patch than the mean atom is."""

FEW = 8
"""Whole images a step, of all processes, by which features are brought to mean 0 and variance 1."""
SHARE = 0.01
"""Of a step in the running mean and variance of features; more in the first hundred, which count alike."""
MANY = 20
"""Patches an atom, from which on one that no patch is told by is called dead."""


class PatchDictionaryConfig(PretrainedConfig):
    """The size of a dictionary of patches.

    Args:
        image_size, num_channels: of its input.
        atoms: K.
        kernel_size: side of a patch, pixels.
        stride: from patch to patch, pixels.
        regions: R, an image's answers are averaged in R x R regions.
    """

    model_type = "withheld_patch_dictionary"

    def __init__(
        self, image_size: int = 32, num_channels: int = 3, atoms: int = 128, kernel_size: int = 6, stride: int = 2,
        regions: int = 4, **rest: Any,
    ) -> None:  # fmt: skip
        self.image_size, self.num_channels, self.atoms = image_size, num_channels, atoms
        self.kernel_size, self.stride, self.regions = kernel_size, stride, regions
        super().__init__(**{**rest, "hidden_size": atoms * regions**2})


class PatchDictionary(PreTrainedModel):
    """Images (B, C, H, W) to `last_hidden_state` (B, K * R * R, 1, 1).

    Every patch is brought to mean 0 and variance 1, then whitened over all patches; an atom's answer is how many deviations it is
    more like the patch than the mean atom (in the manner of Coates, Lee and Ng 2011: atoms compete); square roots of the mean
    answers of regions, each brought to mean 0 and variance 1 over all images, are the features.
    """

    config_class = PatchDictionaryConfig
    base_model_prefix = "patch_dictionary"
    main_input_name = "pixel_values"
    center: Tensor
    whitening: Tensor

    def __init__(self, config: PatchDictionaryConfig) -> None:
        super().__init__(config)
        V = config.num_channels * config.kernel_size**2
        self.atoms = nn.Parameter(torch.empty(config.atoms, V))
        self.register_buffer("center", torch.zeros(V))
        self.register_buffer("whitening", torch.eye(V))
        self.standard = nn.BatchNorm1d(config.hidden_size, eps=1e-4, momentum=SHARE, affine=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            nn.init.normal_(self.atoms)

    @property
    def units(self) -> Tensor:
        """(K, V), the atoms at length 1."""
        return F.normalize(self.atoms, dim=1)

    def whitened(self, patches_NV: Tensor) -> Tensor:
        """Patches, each at mean 0 and variance 1, then all at mean 0 and, but for `SMOOTH`, covariance 1."""
        return (_even(patches_NV) - self.center) @ self.whitening

    def pixels(self, whitened_NV: Tensor) -> Tensor:
        """Patches of variance 1 of what `whitened` gave."""
        return whitened_NV @ torch.linalg.inv(self.whitening) + self.center

    @torch.no_grad()
    def begin(self, patches_NV: Tensor) -> None:
        """Learns the whitening from patches, and begins its atoms at some of them; one that has begun goes on as it is."""
        if not torch.equal(self.whitening, torch.eye(len(self.center), device=self.center.device)):
            return
        even = _even(patches_NV)
        self.center.copy_(even.mean(dim=0))
        away = (even - self.center).cpu().double()  # an Apple GPU has neither doubles nor eigenvectors
        variances, directions = torch.linalg.eigh(away.T @ away / max(1, len(away) - 1))
        scale = (variances.clamp(min=0) + SMOOTH).rsqrt()
        self.whitening.copy_(directions * scale @ directions.T)
        some = torch.randint(len(even), (len(self.atoms),), device=even.device)
        self.atoms.copy_(self.whitened(patches_NV[some]) + 1e-3 * torch.randn_like(self.atoms))

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **unused: Any
    ) -> BaseModelOutputWithNoAttention:
        """The features of images; in training their mean and variance over images are kept up with."""
        if self.training:
            before: Any = self.standard.num_batches_tracked
            self.standard.momentum = max(SHARE, 1 / (1 + int(before)))
        regions = self._regions(pixel_values.shape[-2:]).to(pixel_values)
        answers = (regions @ self.answers(pixel_values)).flatten(1)
        features = self.standard(answers.clamp(min=1e-12).sqrt())[:, :, None, None]
        return BaseModelOutputWithNoAttention(
            last_hidden_state=features, hidden_states=(features,) if output_hidden_states else None
        )

    def answers(self, pixel_values: Tensor) -> Tensor:
        """(B, h * w, K), by how many deviations each atom is more like every place than the mean atom, above `LIKER`."""
        side, filters = self.config.kernel_size, self.units @ self.whitening.T
        patches = F.unfold(pixel_values, side, stride=self.config.stride).transpose(1, 2)
        alike = F.linear(_even(patches), filters, -(filters @ self.center))
        return F.relu(F.layer_norm(alike, (len(filters),)) - LIKER)

    def _regions(self, size: Sequence[int]) -> Tensor:
        """(R * R, h * w), the share of each place in each region."""
        side, stride, many = self.config.kernel_size, self.config.stride, self.config.regions
        down, across = (F.adaptive_avg_pool1d(torch.eye((n - side) // stride + 1), many).T for n in size)
        return torch.kron(down, across)


AutoConfig.register(PatchDictionaryConfig.model_type, PatchDictionaryConfig, exist_ok=True)
AutoModel.register(PatchDictionaryConfig, PatchDictionary, exist_ok=True)


class DictionaryLearner(nn.Module):
    """Tells every patch as a multiple of one atom.

    Args:
        trunk: a `PatchDictionary` as a trunk.
    """

    def __init__(self, trunk: ImageTrunk) -> None:
        super().__init__()
        if not isinstance(trunk.model, PatchDictionary):
            raise InputError(
                "patch_dictionary brings its own encoder: leave --encoder at auto, or give patch-dictionary, or a run of it"
            )
        side = trunk.model.config.kernel_size
        if trunk.size < side:
            raise InputError(
                f"images of {trunk.size} pixels are smaller than a patch of {side}: enlarge them with --size {max(8, side)}"
            )
        self.trunk = trunk

    @property
    def book_size(self) -> int:
        """K."""
        return int(self.trunk.model.config.atoms)

    def fitted(self, sample: Pair) -> DictionaryLearner:
        """Learns the whitening from a sample, and begins the atoms there."""
        self.trunk.model.begin(self._patches(sample.x["patches"]))
        return self

    def forward(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of "patches" side by side (B, C, H, W): "image", the same as told by one atom each, and "untold" (B,), the mean squared
        error of whitened values. A few of the whole "item" (B, C, S, S) tell what features are like on average.

        Raises:
            InputError: in training on a single image.
        """
        model, x_BCHW = self.trunk.model, x["patches"]
        if self.training:
            if len(x["item"]) * distributed.world() < 2:
                raise InputError("one image tells no deviation of features: take a --batch-size of 2 or more")
            few = max(1, FEW // distributed.world())  # evenly spaced: however many processes there are, the same images
            with torch.no_grad():
                model(pixel_values=x["item"][:: max(1, len(x["item"]) // few)])
        whitened = model.whitened(self._patches(x_BCHW))
        told = self._told(whitened)
        untold = (whitened - told).square().mean(dim=1).view(len(x_BCHW), -1).mean(dim=1)
        return {"untold": untold, "image": x_BCHW if self.training else self._drawn(told, x_BCHW)}

    def nearest(self, whitened_NV: Tensor) -> Tensor:
        """(N,) the atom that each patch is a multiple of."""
        return (whitened_NV @ self.trunk.model.units.T).abs().argmax(dim=1)

    def times(self, t_BCHW: Tensor) -> Tensor:
        """(K,) how many of the patches that lie side by side in whole images each atom stands for."""
        side = self.trunk.model.config.kernel_size
        room = t_BCHW.shape[-1] // side * side
        patches = self._patches(t_BCHW[..., :room, :room])
        return torch.bincount(self.nearest(self.trunk.model.whitened(patches)), minlength=self.book_size)

    def atoms(self) -> Tensor:
        """(K, C, side, side), the patches that atoms stand for, as they differ from the mean of all."""
        config = self.trunk.model.config
        patches = self.trunk.model.pixels(self.trunk.model.units) - self.trunk.model.center
        return patches.view(self.book_size, -1, config.kernel_size, config.kernel_size)

    def vitals(self, t_BCHW: Tensor) -> dict[str, float]:
        """How many atoms whole images use; with few patches an atom is unused by chance, and none is called dead."""
        times = self.times(t_BCHW).cpu()
        share = times.double() / times.sum().clamp(min=1)
        dead = float((times == 0).sum()) if int(times.sum()) > MANY * self.book_size else 0.0
        perplexity = float((-(share * share.clamp(min=1e-300).log()).sum()).exp())
        return {"atoms_perplexity": perplexity, "atoms_dead_codes": dead, "atoms_codes": float(self.book_size)}

    def _told(self, whitened_NV: Tensor) -> Tensor:
        atom = self.trunk.model.units[self.nearest(whitened_NV.detach())]
        return (whitened_NV * atom).sum(dim=1, keepdim=True) * atom

    def _drawn(self, told_NV: Tensor, x_BCHW: Tensor) -> Tensor:
        patches = self._patches(x_BCHW)
        mean, scale = _mean_and_scale(patches)
        return self._side_by_side(self.trunk.model.pixels(told_NV) * scale + mean, x_BCHW)

    def _patches(self, x_BCHW: Tensor) -> Tensor:
        """(N, V), those that lie side by side in images."""
        side = self.trunk.model.config.kernel_size
        return F.unfold(x_BCHW, side, stride=side).transpose(1, 2).flatten(0, 1)

    def _side_by_side(self, patches_NV: Tensor, like_BCHW: Tensor) -> Tensor:
        side = self.trunk.model.config.kernel_size
        rows = patches_NV.view(len(like_BCHW), -1, patches_NV.shape[1]).transpose(1, 2)
        return F.fold(rows, like_BCHW.shape[-2:], side, stride=side)


def _mean_and_scale(patches_NV: Tensor) -> tuple[Tensor, Tensor]:
    mean = patches_NV.mean(dim=-1, keepdim=True)
    return mean, (patches_NV.var(dim=-1, keepdim=True, correction=0) + FLAT).sqrt()


def _even(patches_NV: Tensor) -> Tensor:
    """Each patch at mean 0 and, but for `FLAT`, variance 1."""
    return F.layer_norm(patches_NV, patches_NV.shape[-1:], eps=FLAT)
