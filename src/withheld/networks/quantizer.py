"""A book of codes: every vector is replaced by its nearest code, and the codes follow the vectors.

Shapes: B batch, D width, H W grid, N vectors, K codes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld import distributed
from withheld.types import Moment

SMOOTHING = 1e-5
RARE = 0.01
"""A code that is chosen for less than this many vectors a batch, in the running mean, is started anew."""
DEAD = 0.1
"""A code that is chosen for less than this is told to be dead."""


class Quantizer(nn.Module):
    """Vector quantization with a codebook of running means (van den Oord et al. 2017, appendix A.1).

    Args:
        width: D.
        codes: K.
        decay: of the running means.

    In training, `forward` notes what it quantized, and `after_step` moves the codes; so a step that is not taken changes nothing.
    """

    at_once: ClassVar[str] = "the codes follow all vectors of a step"
    book: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, width: int, codes: int = 512, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("book", torch.randn(codes, width))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", self.book.clone())
        self.seen: tuple[Tensor, Tensor] | None = None

    def start(self, vectors_ND: Tensor) -> None:
        """Codes at the k-means centers of a sample."""
        from sklearn.cluster import MiniBatchKMeans

        x = vectors_ND.detach().cpu().numpy()
        seed = int(torch.randint(2**31 - 1, ()))
        kmeans = MiniBatchKMeans(min(len(self.book), len(x)), n_init=1, random_state=seed, batch_size=4096, max_iter=20)
        centers = torch.from_numpy(kmeans.fit(x).cluster_centers_).to(self.book)
        if len(centers) < len(self.book):
            centers = centers[torch.arange(len(self.book)) % len(centers)] + 1e-3 * torch.randn_like(self.book)
        self.book.copy_(centers)
        self.sums.copy_(centers)
        self.counts.fill_(1.0)

    def nearest(self, vectors_ND: Tensor) -> Tensor:
        """(N,) the nearest code of every vector."""
        distance = (self.book**2).sum(dim=1) - 2 * vectors_ND @ self.book.T
        return distance.argmin(dim=1)

    def look_up(self, codes: Tensor) -> Tensor:
        """(B, D, H, W) of codes (B, H, W)."""
        return self.book[codes].permute(0, 3, 1, 2)

    def forward(self, vectors_BDHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantized vectors (B, D, H, W) whose gradient goes straight through, codes (B, H, W), and the commitment, a scalar."""
        B, D, H, W = vectors_BDHW.shape
        flat = vectors_BDHW.permute(0, 2, 3, 1).reshape(-1, D).to(self.book.dtype)  # of means, too
        with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
            codes = self.nearest(flat)
            found = self.book[codes]
            if self.training:
                self.seen = (flat.detach(), codes)
        commitment = F.mse_loss(flat, found)
        through = flat + (found - flat).detach()
        return through.view(B, H, W, D).permute(0, 3, 1, 2), codes.view(B, H, W), commitment

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Moves every code to the running mean of the vectors that chose it; a rare one to a vector of the batch."""
        if self.seen is None:
            return
        flat, codes = self.seen
        self.seen = None
        chosen = F.one_hot(codes, len(self.book)).to(flat)
        count = distributed.total(chosen.sum(dim=0))
        total = distributed.total(chosen.T @ flat)
        self.counts.mul_(self.decay).add_(count, alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(total, alpha=1 - self.decay)
        mass = self.counts.sum()
        smooth = (self.counts + SMOOTHING) / (mass + len(self.book) * SMOOTHING) * mass
        self.book.copy_(self.sums / smooth[:, None])
        rare = self.counts < RARE
        if bool(rare.any()):
            at = torch.randint(len(flat), (int(rare.sum()),), device=flat.device)
            fresh = flat[at]
            if distributed.world() > 1:  # every process must start them at the same place
                fresh = distributed.total(fresh if distributed.rank() == 0 else torch.zeros_like(fresh))
            self._begin_anew(rare, fresh)

    def dead(self) -> Tensor:
        """(K,) whether a code is hardly ever chosen any more."""
        return self.counts < DEAD

    def revive(self, vectors_ND: Tensor) -> int:
        """Puts codes that none of these vectors chooses at some of them, from torch's generator; returns how many."""
        unused = torch.bincount(self.nearest(vectors_ND), minlength=len(self.book)) == 0
        at = torch.randint(len(vectors_ND), (int(unused.sum()),), device=vectors_ND.device)
        self._begin_anew(unused, vectors_ND[at])
        return len(at)

    def _begin_anew(self, which_K: Tensor, vectors_MD: Tensor) -> None:
        self.book[which_K], self.sums[which_K] = vectors_MD, vectors_MD
        self.counts[which_K] = torch.ones_like(self.counts[which_K])


def perplexity(codes: Tensor, count: int) -> float:
    """exp of the entropy of how often each of `count` codes is used: `count` where all are used alike, 1 where one is."""
    share = torch.bincount(codes.flatten(), minlength=count).cpu().double()
    share = share / share.sum()
    return float((-(share * share.clamp_min(1e-300).log()).sum()).exp())
