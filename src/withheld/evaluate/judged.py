"""What a verdict asks of a modality: how items are opened, decoded, learned from, and what they are classically judged by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.broken import Line, lost, notes_of
from withheld.data.image import ImageItems
from withheld.data.prepared import prepare
from withheld.data.source import Source, open_source
from withheld.data.text import documents, open_texts
from withheld.data.video import VIDEOS, open_videos, told_of_frames
from withheld.data.wanted import IMAGES
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.evaluate.classify import FINE_TUNE, SCRATCH, classifier_objective
from withheld.evaluate.features import Listen, preparing
from withheld.image_encoder import ImageEncoder
from withheld.text_encoder import TextEncoder
from withheld.types import Recipe
from withheld.video_encoder import VideoEncoder
from withheld.wording import plural

PLAIN_SIZE = 64


class Judged(ABC):
    """Items of one modality, as one encoder takes them.

    Args:
        encoder: the subject, or a rival.
    """

    rival: str
    """A small public encoder of this modality."""
    unaugmented = ""
    """Why there is no row with the pretraining's augmentations, where one would be looked for."""
    one: str
    """What an item is called."""
    pooled = False
    """Whether classifiers stand on pooled features whatever the encoder, as those of a model folder do."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    @staticmethod
    @abstractmethod
    def open(data: Any, labels: Any = None) -> Source:
        """The data."""

    def decode(self, source: Source, listen: Listen) -> tuple[Any, NDArray[np.int64]]:
        """The items that can be read, as something indexed by arrays, and their positions in the source; the others are said."""
        items, kept, skipped = self._decode(source, listen)
        for note in notes_of(lost(skipped), plural(len(source), self.one)):
            listen({"kind": "note", "text": note})
        return items, kept

    @abstractmethod
    def _decode(self, source: Source, listen: Listen) -> tuple[Any, NDArray[np.int64], list[Line]]:
        """What `decode` gives, and what could not be read or had to be mended."""

    @abstractmethod
    def items(self, encoder: Any, some: Any, labels: NDArray[np.int64] | None = None) -> Any:
        """Decoded items as the loop asks for them."""

    @abstractmethod
    def objective(self, encoder: Any, classes: int, scratch: bool = False) -> Any:
        """The objective whose pair is (item, label)."""

    def augmented(self, encoder: Any, classes: int) -> Any:
        """The same objective with the augmentations of the pretraining; None where it has none of its own."""
        return None

    @abstractmethod
    def recipe(self, encoder: Any, scratch: bool) -> Recipe:
        """How it is fine-tuned, or trained from scratch."""

    @abstractmethod
    def tuned(self, trunk: Any, name: str) -> Any:
        """An encoder that is fed as this one, with another trunk."""


class JudgedImages(Judged):
    """Images at the encoder's size."""

    rival = "facebook/dinov2-small"
    one = "image"
    unaugmented = (
        '"from scratch, augmented": the encoder names no augmentation of whole images; "fine-tuned" and "from scratch" '
        "have the same light crop"
    )

    @staticmethod
    def open(data: Any, labels: Any = None) -> Source:
        """A folder, archive, table or array of images."""
        return open_source(data, labels=labels)

    def _decode(self, source: Source, listen: Listen) -> tuple[Any, NDArray[np.int64], list[Line]]:
        """(N, C, size, size) uint8, memory-mapped."""
        size, channels = getattr(self.encoder, "size", PLAIN_SIZE), getattr(self.encoder, "channels", 3)
        prepared = prepare(
            source, size, channels, scale=getattr(self.encoder, "scale", None),
            progress=preparing(listen),
        )  # fmt: skip
        skipped = prepared.skipped[len(source.left_out) :] if len(prepared.kept) < len(source) else []
        return prepared.images, np.asarray(prepared.kept), skipped

    def items(self, encoder: Any, some: Any, labels: NDArray[np.int64] | None = None) -> Any:
        """Normalized images."""
        return ImageItems(some, encoder.mean, encoder.std, labels)

    def objective(self, encoder: Any, classes: int, scratch: bool = False) -> Any:
        """With a light augmentation."""
        return classifier_objective(encoder, classes)

    def augmented(self, encoder: Any, classes: int) -> Any:
        """With the views or crops that the encoder was pretrained on."""
        return None if encoder.augment is None else classifier_objective(encoder, classes, augment=encoder.augment)

    def recipe(self, encoder: Any, scratch: bool) -> Recipe:
        """Layer-wise decay where the layers have learned."""
        return SCRATCH if scratch else FINE_TUNE

    def tuned(self, trunk: Any, name: str) -> Any:
        """With the same normalization."""
        e = self.encoder
        return ImageEncoder(trunk, e.mean, e.std, e.split, name, e.flips, e.scale)


