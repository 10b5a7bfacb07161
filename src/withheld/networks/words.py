"""Networks that tell words: the hidden ones, the next one, and both neighbors.

Shapes: B batch, L tokens, M asked places of the whole batch, D width, V vocabulary, N layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.networks.text import TextTrunk

CHECKED = 7
"""One word in so many is hidden from the network in its vitals."""


class MaskedWords(nn.Module):
    """p(hidden tokens | the others); logits at the asked places only, which is what most of the time goes to."""

    def __init__(self, trunk: TextTrunk, next_sentence: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.follows = (
            nn.Sequential(nn.Linear(trunk.width, trunk.width), nn.Tanh(), nn.Linear(trunk.width, 2))
            if next_sentence
            else None
        )

    def forward(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """ "words": logits (M, V) of x["asked"] (B, L), row by row; "follows": (B, 2) where next sentences are told."""
        asked = wanted = x["asked"]
        if self.follows is not None:  # is told from the first token of all
            wanted = asked.clone()
            wanted[:, 0] = True
        tokens, places = self.trunk.run_asked(x, wanted)
        found = {"words": self.trunk.logits(tokens[asked.gather(1, places)])}
        if self.follows is not None:
            found["follows"] = self.follows(tokens[:, 0])
        return found

    @torch.no_grad()
    def vitals(self, t: Mapping[str, Tensor]) -> dict[str, float]:
        """Loss (nats) and accuracy of every `CHECKED`th word behind [MASK], whatever the split's rate and disguises.

        A split that shows some of the words it asks for has a loss that falls although nothing is understood.
        """
        item, special = t["item"], self.trunk.special
        if special.mask is None:
            return {}
        asked = (torch.arange(item.shape[1], device=item.device) % CHECKED == CHECKED // 2).expand_as(item)
        asked = asked & ~torch.isin(item, torch.tensor(special.all, device=item.device))
        if not asked.any():
            return {}
        logits = self({**t, "item": item.masked_fill(asked, special.mask), "asked": asked})["words"].float()
        right = logits.argmax(dim=1) == item[asked]
        loss = F.cross_entropy(logits, item[asked])
        return {"masked_loss": float(loss), "masked_accuracy": float(right.float().mean())}


class WordStates(nn.Module):
    """What a teacher would make of the words asked for, (N, D) of all of them in the batch.

    Args:
        trunk: a bidirectional language model; its head has no part in this and is not trained.
    """

    def __init__(self, trunk: TextTrunk) -> None:
        super().__init__()
        self.trunk = trunk
        inside = {id(p) for p in trunk.base.parameters()}
        for p in trunk.parameters():
            if id(p) not in inside:
                p.requires_grad_(False)
        self.project = nn.Sequential(
            nn.Linear(trunk.width, 2 * trunk.width), nn.GELU(), nn.Linear(2 * trunk.width, trunk.width)
        )

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """States (N, D), row by row."""
        tokens = self.trunk.run({name: part for name, part in x.items() if name != "asked"}).last_hidden_state
        return self.project(tokens[x["asked"]])


class NextWord(nn.Module):
    """p(next token | all before), (B, L, V); a recurrent trunk's state is carried from block to block of a stream.

    The state is a buffer, detached, saved with the run, and zero wherever x["first"] says that a stream begins.
    """

    of_items: ClassVar = {"state_h": 1, "state_c": 1}
    state_h: Tensor
    state_c: Tensor

    def __init__(self, trunk: TextTrunk) -> None:
        super().__init__()
        self.trunk = trunk
        for name in ("state_h", "state_c"):
            self.register_buffer(name, torch.zeros(0))

    @property
    def at_once(self) -> str:
        """The state is that of every stream of a batch."""
        return "the state of every stream is carried from step to step" if self.trunk.recurrent else ""

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """Logits of the token after each of x["item"] (B, L)."""
        if not self.trunk.recurrent or "first" not in x:
            return self.trunk.logits(self.trunk.run(x).last_hidden_state)
        output = self.trunk.run(x, state=self._carried(x["first"]))
        if self.training:
            self.state_h, self.state_c = (part.detach() for part in output.state)
        return self.trunk.logits(output.last_hidden_state)

    def _carried(self, first_B: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.training or self.state_h.ndim != 3 or self.state_h.shape[1] != len(first_B):
            return None
        keep = (~first_B).to(self.state_h.dtype)[None, :, None]
        return self.state_h * keep, self.state_c * keep

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in ("state_h", "state_c"):  # as many streams as were saved
            if f"{prefix}{name}" in state_dict:
                setattr(self, name, torch.empty_like(state_dict[f"{prefix}{name}"], device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class BothWays(nn.Module):
    """p(next token | those up to here) and p(token before | those from here on), of a trunk that reads both ways apart."""

    def __init__(self, trunk: TextTrunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """ "next" and "previous": logits (B, L - 1, V) of the tokens after all but the last, and before all but the first."""
        ahead, behind = self.trunk.run(x).last_hidden_state.chunk(2, dim=2)
        head = self.trunk.model.get_output_embeddings()
        return {"next": head(ahead[:, :-1]), "previous": head(behind[:, 1:])}
