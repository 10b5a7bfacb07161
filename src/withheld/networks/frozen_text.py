"""A trained encoder of texts that is only asked, never trained: the teacher of distillation.

Shapes: B batch, L tokens, D width of the teacher.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.networks.open import encoder_folder
from withheld.networks.text import Special, TextTrunk
from withheld.networks.text_open import open_text_trunk

KEPT = 1 << 30
"""Bytes of vectors that are kept; of a larger set of texts the others are asked for again."""


class FrozenText:
    """The target of an objective: vectors (B, D) of a trained encoder, the mean of its last states, without gradients.

    A text has the same vector in every epoch, so it is asked for once and kept: a teacher of any size costs one pass. On a
    CPU texts are asked for one by one, which is as fast, and then a vector hangs on its text alone, whatever stood beside it
    when a run was stopped and resumed. No module, so that its weights are not written into every checkpoint of the student.

    Args:
        where: a run, an encoder folder, or a transformers id. special: which tokens are no text, of its tokenizer.

    Attributes:
        trunk: the encoder. width: D.

    Raises:
        InputError: where there is none, one of something else than texts, or one without weights.
    """

    def __init__(self, where: str, special: Special) -> None:
        folder = encoder_folder(where) if Path(where).exists() else None
        try:
            trunk, trained = open_text_trunk(folder or where, vocabulary=None, length=None)
        except InputError as error:
            raise InputError(f"teacher={where}: {error}") from None
        if not trained:
            raise InputError(
                f"teacher={where} has no trained weights: give a run, an encoder folder or a transformers id"
            )
        trunk.know_special(special)
        self.trunk: TextTrunk = trunk.eval().requires_grad_(False)
        self.width = trunk.width
        self._kept: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def __call__(self, y: Mapping[str, Tensor]) -> Tensor:
        """(B, D) of "item" and "mask" (B, L)."""
        item = y["item"]
        if next(self.trunk.parameters()).device != item.device:
            self.trunk.to(item.device)
        rows = [ids[real] for ids, real in zip(item.cpu(), y["mask"].cpu(), strict=True)]
        names = [hashlib.blake2b(row.numpy().tobytes(), digest_size=16).digest() for row in rows]
        new = {name: k for k, name in enumerate(names) if name not in self._kept}
        found = self._kept
        if new:
            told = dict(zip(new, self._ask(y, rows, list(new.values())), strict=True))
            found = {**{name: self._kept[name] for name in names if name not in told}, **told}
            room = KEPT // (4 * self.width) - len(self._kept)
            self._kept.update(list(told.items())[: max(0, room)])
        return torch.stack([found[name] for name in names]).to(item.device)

    def _ask(self, y: Mapping[str, Tensor], rows: list[Tensor], which: list[int]) -> Tensor:
        """(len(which), D), on the CPU."""
        if y["item"].device.type == "cpu":
            whole = [
                {"item": row[None], "mask": torch.ones_like(row[None], dtype=torch.bool)}
                for row in (rows[k] for k in which)
            ]
            return torch.cat([self.trunk.vector(one) for one in whole]).float()
        return self.trunk.vector({"item": y["item"][which], "mask": y["mask"][which]}).float().cpu()
