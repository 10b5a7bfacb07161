"""The VAE beside the common PyTorch example: the same network, loss and batches, and the time to its loss after 10 epochs.

    python benchmarks/vae.py --data mnist/               # a step, side by side: linear layers, and convolutions
    python benchmarks/vae.py --data mnist/ --quality     # time to the test loss that the example has after 10 epochs

Both minimize binary cross-entropy against grey pixels plus KL, as the example does: a loss to compare, and no likelihood.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

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
from withheld.networks.recognition import MOST, RecognitionConfig
from withheld.types import Moment, Pair, Recipe

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


class Convolutions(nn.Module):
    """28 x 28 halved twice (32 and 64 channels), 20 numbers, and doubled twice, as plain torch."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(),
        )  # fmt: skip
        self.mean, self.log_variance = nn.Linear(256, 20), nn.Linear(256, 20)
        self.tell = nn.Sequential(
            nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 3136), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x):
        hidden = self.see(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return torch.sigmoid(self.tell(z).flatten(1)), mean, log_variance


def example_loss(told, x, mean, log_variance):
    return F.binary_cross_entropy(told, x.view(-1, 784), reduction="sum") - 0.5 * torch.sum(
        1 + log_variance - mean.pow(2) - log_variance.exp()
    )


def ours(
    items: ImageItems, widths: tuple[int, ...], latents: int, steps: int, recipe: Recipe, kind: str = "mlp"
) -> Loop:
    """Our loop on a network of these widths, grey pixels as they are."""
    trunk = fresh_trunk(RecognitionConfig(kind, 28, 1, latents, widths), 0)
    objective, _ = vae(trunk, width=widths[0], warmup=0.0, decoder=kind)
    objective.change = None
    if len(widths) == 1:
        objective.network.decoder = nn.Sequential(
            nn.Linear(latents, widths[0]), nn.ReLU(), nn.Linear(widths[0], 784), nn.Unflatten(1, (1, 28, 28))
        )
    objective.fit_parts(items.batch(np.arange(256), torch.device("cpu")))
    return Loop(objective, items, recipe, steps=steps, shards=1)


class Theirs:
    """A plain loop over a loader, as in the example."""

    def __init__(self, network: nn.Module, loader: Any) -> None:
        self.network, self.loader, self.batches = network.train(), loader, iter(loader)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def steps(self, count: int) -> None:
        """So many steps, epoch after epoch."""
        for _ in range(count):
            x = next(self.batches, None)
            if x is None:
                self.batches = iter(self.loader)
                x = next(self.batches)
            self.optimizer.zero_grad()
            told, mean, log_variance = self.network(x[0])
            loss = example_loss(told, x[0], mean, log_variance)
            loss.backward()
            loss.item()
            self.optimizer.step()


def side_by_side(items: ImageItems, loader: Any, rounds: int) -> None:
    """Steps of both, of linear layers and of convolutions; first, that their losses are the same function."""
    recipe = Recipe(base_learning_rate=2e-3, batch_size=BATCH, weight_decay=0.0, normalize=False)
    kinds = (
        ("mlp", (400,), Example(), 60, "a step of a VAE"),
        ("conv", (32, 64), Convolutions(), 10, "a step of a convolutional VAE"),
    )
    for kind, widths, network, count, what in kinds:
        loop, theirs = ours(items, widths, 20, 10**6, recipe, kind), Theirs(network, loader)
        check_same(loop.objective, network, items)
        done = [0]

        def our_steps(number: int, loop: Loop = loop, done: list[int] = done, count: int = count) -> None:
            for _ in range(count):
                loop.step(done[0])
                done[0] += 1

        our_steps(0)
        theirs.steps(count)
        peer = "PyTorch's example" if kind == "mlp" else "plain torch"
        compare(our_steps, lambda number: theirs.steps(count), rounds, ("withheld", peer), what=what)  # noqa: B023 - called at once


def check_same(objective: Any, network: nn.Module, items: ImageItems) -> None:
    """Copies their weights into ours and compares the bound of a batch."""
    t = items.batch(np.arange(64), torch.device("cpu"))
    mine, kept = objective.network, objective.state_dict()
    weights = [p.detach().clone() for p in network.parameters()]
    with torch.no_grad():
        for parameter, weight in zip([*mine.trunk.parameters(), *mine.decoder.parameters()], weights, strict=True):
            parameter.copy_(weight)
        torch.manual_seed(0)
        our = float(objective.total(objective(Pair(t, t)), Moment()))
        torch.manual_seed(0)
        told, mean, log_variance = network(t)
        log_variance = MOST * torch.tanh(log_variance / MOST)
        their = float(example_loss(told, t, mean, log_variance)) / len(t)
    assert abs(our - their) < 1e-3 * their, f"bounds {our} and {their}"
    objective.load_state_dict(kept)


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
    if not arguments.quality:
        side_by_side(items, loader, arguments.rounds)
        return
    example = Example()
    held = torch.from_numpy(np.array(test)).float() / 255
    begun = time.perf_counter()
    Theirs(example, loader).steps(EPOCHS * len(loader))
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
