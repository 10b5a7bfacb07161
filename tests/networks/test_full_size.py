"""One training step of every published language model at its full size; run with `-m slow`, needs about 8 GB."""

from __future__ import annotations

import gc
import resource
import time

import pytest
import torch

from withheld.learn.gradient import Loop
from withheld.networks.text import Special
from withheld.networks.text_open import open_text_trunk
from withheld.run import load_method

SIZES = {  # encoder: method, vocabulary, millions of parameters with the head
    "bert-base": ("bert", 30_522, 109.5),
    "bert-large": ("bert", 30_522, 335.2),
    "gpt": ("gpt", 40_478, 116.5),
    "elmo": ("elmo", 30_522, 109.3),
}


class Random:
    """Blocks of random tokens."""

    def __init__(self, vocabulary: int) -> None:
        self.item = torch.randint(5, vocabulary, (8, 64), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.item)

    def batch(self, index, device):
        return {"item": self.item[torch.as_tensor(index)].to(device)}


@pytest.mark.slow
@pytest.mark.parametrize("encoder", list(SIZES))
def test_one_training_step_at_full_size(encoder, capsys):
    gc.collect()
    name, vocabulary, millions = SIZES[encoder]
    trunk, _ = open_text_trunk(encoder, vocabulary=vocabulary, length=512)
    trunk._special = Special(0, 2, 3, 4, (0, 1, 2, 3, 4))
    objective, recipe = load_method(name)(trunk)
    count = sum(p.numel() for p in objective.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.02)
    watched = next(p for n, p in objective.named_parameters() if p.ndim == 2 and ("layer" in n or ".h.0" in n))
    before = watched.detach()[:4].clone()
    loop = Loop(objective, Random(vocabulary), recipe.change(batch_size=2, warmup=0.0), steps=2)
    begun = time.monotonic()
    line = loop.step(0)
    seconds = time.monotonic() - begun
    assert line["loss"] == pytest.approx(float(torch.tensor(vocabulary).log()), rel=0.15)  # nothing is known yet
    assert line["gradient_norm"] > 0
    assert not torch.equal(before, watched.detach()[:4])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    told = f"{encoder}: {count / 1e6:.1f} M parameters, a step of 2 x 64 tokens {seconds:.1f} s, peak so far {memory:.1f} GB"
    with capsys.disabled():
        print(f"\n{told}")