class JudgedTexts(Judged):
    """Texts as strings."""

    rival = "sentence-transformers/all-MiniLM-L6-v2"
    one = "text"
    _told = ""

    @staticmethod
    def open(data: Any, labels: Any = None) -> Source:
        """A folder, archive, table or list of texts."""
        return open_texts(data, labels)

    def _decode(self, source: Source, listen: Listen) -> tuple[Any, NDArray[np.int64], list[Line]]:
        """(N,) strings."""
        if source.told and source.told != self._told:  # once, also where items without labels are read too
            self._told = source.told
            listen({"kind": "note", "text": source.told})
        bad: list[Line] = []
        read = list(documents(source, bad))
        kept, found = [position for position, _ in read], [text for _, text in read]
        if not found:
            first = f", the first: {bad[0]['reason']}" if bad else ""
            raise InputError(
                f"{source.location}: none of its texts ({len(source):,}) can be read{first}; check the files"
            )
        at = np.argsort(np.array(kept, np.int64))
        texts = np.array([*found, None], dtype=object)[:-1]
        return texts[at], np.array(kept, np.int64)[at], bad

    def items(self, encoder: Any, some: Any, labels: NDArray[np.int64] | None = None) -> Any:
        """Token rows."""
        from withheld.evaluate.classify_text import LOOKED_AT, LabelledTexts

        return LabelledTexts(encoder, list(some), labels=labels, most=LOOKED_AT, pooled=self.pooled)

    def objective(self, encoder: Any, classes: int, scratch: bool = False) -> Any:
        """On a copy of the trunk, with the head of its kind."""
        from withheld.evaluate.classify_text import text_objective

        return text_objective(encoder, classes, scratch=scratch, pooled=self.pooled)

    def recipe(self, encoder: Any, scratch: bool) -> Recipe:
        """By the width of the network, trained or not."""
        from withheld.evaluate.classify_text import text_recipe

        return text_recipe(encoder, self.pooled)

    def tuned(self, trunk: Any, name: str) -> Any:
        """With the same tokenizer; it looks at as much of a text as it was trained on."""
        from withheld.evaluate.classify_text import LOOKED_AT

        return TextEncoder(trunk, self.encoder.tokenizer, name, min(self.encoder.most, LOOKED_AT))


class JudgedClips(Judged):
    """Clips, decoded at the encoder's size."""

    rival = "MCG-NJU/videomae-small-finetuned-kinetics"
    one = "clip"

    @staticmethod
    def open(data: Any, labels: Any = None) -> Source:
        """A folder, archive or array of clips."""
        return open_videos(data, labels)

    def _decode(self, source: Source, listen: Listen) -> tuple[Any, NDArray[np.int64], list[Line]]:
        """(N,) of `Clip`."""
        from withheld.data.clips import decoded_clips

        if note := told_of_frames(source):
            listen({"kind": "note", "text": note})
        return decoded_clips(source, self.encoder.size, preparing(listen))

    def items(self, encoder: Any, some: Any, labels: NDArray[np.int64] | None = None) -> Any:
        """The middle window of each."""
        from withheld.evaluate.classify_clips import LabelledClips

        return LabelledClips(encoder, list(some), labels)

    def objective(self, encoder: Any, classes: int, scratch: bool = False) -> Any:
        """On a copy of the trunk."""
        from withheld.evaluate.classify_clips import clip_objective

        return clip_objective(encoder, classes)

    def recipe(self, encoder: Any, scratch: bool) -> Recipe:
        """Layer-wise decay where the layers have learned."""
        from withheld.evaluate.classify_clips import FINE_TUNE_CLIPS

        return FINE_TUNE_CLIPS.change(layer_decay=1.0) if scratch else FINE_TUNE_CLIPS

    def tuned(self, trunk: Any, name: str) -> Any:
        """With the same normalization and rate."""
        e = self.encoder
        return VideoEncoder(trunk, e.mean, e.std, e.rate, e.split, name)


def judged(subject: Any, data: Any = None) -> Judged:
    """How the items of a subject are handled."""
    if isinstance(subject, VideoEncoder):
        return JudgedClips(subject)
    if isinstance(subject, TextEncoder) or (not isinstance(subject, Encoder) and _holds_text(data)):
        return JudgedTexts(subject)
    return JudgedImages(subject)


def _holds_text(data: Any) -> bool:
    """For subjects that are no encoder of this library: lists of strings, and files that are no images."""
    if isinstance(data, tuple) and len(data) == 2:
        data = data[0]
    if isinstance(data, list):
        files = IMAGES.suffixes | VIDEOS.suffixes
        return bool(data) and isinstance(data[0], str) and Path(data[0][-1000:]).suffix.lower() not in files
    return False
