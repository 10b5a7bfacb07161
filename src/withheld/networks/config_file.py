"""A stranger's config.json: read as data, without what could name code, and refused where its network could not be built here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from withheld.errors import InputError

LARGEST_FILE = 4 << 20
MOST_LAYERS = 4096
# What the sizes of a network are called in transformers.
WIDTHS = ("hidden_size", "d_model", "n_embd", "embed_dim", "embedding_size", "hidden_sizes", "hidden_dim")
INNER = ("intermediate_size", "d_ff", "ffn_dim", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers", "depths")
HEADS = ("num_attention_heads", "n_head")
OTHERS = (
    "vocab_size",
    "num_channels",
    "image_size",
    "patch_size",
    "max_position_embeddings",
    "type_vocab_size",
    "num_frames",
)
ELSEWHERE = ("backbone", "use_pretrained_backbone", "use_timm_backbone", "timm_model")
"""Keys that make transformers fetch another network by its name."""


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a config that may be built.

    Raises:
        InputError: no such file, no JSON, sizes that are none, another network by name, more weights than memory here.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict) or not isinstance(settings.get("model_type"), str):
            raise ValueError('it has no "model_type"')
        named = [key for key in ELSEWHERE if settings.get(key)]
        if named or settings["model_type"].startswith("timm"):
            raise ValueError(f"{(named or ['model_type'])[0]} names another network, which is not fetched")
        kept = {k: v for k, v in settings.items() if k not in ("auto_map", *ELSEWHERE) and "_implementation" not in k}
        _check(kept)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a transformers config that is read here: {error}") from None
    return kept


def seeing(config: Any) -> Any:
    """Of a config of CLIP or SigLIP, models of images and texts, that of the part that sees; any other as it is."""
    return config.vision_config if config.model_type in ("clip", "siglip") else config


def _check(settings: dict[str, Any]) -> None:
    for key in (*WIDTHS, *INNER, *LAYERS, *HEADS, *OTHERS):
        for value in _numbers(settings.get(key)):
            least = int(key != "type_vocab_size")  # DeBERTa has no kinds of texts
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{key} is {str(value)[:40]!r}: a whole number, {least} or more")
    layers = sum(sum(_numbers(settings.get(key))) for key in LAYERS)
    if layers > MOST_LAYERS:
        raise ValueError(f"{layers:,} layers, at most {MOST_LAYERS:,} are built")
    weights = weights_of(settings, max(1, layers))
    if 4 * weights > memory():
        raise ValueError(
            f"some {weights:.1e} weights take {4e-9 * weights:,.0f} GB; there are {memory() / 1e9:,.0f} GB here"
        )


def weights_of(settings: dict[str, Any], layers: int) -> float:
    """About how many weights a network of these settings has: attention and two layers behind it, tables, patches."""
    width = max([1, *(v for key in WIDTHS for v in _numbers(settings.get(key)))])
    inner = max([width, *(v for key in INNER for v in _numbers(settings.get(key)))])
    one = {key: max([1, *_numbers(settings.get(key))]) for key in OTHERS}
    patches = (one["image_size"] / one["patch_size"]) ** 2 if "patch_size" in settings else 1.0
    rows = one["vocab_size"] + one["max_position_embeddings"] + one["num_channels"] * one["patch_size"] ** 2 + patches
    return layers * (4.0 * width * width + 2.0 * width * inner) + rows * width


def memory() -> float:
    """Bytes of this machine; what nobody can say is taken for plenty."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1e12


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part)
    elif value is not None:
        yield value
