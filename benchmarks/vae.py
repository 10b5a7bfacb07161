"""The VAE beside the common PyTorch example: the same network, loss and batches, and the time to its loss after 10 epochs.

    python benchmarks/vae.py --data mnist/               # images a second, side by side
    python benchmarks/vae.py --data mnist/ --quality     # time to the test loss that the example has after 10 epochs

Both minimize binary cross-entropy against grey pixels plus KL, as the example does: a loss to compare, and no likelihood.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from paired import compare
from torch import nn

from withheld.data.image import ImageItems
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.learn.gradient import Loop
from withheld.losses.latent import NegativeBound
from withheld.methods.vae import vae
from withheld.networks.image import fresh_trunk
from withheld.networks.recognition import RecognitionConfig
from withheld.types import Recipe

BATCH, EPOCHS = 128, 10
STEPS, RATE = 1600, 2.4e-2


class Example(nn.Module):
    """784-400-20-400-784, as in pytorch/examples."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x):
        hidden = F.relu(self.fc1(x.view(-1, 784)))
        mean, log_variance = self.fc21(hidden), self.fc22(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mean, log_variance


def example_loss(told, x, mean, log_variance):
    return F.binary_cross_entropy(told, x.view(-1, 784), reduction="sum") - 0.5 * torch.sum(
        1 + log_variance - mean.pow(2) - log_variance.exp()
    )


def ours(items: ImageItems, widths: tuple[int, ...], latents: int, steps: int, recipe: Recipe) -> Loop:
    """Our loop on a network of these widths, grey pixels as they are."""
    trunk = fresh_trunk(RecognitionConfig("mlp", 28, 1, latents, widths), 0)
    objective, _ = vae(trunk, width=widths[0], warmup=0.0)
    objective.change = None
    if len(widths) == 1:
        objective.network.decoder = nn.Sequential(
            nn.Linear(latents, widths[0]), nn.ReLU(), nn.Linear(widths[0], 784), nn.Unflatten(1, (1, 28, 28))
        )
    objective.fit_parts(items.batch(np.arange(256), torch.device("cpu")))
    return Loop(objective, items, recipe, steps=steps, shards=1)


@torch.no_grad()
def test_loss(objective, images: torch.Tensor) -> float:
    """Nats an image: cross-entropy and KL, z drawn once."""
    torch.manual_seed(0)
    loss = NegativeBound()
    return sum(float(sum(loss(objective.network(x), x).values())) * len(x) for x in images.split(1000)) / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=RATE)
    arguments = parser.parse_args()
    source = open_source(arguments.data)
    train, test = (np.asarray(prepare(source.part(p), 28, 1).images) for p in ("train", "test"))
    items = ImageItems(train, [0.0], [1.0])
    grey = torch.from_numpy(np.array(train)).float() / 255
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(grey), batch_size=BATCH, shuffle=True)
    torch.manual_seed(0)
    example = Example().train()
    optimizer = torch.optim.Adam(example.parameters(), lr=1e-3)
    batches = iter(loader)

    def their_steps(count: int) -> None:
        nonlocal batches
        for _ in range(count):
            x = next(batches, None)
            if x is None:
                batches = iter(loader)
                x = next(batches)
            optimizer.zero_grad()
            told, mean, log_variance = example(x[0])
            loss = example_loss(told, x[0], mean, log_variance)
            loss.backward()
            loss.item()
            optimizer.step()

    if not arguments.quality:
        loop = ours(
            items,
            (400,),
            20,
            10**6,
            Recipe(base_learning_rate=2e-3, batch_size=BATCH, weight_decay=0.0, normalize=False),
        )
        done = [0]

        def our_steps(number: int) -> None:
            for _ in range(60):
                loop.step(done[0])
                done[0] += 1

        our_steps(0)
        their_steps(60)
        compare(
            our_steps,
            lambda number: their_steps(60),
            arguments.rounds,
            ("withheld", "PyTorch's example"),
            what="a step of a VAE",
        )
        return
    held = torch.from_numpy(np.array(test)).float() / 255
    begun = time.perf_counter()
    their_steps(EPOCHS * len(loader))
    theirs = time.perf_counter() - begun
    with torch.no_grad():
        torch.manual_seed(0)
        target = sum(float(example_loss(*_shuffled(example(x), x))) for x in held.split(1000)) / len(held)
    print(f"example: {target:.2f} on the test set after {EPOCHS} epochs, {theirs:.1f} s")
    steps = arguments.steps
    recipe = Recipe(
        base_learning_rate=arguments.rate, batch_size=BATCH, betas=(0.9, 0.99), weight_decay=0.0, warmup=0.03,
        schedule="linear", clip=None, normalize=False,
    )  # fmt: skip
    loop = ours(items, (400,), 20, steps, recipe)
    begun = time.perf_counter()
    for step in range(steps):
        loop.step(step)
    taken = time.perf_counter() - begun
    found = test_loss(loop.objective.eval(), held)
    print(f"withheld: {found:.2f} after {steps} steps ({steps * BATCH / len(train):.1f} epochs), {taken:.1f} s")
    print(f"ratio of times {theirs / taken:.2f}, {'reached' if found <= target else 'NOT reached'}")


def _shuffled(output, x):
    told, mean, log_variance = output
    return told, x, mean, log_variance


if __name__ == "__main__":
    main()
