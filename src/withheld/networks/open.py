"""Opening a backbone by name: a preset, a transformers id, a local folder or config, a model or config in memory."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel, RegNetConfig, ResNetConfig, ViTConfig

from withheld.errors import InputError, nearest
from withheld.hub import hub_settings, why
from withheld.networks.config_file import read_settings, seeing
from withheld.networks.convnet import ConvNetConfig
from withheld.networks.image import ImageTrunk, fresh_trunk, model_settings
from withheld.networks.patch_dictionary import PatchDictionaryConfig
from withheld.networks.recognition import RecognitionConfig
from withheld.networks.vq_vae2 import VqConfig


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named architecture: `config(size, channels, patch)` is its transformers config."""

    about: str
    config: Callable[[int, int, int], PretrainedConfig]


def vit(width: int, layers: int, heads: int, about: str) -> Preset:
    """The shape of a ViT."""

    def config(size: int, channels: int, patch: int) -> PretrainedConfig:
        return ViTConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width,
            image_size=size, patch_size=patch, num_channels=channels, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )  # fmt: skip

    return Preset(about, config)


def resnet(stem: int, widths: tuple[int, ...], depths: tuple[int, ...], about: str) -> Preset:
    """The shape of a ResNet of basic blocks: a quarter of the image's side in the first stage, half of it in every other."""

    def config(size: int, channels: int, patch: int) -> PretrainedConfig:
        return ResNetConfig(
            num_channels=channels, embedding_size=stem, hidden_sizes=list(widths), depths=list(depths),
            layer_type="basic", image_size=size,
        )  # fmt: skip

    return Preset(about, config)


def regnet(widths: tuple[int, ...], blocks: tuple[int, ...], about: str) -> Preset:
    """The shape of a convolutional network of residual blocks; images above 64 pixels are halved once more at the start."""

    def config(size: int, channels: int, patch: int) -> PretrainedConfig:
        return RegNetConfig(
            num_channels=channels, embedding_size=widths[0] // 2, hidden_sizes=list(widths), depths=list(blocks),
            groups_width=widths[-1], layer_type="x", downsample_in_first_stage=size > 64, image_size=size,
        )  # fmt: skip

    return Preset(about, config)


def convnet(widths: tuple[int, ...], about: str) -> Preset:
    """The shape of a plain convolutional network; images above 64 pixels are quartered at the start, others halved."""
    return Preset(
        about, lambda size, channels, patch: ConvNetConfig(size, channels, widths, (4 if size > 64 else 2, 2, 1, 2))
    )


