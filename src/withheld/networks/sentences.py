"""Classifiers of sentences and of pairs of them, as ELMo's and GPT's users build them on a trunk.

Shapes: B rows, L M tokens of the first and the second sentence, D width of the trunk, H of what a BiLSTM gives (both
directions), K outputs, N layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.networks.elmo import turned
from withheld.networks.text import TextTrunk

WIDE = 512
"""Trunks from this width on get the published sizes."""


class LayerMix(nn.Module):
    """gamma * sum_j softmax(s)_j h_j, a mix of layers that every task learns for itself (Peters et al. 2018, equation 1).

    Args:
        layers: N, the inputs among them.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, L, D) of N layers (B, L, D)."""
        share = self.s.softmax(dim=0)
        return self.gamma * sum(weight * layer for weight, layer in zip(share, layers, strict=True))


class BiLstm(nn.Module):
    """A bidirectional LSTM that does not see what pads a row; two of one direction, which a CPU has fast kernels for."""

    def __init__(self, inputs: int, width: int, layers: int = 1) -> None:
        super().__init__()
        ways = lambda size: nn.ModuleList([nn.LSTM(size, width, batch_first=True) for _ in range(2)])  # noqa: E731
        self.layers = nn.ModuleList([ways(2 * width if layer else inputs) for layer in range(layers)])

    def forward(self, tokens: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L, H) of tokens (B, L, D); what stands where a row is padded means nothing."""
        for ways in self.layers:
            ahead, behind = ways.children()
            back = turned(behind(turned(tokens, mask_BL))[0], mask_BL)
            tokens = torch.cat([ahead(tokens)[0], back], dim=2)
        return tokens


class AttentiveClassifier(nn.Module):
    """BiLSTM+ELMo+Attn: a BiLSTM over mixed layers and the maximum over places; two sentences attend to each other.

    Of a pair, both sentences u and v are told as [u; v; |u - v|; u * v]. The trunk stays as it is, as published, unless
    `learned`. Source: Wang et al. 2018, GLUE, https://arxiv.org/abs/1804.07461.

    Args:
        trunk: an ELMo, or any that gives its layers.
        outputs: K.
        pairs: whether rows are pairs.
        learned: whether the trunk is trained, too.
        dropout: of the mix and of what the classifier sees.
    """

    def __init__(
        self, trunk: TextTrunk, outputs: int, *, pairs: bool, learned: bool = False, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.trunk, self.learned = trunk.requires_grad_(learned), learned
        large = trunk.width > WIDE
        width, depth, hidden = (1500, 2, 512) if large else (trunk.width // 4, 1, trunk.width)
        self.mix = LayerMix(trunk.depth + 1)
        self.reader = BiLstm(trunk.width, width, depth)
        self.comparer = BiLstm(4 * width, width) if pairs else None
        self.head = nn.Sequential(
            nn.Linear(2 * width * (4 if pairs else 1), hidden),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )
        self.dropout = nn.Dropout(dropout)

    def train(self, mode: bool = True) -> AttentiveClassifier:
        """As always, but a trunk that is not learned is never in training."""
        super().train(mode)
        if not self.learned:
            self.trunk.eval()
        return self

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """(B, K) of "item" and "mask" (B, L), and of pairs "second" and "second_mask" (B, M)."""
        first, first_mask = self._read(x["item"], x["mask"])
        if self.comparer is None:
            return self.head(self.dropout(_highest(first, first_mask)))
        second, second_mask = self._read(x["second"], x["second_mask"])
        alike = first @ second.transpose(1, 2)
        of_second = _attended(alike, second_mask) @ second
        of_first = _attended(alike.transpose(1, 2), first_mask) @ first
        u = _highest(self.comparer(torch.cat([first, of_second], dim=2), first_mask), first_mask)
        v = _highest(self.comparer(torch.cat([second, of_first], dim=2), second_mask), second_mask)
        return self.head(self.dropout(torch.cat([u, v, (u - v).abs(), u * v], dim=1)))

    def _read(self, item: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(self.learned and torch.is_grad_enabled()):
            layers = self.trunk({"item": item, "mask": mask}, layers=True).layers
        return self.reader(self.dropout(self.mix(layers or ())), mask), mask


class LastTokenClassifier(nn.Module):
    """GPT's fine-tuning: a linear layer on the state of the last token, the language model kept as an auxiliary task.

    Texts longer than the context are seen in windows; the last tokens of all windows are averaged. Of a pair without order
    both orders are read, and their states are added. Source: Radford et al. 2018, section 3.

    Args:
        trunk: a causal one.
        outputs: K.
        dropout: of the state.
    """

    def __init__(self, trunk: TextTrunk, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(trunk.width, outputs)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """ "label" (B, K) of "item" and "mask" (B, L) and perhaps "turned", the pairs in the other order (B, L); "words":
        logits (n, V) of the tokens after the places x["asked"] (B, L - 1), row by row, of the first order only.
        """
        item, mask = x["item"], x["mask"]
        B = len(item)
        if "turned" in x:
            item, mask = torch.cat([item, x["turned"]]), torch.cat([mask, mask])
        tokens = self.trunk({"item": item, "mask": mask}).tokens
        ends = self._ends(mask).to(tokens.dtype).unsqueeze(2)
        state = (tokens * ends).sum(dim=1) / ends.sum(dim=1)
        state = state[:B] + state[B:] if "turned" in x else state
        found = {"label": self.head(self.dropout(state))}
        if "asked" in x:
            found["words"] = self.trunk.logits(tokens[:B, :-1][x["asked"]])
        return found

    def _ends(self, mask_BL: Tensor) -> Tensor:
        """(B, L), True at the last token of every window."""
        place = torch.arange(mask_BL.shape[1], device=mask_BL.device)
        last = mask_BL.sum(dim=1, keepdim=True) - 1
        return ((place == last) | ((place + 1) % self.trunk.length == 0)) & mask_BL


def _highest(tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, H), the maximum over real places."""
    return tokens.masked_fill(~mask.unsqueeze(2), -torch.inf).amax(dim=1)


def _attended(alike_BLM: Tensor, mask_BM: Tensor) -> Tensor:
    """(B, L, M) shares of what each of L looks at."""
    return F.softmax(alike_BLM.masked_fill(~mask_BM.unsqueeze(1), -torch.inf), dim=2)


def label_of(prediction: Any) -> Tensor:
    """The part of a prediction that is about the label."""
    return prediction["label"] if isinstance(prediction, Mapping) else prediction
