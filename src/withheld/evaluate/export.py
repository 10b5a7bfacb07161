"""Handing what was learned to other software: a transformers folder, or one ONNX file that takes whole items.

Shapes: B batch, T frames, C channels, H W pixels of the image given, S side the trunk sees, D features, L tokens, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from withheld.errors import InputError, WithheldError, nearest
from withheld.evaluate.classifier import CARD, Classifier
from withheld.evaluate.export_text import text_to_hf, text_to_onnx, text_to_sentence_transformers, written
from withheld.evaluate.features import as_encoder
from withheld.evaluate.onnx_file import OPSET, compare_onnx, need_onnx, quiet
from withheld.image_encoder import ImageEncoder
from withheld.learn.checkpoint import replacing
from withheld.video_encoder import VideoEncoder

TARGETS = ("hf", "onnx", "sentence-transformers")
CHECKED = ((1, 1.0, 1.0), (3, 1.7, 0.8), (2, 0.6, 2.3))
"""Batches an export is checked on: how many images, and their height and width as multiples of S."""


def export(subject: Any, out: str | Path, to: str) -> Path:
    """Writes an encoder, or a fine-tuned model, for other software, and checks that it computes the same.

    hf: a folder that `AutoModel` and `AutoImageProcessor` open, of texts a language model with its head and `AutoTokenizer`;
    features differ by 0. Of a model it also holds head.safetensors and model.json, and stays a model folder.
    sentence-transformers: a folder that `SentenceTransformer` opens where withheld is not installed.
    onnx: one file; input `images` uint8 (B, C, H, W) of any size, resizing, normalization and the split's `full` being in
    the graph; of clips `clips` uint8 (B, T, 3, H, W), one window of the encoder's T frames; or `input_ids` and
    `attention_mask` int64 (B, L), the tokenizer lying beside the file. Outputs `pooled` (B, D) and `tokens` (B, L, D), of a
    model `probabilities` (B, K) too. Within 1e-4.

    Args:
        subject: a run, an encoder folder, a model folder, a transformers id, an `Encoder` or a `Classifier`.
        out: the folder or file to write; it is replaced.
        to: "hf", "onnx", or, of texts, "sentence-transformers".

    Raises:
        InputError: for the subject or the target, or where ONNX is not installed. CannotWrite: for `out`.
    """
    if to not in TARGETS:
        raise InputError(f"--to {to}: {nearest(to, TARGETS)}")
    if to == "onnx":
        need_onnx()
    encoder, classifier = _opened(subject)
    if (encoder.modality, to) not in WRITERS:
        raise InputError(
            f"--to {to} is for encoders of texts, and {encoder.name} is one of {encoder.modality}s: use --to hf"
        )
    write: Any = WRITERS[encoder.modality, to]
    return write(encoder, classifier, Path(out))  # type: ignore[no-any-return]


def _opened(subject: Any) -> tuple[Any, Classifier | None]:
    if isinstance(subject, (str, Path)) and (Path(subject) / CARD).is_file():
        subject = Classifier.open(subject)
    if isinstance(subject, Classifier):
        subject = subject.to("cpu").eval()
        return subject.encoder, subject
    return as_encoder(subject, "cpu"), None


def _to_hf(encoder: ImageEncoder | VideoEncoder, classifier: Classifier | None, out: Path) -> Path:
    from transformers import AutoModel

    again = written(encoder, classifier, out, AutoModel)
    whole = isinstance(encoder, VideoEncoder) and encoder.trunk.whole
    frames = (encoder.frames,) if whole else ()  # other models of clips are models of images, frame by frame
    shape = (2, *frames, encoder.trunk.channels, encoder.size, encoder.size)
    t = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = again(pixel_values=t).last_hidden_state
    if not bool(torch.isfinite(found).all()):
        raise WithheldError(f"{out}: transformers computes no finite features from it")
    return out


class _Whole(nn.Module):
    """The encoder with its resizing written as two matrix products, which every ONNX runtime computes alike."""

    def __init__(self, encoder: ImageEncoder | VideoEncoder, classifier: Classifier | None) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, classifier

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        t = images.float() / 255
        size = self.encoder.size
        t = shrink_matrix(t.shape[-2], size) @ t @ shrink_matrix(t.shape[-1], size).T
        found = self.encoder(t)
        if self.classifier is None:
            return found.pooled, found.tokens
        return found.pooled, found.tokens, self.classifier.of_features(found.pooled)


def shrink_matrix(have: int, want: int) -> Tensor:
    """(want, have) weights of bilinear resizing with antialiasing, as `F.interpolate(antialias=True)` has them."""
    place = torch.arange(have, dtype=torch.float32) + 0.5
    step = (place[-1] + 0.5) / want  # `have`, as a tensor: an exported graph knows it only when it runs
    width = torch.clamp(step, min=1.0)
    center = (torch.arange(want, dtype=torch.float32) + 0.5) * step
    weight = torch.clamp(1 - (place - center.unsqueeze(1)).abs() / width, min=0.0)
    return weight / weight.sum(dim=1, keepdim=True)


def _to_onnx(encoder: ImageEncoder | VideoEncoder, classifier: Classifier | None, out: Path) -> Path:
    network = _Whole(encoder, classifier).eval()
    names = ["pooled", "tokens"] + (["probabilities"] if classifier is not None else [])
    example = _images(encoder, 3, 1.5, 1.25)
    at, given = example.ndim - 2, "images" if example.ndim == 4 else "clips"
    sides = {0: torch.export.Dim("batch"), at: torch.export.Dim("height"), at + 1: torch.export.Dim("width")}
    with replacing(out) as aside:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                network, (example,), aside, dynamo=True, opset_version=OPSET, input_names=[given], output_names=names,
                dynamic_shapes={"images": sides}, external_data=False, verbose=False,
            )  # fmt: skip
        _check_onnx(aside, encoder, classifier, out)
    return out


def _check_onnx(path: Path, encoder: ImageEncoder | VideoEncoder, classifier: Classifier | None, out: Path) -> None:
    """Runs the file with onnxruntime on images of other sizes and compares with the library."""
    for count, tall, wide in CHECKED:
        images = _images(encoder, count, tall, wide)
        with torch.no_grad():
            found = encoder(images)
            expected = [found.pooled, found.tokens]
            if classifier is not None:
                expected.append(classifier.of_features(found.pooled))
        compare_onnx(path, {"images" if images.ndim == 4 else "clips": images.numpy()}, expected, out)


def _images(encoder: ImageEncoder | VideoEncoder, count: int, tall: float, wide: float) -> Tensor:
    frames = (encoder.frames,) if isinstance(encoder, VideoEncoder) else ()
    sides = (max(2, round(tall * encoder.size)), max(2, round(wide * encoder.size)))
    shape = (count, *frames, encoder.trunk.channels, *sides)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


WRITERS = {
    ("image", "hf"): _to_hf,
    ("image", "onnx"): _to_onnx,
    ("video", "hf"): _to_hf,
    ("video", "onnx"): _to_onnx,
    ("text", "hf"): text_to_hf,
    ("text", "onnx"): text_to_onnx,
    ("text", "sentence-transformers"): text_to_sentence_transformers,
}
