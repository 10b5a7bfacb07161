"""The atoms of a dictionary of patches, drawn.

Shapes: B batch, C channels, H W image, K atoms, h side of an atom.
"""

from __future__ import annotations

import torch
from torch import Tensor

from withheld.evaluate.latent_pictures import Entry, entry, grid
from withheld.networks.patch_dictionary import DictionaryLearner

ACROSS = 16


@torch.no_grad()
def atom_entries(learner: DictionaryLearner, t_BCHW: Tensor) -> list[Entry]:
    """All atoms in one picture, those that these images are made of most first; grey is the mean of all patches."""
    atoms = learner.atoms().cpu()
    times = learner.times(t_BCHW).cpu()
    atoms = atoms[times.argsort(descending=True, stable=True)]
    most = atoms.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    picture = grid(0.5 + 0.5 * atoms / most, ACROSS)
    used = int((times > 0).sum())
    return [entry("atoms", picture, f"{used} of {len(times)} atoms are used", "")]
