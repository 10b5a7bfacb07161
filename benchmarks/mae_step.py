"""One training step of our MAE against transformers' ViTMAEForPreTraining in a plain loop.

    python benchmarks/mae_step.py [--layers 6] [--width 192] [--batch 256] [--rounds 12] [--threads 2]
    python benchmarks/mae_step.py --base          # the paper's ViT-B/16 at 224 pixels and its decoder, 8 images

Same weights copied in, same masks, dropout 0; interleaved in one process. First asserts that both have the same loss for 5 steps.
Above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from paired import compare
from transformers import ViTConfig, ViTMAEConfig, ViTMAEForPreTraining

from withheld.learn.optimizer import build_optimizer
from withheld.methods.mae import mae
from withheld.networks.open import open_trunk
from withheld.splits.image import gather_tokens, patchify
from withheld.types import Pair, Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "networks"))
from test_mae_parity import copy_weights, give_positions, same_mask

RATE = 1e-4


def build(layers: int, width: int, base: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Both networks with the same weights."""
    size, patch, depth, half = (224, 16, 8, 512) if base else (32, 4, 2, width // 2)
    shape = {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": max(1, width // 64),
        "intermediate_size": 4 * width, "image_size": size, "patch_size": patch, "layer_norm_eps": 1e-6,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    heads = max(1, half // 32)
    decoder = {
        "decoder_hidden_size": half, "decoder_num_hidden_layers": depth, "decoder_intermediate_size": 4 * half,
        "decoder_num_attention_heads": heads, "norm_pix_loss": True,
    }  # fmt: skip
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**shape, **decoder))
    trunk = open_trunk(ViTConfig(**shape), size=size, channels=3)[0]
    ours, _ = mae(trunk, decoder_width=half, decoder_layers=depth)
    give_positions(theirs)
    copy_weights(theirs, ours)
    return ours.train(), theirs.train()


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 6), ("width", 192), ("batch", 256), ("rounds", 12), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--base", action="store_true", help="ViT-B/16 at 224 pixels, 8 images")
    asked = parser.parse_args()
    if asked.base:
        asked.layers, asked.width, asked.batch = 12, 768, 8
    side, patch = (224, 16) if asked.base else (32, 4)
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    ours, theirs = build(asked.layers, asked.width, asked.base)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=RATE, weight_decay=0.0, betas=(0.9, 0.95))
    our_optimizer = build_optimizer(ours, Recipe(base_learning_rate=RATE, weight_decay=0.0, betas=(0.9, 0.95)))
    images = torch.rand(asked.batch * 4, 3, side, side)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(step)
        return images[(step % 4) * asked.batch :][: asked.batch], torch.rand(asked.batch, (side // patch) ** 2)

    def their_step(step: int) -> float:
        t, noise = batch(step)
        their_optimizer.zero_grad()
        loss = theirs(pixel_values=t, noise=noise).loss
        loss.backward()
        their_optimizer.step()
        return loss.item()

    def our_step(step: int) -> float:
        t, noise = batch(step)
        at, hidden = same_mask(noise, 0.75)
        patches = patchify(t, patch)
        pair = Pair({"patches": gather_tokens(patches, at), "at": at, "hidden": hidden}, gather_tokens(patches, hidden))
        our_optimizer.zero_grad()
        loss = ours(pair)["loss"]
        loss.backward()
        our_optimizer.step()
        return loss.item()

    for step in range(5):
        a, b = their_step(step), our_step(step)
        assert abs(a - b) <= 1e-4 * abs(a), f"step {step}: {a} against {b}"
    print(
        f"losses agree for 5 steps; {asked.layers} layers of {asked.width}, batch {asked.batch}, {asked.threads} threads"
    )
    compare(
        our_step,
        their_step,
        asked.rounds,
        ("withheld", "transformers"),
        what="a step of MAE" + ", ViT-B at 224" * asked.base,
    )


if __name__ == "__main__":
    main()