def dictionary(atoms: int, about: str) -> Preset:
    """The shape of a dictionary of patches: of 6 pixels at every place, of images above 40 pixels of 8 at fewer places."""

    def config(size: int, channels: int, patch: int) -> PretrainedConfig:
        kernel, stride = (6, 1) if size <= 40 else (8, max(2, size // 32))
        return PatchDictionaryConfig(size, channels, atoms, kernel, stride)

    return Preset(about, config)


def recognition(kind: str, latents: int, widths: tuple[int, ...], about: str) -> Preset:
    """The shape of a recognition network."""
    return Preset(about, lambda size, channels, patch: RecognitionConfig(kind, size, channels, latents, widths))


PRESETS = {
    "vit-nano": vit(128, 4, 4, "0.8 M parameters, for minutes on a CPU"),
    "vit-micro": vit(192, 6, 3, "2.7 M parameters, for an hour on a CPU"),
    "vit-tiny": vit(192, 12, 3, "5.4 M parameters (Touvron et al. 2020)"),
    "vit-small": vit(384, 12, 6, "21 M parameters (Touvron et al. 2020), for a GPU"),
    "vit-base": vit(768, 12, 12, "86 M parameters (Dosovitskiy et al. 2020), for a GPU"),
    "vit-large": vit(1024, 24, 16, "303 M parameters (Dosovitskiy et al. 2020), for a large GPU"),
    "conv-nano": convnet(
        (32, 64, 128, 256), "0.4 M parameters, plain convolutions, the quickest, for minutes on a CPU"
    ),
    "conv-small": convnet((64, 128, 256, 512), "1.6 M parameters, plain convolutions, for an hour on a CPU"),
    "regnet-nano": regnet((32, 64, 128, 256), (1, 1, 1, 1), "0.9 M parameters, convolutions, for minutes on a CPU"),
    "regnet-small": regnet((64, 128, 256, 512), (1, 2, 4, 2), "15 M parameters, convolutions, for a GPU"),
    "resnet-nano": resnet(48, (48, 96, 192), (1, 1, 1), "0.7 M parameters, for minutes on a CPU"),
    "resnet-light": resnet(
        32, (96, 192), (1, 1), "0.7 M parameters, half as many layers, for minutes of views on a CPU"
    ),
    "resnet-18": resnet(64, (64, 128, 256, 512), (2, 2, 2, 2), "11 M parameters (He et al. 2015), for a GPU"),
    "resnet-dense": resnet(
        24, (32, 64), (1, 2), "0.2 M parameters, a fine grid (an eighth of the side), to track with"
    ),
    "resnet-fine": resnet(32, (64,), (2,), "0.2 M parameters, a quarter of the side, to predict frames with"),
    "mlp-vae": recognition("mlp", 40, (512, 512), "two layers of 512 and 40 latents, for small grey images"),
    "mlp-vae-2d": recognition("mlp", 2, (512, 512), "two layers of 512 and 2 latents, to look at"),
    "vq-vae2": Preset("two grids of codes, for vq_vae2", lambda size, channels, patch: VqConfig(size, channels)),
    "patch-dictionary": dictionary(128, "128 patches of 6 or 8 pixels, for patch_dictionary; seconds on a CPU"),
    "conv-vae": recognition("conv", 64, (32, 64), "two convolutions and 64 latents"),
}

CARD = "withheld.json"
IMAGES = ("name", "mean", "std", "pooling", "flips", "full", "scale")
"""What the card of an encoder of images or clips has; before 0.6 without "augment"."""
KINDS: dict[str, Callable[[Any], Any]] = {"mean": list, "std": list, "most": int, "frames": int, "rate": float}
CLS_POOLED = {"clip_vision_model", "vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "ijepa", "vit_msn"}


def open_trunk(
    encoder: str | Path | PretrainedConfig | PreTrainedModel,
    *,
    size: int | None,
    channels: int,
    patch: int | None = None,
    seed: int = 0,
) -> tuple[ImageTrunk, bool]:
    """A trunk, and whether it comes with trained weights.

    Args:
        encoder: see the module.
        size: side of the images in pixels; None takes the encoder's own. Positions of a checkpoint are resized to fit.
        channels: of the images; an encoder of other channels keeps its own and its `Encoder` repeats or averages the images'.
        patch: of a preset; None takes 4, 8 or 16 with the size.

    Raises:
        InputError: for an unknown name or a folder that holds no encoder.
    """
    if isinstance(encoder, PreTrainedModel):
        return ImageTrunk(encoder, _pooling(encoder.config)), True
    if isinstance(encoder, PretrainedConfig):
        return fresh_trunk(_sized(encoder, size), seed), False
    name = str(encoder)
    if name in PRESETS:
        size = size or 224
        return fresh_trunk(PRESETS[name].config(size, channels, patch or patch_for(size)), seed), False
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return fresh_trunk(_sized(read_config(path), size), seed), False
    if path.is_dir():
        folder = encoder_folder(path)
        if folder is not None:
            return _open_folder(folder, size, seed)
        raise InputError(f"{path}: no encoder in this folder (looked for config.json and encoder/config.json)")
    return _open_hub(name, size)


def encoder_folder(where: str | Path) -> Path | None:
    """The folder that holds the encoder of a run, or of an encoder folder; None where there is none."""
    for folder in (Path(where), Path(where) / "encoder"):
        if (folder / "config.json").is_file():
            return folder
    return None


def read_card(folder: Path | None, has: Sequence[str] = IMAGES) -> dict[str, Any]:
    """The card of an encoder that this library kept, which has these parts at least; {} for any other encoder.

    Raises:
        InputError: where it is damaged, or of texts where mean and deviation are asked for.
    """
    if folder is None or not (folder / CARD).is_file():
        return {}
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if "mean" in has and isinstance(card, dict) and card.get("modality") == "text":
            raise InputError(f"{folder} is an encoder of texts: here one of images or clips is needed")
        return {**card, **{name: KINDS.get(name, lambda as_is: as_is)(card[name]) for name in has}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error!r}") from None


def normalization_of(where: str | Path, channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation that an encoder was trained with, by its card or processor; ImageNet's where it names none."""
    settings: dict[str, Any] = {}
    folder = encoder_folder(where)
    card = read_card(folder)
    if card:
        return card["mean"], card["std"]
    try:
        if folder is None and str(where) in PRESETS:
            raise ValueError("a preset has learned nothing, and names no mean")
        if folder is None:
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(str(where), "preprocessor_config.json"))
        else:
            path = folder / "preprocessor_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    mean, std = settings.get("image_mean") or [0.485, 0.456, 0.406], settings.get("image_std") or [0.229, 0.224, 0.225]
    if len(mean) != channels:
        mean, std = [0.5] * channels, [0.5] * channels
    return list(mean), list(std)


def patch_for(size: int) -> int:
    """The patch of a preset at a size: 4 up to 64 pixels, 8 up to 128, else 16."""
    return 4 if size <= 64 else 8 if size <= 128 else 16


def read_config(path: Path) -> PretrainedConfig:
    """A transformers config from a file, without the keys that could name code to run.

    Raises:
        InputError: for a file that is no config, or a model type transformers does not know.
    """
    settings = read_settings(path)
    try:
        return seeing(AutoConfig.for_model(**settings))
    except Exception as error:  # each kind of config has its own checks
        raise InputError(f"{path}: not a transformers config: {str(error).strip()[:300]}") from None


def _open_folder(folder: Path, size: int | None, seed: int) -> tuple[ImageTrunk, bool]:
    config = read_config(folder / "config.json")
    try:
        return _built(folder, config, size, seed)
    except InputError:
        raise
    except Exception as error:  # settings that contradict each other, weights that do not fit or are damaged
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: no encoder can be made of its config and weights: {reason[:300]}") from None


def _built(folder: Path, config: PretrainedConfig, size: int | None, seed: int) -> tuple[ImageTrunk, bool]:
    if not has_weights(folder):
        return fresh_trunk(_sized(config, size), seed), False
    card = read_card(folder)
    if hasattr(config, "tubelet_size"):
        raise InputError(f"{folder} is a model of clips, which sees no single images: here one of images is needed")
    trunk = _with_weights(str(folder), config, size)
    trunk.pooling = card["pooling"] if card else trunk.pooling
    return trunk, True


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights, and no bare config.

    Raises:
        InputError: they are pickled.
    """
    if any(folder.glob("*.safetensors")):
        return True
    pickled = [f.name for f in folder.iterdir() if f.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
    if pickled:
        raise InputError(
            f"{folder}: holds {pickled[0]}, a pickle, which is never opened; save it as model.safetensors first"
        )
    return False


def _open_hub(name: str, size: int | None) -> tuple[ImageTrunk, bool]:
    try:
        config = seeing(AutoConfig.from_pretrained(name, trust_remote_code=False, **hub_settings(name)))
        return _with_weights(name, config, size), True
    except (OSError, ValueError) as error:
        hint = nearest(name, PRESETS)
        raise InputError(
            f"encoder {name!r} is no preset ({hint}), no folder here, and transformers could not open it: {why(error)}"
        ) from None


def with_weights(kind: Any, where: str, config: PretrainedConfig, settings: dict[str, Any]) -> PreTrainedModel:
    """A model of a class of transformers with the weights of a folder or a hub's id; never pickled ones."""
    return kind.from_pretrained(
        where, config=config, use_safetensors=True, dtype=torch.float32, **hub_settings(where), **settings
    )


def _with_weights(where: str, config: PretrainedConfig, size: int | None) -> ImageTrunk:
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0  # a ViT-MAE checkpoint: its own random masking is off, ours hides
    model = with_weights(AutoModel, where, config, model_settings(config))
    asked = inspect.signature(model.forward).parameters.values()
    more = [each.name for each in asked if each.name != "pixel_values" and each.default is each.empty and each.kind < 2]
    if more:
        raise InputError(
            f"{where}: {config.model_type} wants {' and '.join(more)} beside pixels, which none gives it here"
        )
    if size is not None:
        resize_positions(model, size)
    return ImageTrunk(model, _pooling(config))


def resize_positions(model: PreTrainedModel, size: int) -> None:
    """Brings a ViT's table of positions to another image size by bicubic interpolation; convolutions take any size.

    Raises:
        InputError: where the size is no multiple of the patch.
    """
    config, table = model.config, getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    old = config.image_size if isinstance(getattr(config, "image_size", size), int) else config.image_size[0]
    if old == size or not isinstance(table, nn.Parameter):
        return
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    if size % patch:
        raise InputError(f"a size of {size} is not a multiple of this encoder's patch of {patch}")
    rows, wanted = old // patch, size // patch
    prefix = table.shape[1] - rows * rows
    square = table[:, prefix:].detach().reshape(1, rows, rows, -1).permute(0, 3, 1, 2)
    resized = (
        F.interpolate(square, size=(wanted, wanted), mode="bicubic", align_corners=False)
        .permute(0, 2, 3, 1)
        .flatten(1, 2)
    )
    model.embeddings.position_embeddings = nn.Parameter(torch.cat([table[:, :prefix].detach(), resized], dim=1))
    config.image_size = size
    for part in (model.embeddings, getattr(model.embeddings, "patch_embeddings", None)):
        if part is not None and hasattr(part, "image_size"):
            part.image_size = (size, size)


def _sized(config: PretrainedConfig, size: int | None) -> PretrainedConfig:
    if size is not None and hasattr(config, "image_size"):
        config.image_size = size
    return config


def _pooling(config: Any) -> str:
    return "cls" if getattr(config, "model_type", "") in CLS_POOLED else "mean"
