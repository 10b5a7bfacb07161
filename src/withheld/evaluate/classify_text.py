"""Classifying texts and pairs of them: the pair is (text, label). How each kind of encoder is fine-tuned, as published.

Shapes: B batch, L tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from withheld.data.tokens import padded
from withheld.evaluate.classify import ItemClassifier, cross_entropy
from withheld.networks.sentences import AttentiveClassifier, LastTokenClassifier, label_of
from withheld.objective import Objective
from withheld.text_encoder import TextEncoder
from withheld.types import UNKNOWN_LABEL, Pair, Recipe, Split, Terms

LOOKED_AT = 512
"""Tokens of a text that are trained on."""
AUXILIARY = 0.5
"""Weight of the language model's loss beside the label's (Radford et al. 2018)."""
ASKED = 32
"""Words of a text that the language model is asked for, a random choice: the softmax would cost more than all else."""
Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class AskTextLabel(Split):
    """The label from the whole text, (x, y) = ({"item", "mask", ...}, label): what people hid when they labelled.

    Attributes:
        words: of every text, so many next tokens are asked for, too; then y is {"label" (B,), "words" (B, L - 1)}.
    """

    asks = ("label",)
    words: int = 0

    def __call__(self, t: Mapping[str, Tensor]) -> Pair:
        x = self.seen_of(t)
        if not self.words:
            return Pair(x, t["label"])
        asked = x["mask"][:, 1:]
        noise = torch.rand(asked.shape[::-1], device=asked.device).T.masked_fill(~asked, 2.0)  # whatever the padding
        asked = asked & (noise.argsort(dim=1).argsort(dim=1) < self.words)
        words = torch.where(asked, x["item"][:, 1:], UNKNOWN_LABEL)
        return Pair({**x, "asked": asked}, {"label": t["label"], "words": words})

    def seen_of(self, t: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the network sees."""
        return {name: part for name, part in t.items() if name != "label"}


@dataclass(frozen=True)
class LabelAndWords:
    """Two terms: that of the label, and -log p(next token), nats a token.

    Attributes:
        label: the loss of the label.
    """

    label: Loss

    def __call__(self, prediction: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Terms:
        """Terms "label" and "words"."""
        words = y["words"][y["words"] != UNKNOWN_LABEL]
        return {
            "label": self.label(prediction["label"], y["label"]),
            "words": F.cross_entropy(prediction["words"], words),
        }


class LabelledTexts:
    """Texts or pairs as token rows in the form their encoder wants, padded batch by batch; what the loop learns from.

    BERT's kin read [CLS] a [SEP] b [SEP]; causal models <eos> a <sep> b <eos>, and `both_orders` where a and b have none; an
    ELMo reads both sentences apart.

    Args:
        encoder: tells the form.
        first, second: the texts; `second` is empty for single ones.
        labels: (N,) classes or scores, None where unknown.
        most: tokens of a row.
        pooled: whether single texts have the form that `encoder.transform` gives them, whatever its kind.
    """

    def __init__(
        self, encoder: TextEncoder, first: Sequence[str], second: Sequence[str] = (), labels: NDArray[Any] | None = None,
        *, both_orders: bool = False, most: int = LOOKED_AT, pooled: bool = False,
    ) -> None:  # fmt: skip
        self.pad, self.labels = encoder.pad, labels
        self.parts: dict[str, list[NDArray[np.int64]]] = {}
        self.kinds: list[NDArray[np.int64]] = []
        if pooled or encoder.trunk.bidirectional:
            self.rows = encoder.rows(first, most)
            if second:
                self.parts["second"] = encoder.rows(second, most)
        elif second or encoder.trunk.causal:
            self.rows, self.kinds = encoder.pair_rows(first, second, most)
            if second and both_orders and encoder.trunk.causal:
                self.parts["turned"] = encoder.pair_rows(second, first, most)[0]
        else:
            self.rows = encoder.rows(first, most)
        longer = self.parts.get("second", self.rows)
        self.lengths = np.array([max(len(a), len(b)) for a, b in zip(self.rows, longer, strict=True)], np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> dict[str, Tensor]:
        """ "item" and "mask" (B, L), what else the form has, and "label" (B,) where there are labels."""
        some = [int(i) for i in index]
        t = padded([self.rows[i] for i in some], self.pad, device)
        if self.kinds:
            t["kind"] = padded([self.kinds[i] for i in some], 0, device)["item"]
        for name, rows in self.parts.items():
            part = padded([rows[i] for i in some], self.pad, device)
            t[name] = part["item"]
            if name == "second":
                t["second_mask"] = part["mask"]
        if self.labels is not None:
            t["label"] = torch.from_numpy(np.asarray(self.labels[np.asarray(index)])).to(device)
        return t


def text_objective(
    encoder: TextEncoder, outputs: int, *, loss: Loss = cross_entropy, pairs: bool = False, scratch: bool = False,
    pooled: bool = False,
) -> Objective:  # fmt: skip
    """The objective whose pair is (text, label), on a copy of an encoder's trunk.

    Args:
        encoder: BERT's kin get a linear layer on pooled features; causal ones GPT's head and auxiliary loss; an ELMo a BiLSTM
            over its mixed layers, itself unchanged.
        outputs: K classes, or 1 for a score.
        loss: of the label.
        pairs: whether rows are pairs.
        scratch: whether the encoder has learned nothing, so that all of it must be trained.
        pooled: whether every kind gets a linear layer on pooled features, which is what a model folder holds.
    """
    trunk = encoder.copy().trunk
    if pooled:
        return Objective(AskTextLabel(), ItemClassifier(trunk, outputs), loss)
    if trunk.bidirectional:
        return Objective(AskTextLabel(), AttentiveClassifier(trunk, outputs, pairs=pairs, learned=scratch), loss)
    if trunk.causal:
        network: nn.Module = LastTokenClassifier(trunk, outputs)
        return Objective(AskTextLabel(ASKED), network, LabelAndWords(loss), weights={"words": AUXILIARY})
    return Objective(AskTextLabel(), ItemClassifier(trunk, outputs), loss)


def text_recipe(encoder: TextEncoder, pooled: bool = False) -> Recipe:
    """Fine-tuning: the usual 5e-5 at a width of 768, more for smaller networks; 1e-3 for what stands on an ELMo."""
    rate = 1e-3 if encoder.trunk.bidirectional and not pooled else 5e-5 * max(1.0, 768 / encoder.width) ** 1.6
    return Recipe(
        base_learning_rate=8 * rate, batch_size=32, weight_decay=0.01, warmup=0.1, clip=1.0, schedule="linear"
    )  # fmt: skip


@torch.no_grad()
def label_outputs(objective: Objective, items: LabelledTexts, batch_size: int = 128) -> Tensor:
    """(N, K) of whole items, texts of equal length together."""
    objective.eval()
    device = next(objective.parameters()).device
    split: Any = objective.split
    order = np.argsort(items.lengths, kind="stable")
    parts = [
        label_of(objective.network(split.seen_of(items.batch(order[first : first + batch_size], device)))).float().cpu()
        for first in range(0, len(order), batch_size)
    ]
    found = torch.cat(parts)
    return found[torch.from_numpy(np.argsort(order, kind="stable"))]
