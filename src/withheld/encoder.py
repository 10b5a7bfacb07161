"""What is kept of a run: an encoder of whole items, which knows how to be fed.

Everything downstream sees an `Encoder` only, never the method that trained it.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from withheld.errors import InputError
from withheld.hub import hub_settings
from withheld.learn.checkpoint import writing
from withheld.networks.open import CARD, encoder_folder, read_card, read_config
from withheld.types import Features


class Encoder(nn.Module, ABC):
    """Whole items in, features out; also a scikit-learn transformer: `make_pipeline(encoder, LogisticRegression())`.

    Args:
        trunk: the backbone.
        name: what it is called in tables.
    """

    modality: ClassVar[str]

    def __init__(self, trunk: Any, name: str) -> None:
        super().__init__()
        self.trunk, self.name = trunk, name

    @abstractmethod
    def forward(self, items: Any, layers: bool = False) -> Features:
        """Features of whole items."""

    @abstractmethod
    def transform(self, items: Any, batch_size: int = 256) -> np.ndarray:
        """Pooled features (n, D), float32."""

    @abstractmethod
    def transform_layers(self, items: Any, batch_size: int = 256) -> list[np.ndarray]:
        """Features (n, D) float32 of every block or stage, the first one first: means over the tokens."""

    @abstractmethod
    def fresh(self, seed: int) -> Encoder:
        """The same architecture, untrained: for the from-scratch rows."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Writes weights, config and what transformers feeds them with into a new folder."""

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """How it is fed; `read_card` has it again."""

    @property
    def width(self) -> int:
        """D, the length of a feature vector."""
        return self.trunk.width

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.trunk.parameters()).device

    def copy(self) -> Any:
        """An independent copy, to be fine-tuned."""
        return copy.deepcopy(self)

    def save(self, folder: str | Path) -> Path:
        """Writes a folder that transformers opens, with a card that says how to feed it."""
        folder = Path(folder)
        aside = folder.with_name(folder.name + ".tmp")
        with writing(folder):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            self.write(aside)
            card = {"format": 1, "modality": self.modality, "name": self.name, **self.card()}
            (aside / CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")
            _strip_config(aside / "config.json")
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(aside, folder)
        return folder

    @classmethod
    def open(cls, where: str | Path) -> Any:
        """Opens a saved encoder, any transformers vision or language folder, or a transformers id.

        Raises:
            InputError: where there is none.
        """
        from withheld.image_encoder import ImageEncoder
        from withheld.text_encoder import TextEncoder
        from withheld.video_encoder import VideoEncoder

        kind: Any = VideoEncoder if _is_video(where) else TextEncoder if _is_text(where) else ImageEncoder
        return kind.opened(where)

    def fit(self, items: Any = None, labels: Any = None) -> Encoder:
        """Does nothing: the encoder has learned already. For scikit-learn."""
        return self

    def fit_transform(self, items: Any, labels: Any = None) -> np.ndarray:
        """`transform`, for scikit-learn."""
        return self.transform(items)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """No hyper-parameters; for scikit-learn."""
        return {}

    def set_params(self, **params: Any) -> Encoder:
        """No hyper-parameters; for scikit-learn."""
        if params:
            raise InputError(f"an encoder has no parameter {sorted(params)[0]!r} to set")
        return self

    def __sklearn_clone__(self) -> Encoder:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        tags = InputTags(three_d_array=self.modality == "image", string=self.modality == "text")
        return Tags(
            estimator_type=None, target_tags=TargetTags(required=False), transformer_tags=TransformerTags(),
            input_tags=tags, requires_fit=False,
        )  # fmt: skip


def _is_video(where: str | Path) -> bool:
    """Whether a folder holds an encoder of clips: its card says so, or its model takes nothing else."""
    from withheld.networks.video import WHOLE_CLIPS

    folder = encoder_folder(where)
    if folder is None:
        return False
    try:
        card = read_card(folder, ())
    except InputError:  # which is left to the one that opens it
        return False
    return card.get("modality") == "video" or read_config(folder / "config.json").model_type in WHOLE_CLIPS


def _is_text(where: str | Path) -> bool:
    """Whether a folder or transformers id is that of a language model; errors are left to the one that opens it."""
    from transformers import AutoConfig

    from withheld.networks.text_open import is_language

    folder = encoder_folder(where)
    if folder is not None:
        return is_language(read_config(folder / "config.json"))
    if Path(where).exists():
        return False
    try:
        return is_language(AutoConfig.from_pretrained(str(where), trust_remote_code=False, **hub_settings(where)))
    except (OSError, ValueError):
        return False


def _strip_config(path: Path) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps({k: v for k, v in settings.items() if "_implementation" not in k}, indent=1), encoding="utf-8"
    )
