"""How soon few labels are enough: `withheld pretrain simclr` against the usual SimCLR example, with the same encoder.

The usual example is a plain loop, written here after the published ones (lightly's SimCLR for CIFAR-10): Pillow transforms of one
image after the other (`views.usual`, without blur), batches of 256, a hidden layer of 2 D, temperature 0.5, SGD at 0.06 with
momentum 0.9 and weight decay 5e-4. Ours is the command with its defaults, timed whole: start, reading and decoding count.

Quality is the accuracy of logistic regression at 10 labels per class, mean over 5 draws; time is CPU seconds of one thread, so that
other work of the machine tells little. Printed is when ours is as good as the example at its end.

    python benchmarks/time_to_quality.py --data cifar10.tar.gz --out rows.jsonl [--epochs 10] [--steps 100,200,400] [--seeds 0,1,2]

Every result is a line of --out; what stands there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from views import MEAN, STD, usual

from withheld.data.few import few_label_splits
from withheld.data.prepared import Prepared, prepare
from withheld.data.source import open_source
from withheld.evaluate.features import as_encoder
from withheld.evaluate.few_label import LinearProbe
from withheld.image_encoder import ImageEncoder
from withheld.networks.open import open_trunk

BATCH, LABELS, DRAWS, TESTED = 256, 10, 5, 4000


def nt_xent(a: Tensor, b: Tensor, temperature: float = 0.5) -> Tensor:
    """The loss of the paper for two views (B, E)."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    cosines = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(cosines, torch.arange(len(z)).roll(len(a)))


def accuracy(encoder: Any, data: Prepared) -> float:
    """Mean over draws of labels, in %."""
    labels = np.asarray(data.labels)
    draws = few_label_splits(labels, data.parts, LABELS, DRAWS, TESTED)
    some = np.unique(np.concatenate([np.concatenate([draw.train, draw.test]) for draw in draws]))
    x = np.concatenate([encoder.transform(np.array(data.images[part])) for part in np.array_split(some, 20)])
    place = {int(item): at for at, item in enumerate(some)}
    found = []
    for draw in draws:
        train, test = ([place[int(i)] for i in part] for part in (draw.train, draw.test))
        probe = LinearProbe(len(data.classes), draw.seed).fit(x[train], labels[draw.train])
        found.append(float((probe.probabilities(x[test]).argmax(axis=1) == labels[draw.test]).mean()))
    return 100 * float(np.mean(found))


def example(data: Prepared, encoder: str, epochs: int, rate: float, seed: int) -> Any:
    """The usual example: (CPU seconds of training so far, accuracy) after every epoch."""
    torch.manual_seed(seed)
    trunk, _ = open_trunk(encoder, size=data.size, channels=3, seed=seed)
    wide = trunk.width
    head = nn.Sequential(nn.Linear(wide, 2 * wide), nn.BatchNorm1d(2 * wide), nn.ReLU(), nn.Linear(2 * wide, 128))
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=5e-4)
    learned = np.flatnonzero(np.asarray(data.parts) != "test") if data.parts is not None else np.arange(len(data))
    opened = [Image.fromarray(np.ascontiguousarray(np.array(data.images[i]).transpose(1, 2, 0))) for i in learned]
    random = np.random.default_rng(seed)
    spent, judge = 0.0, ImageEncoder(trunk, list(MEAN), list(STD), None, "example")
    for _ in range(epochs):
        begun = time.process_time()
        trunk.train()
        order = random.permutation(len(opened))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            pair = [torch.from_numpy(np.stack([usual(opened[i], data.size, 0.0) for i in order[first : first + BATCH]]))
                    for _ in range(2)]  # fmt: skip
            loss = nt_xent(*(head(trunk(view).pooled) for view in pair))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        spent += time.process_time() - begun
        yield spent, accuracy(judge.eval(), data)


def ours(path: str, data: Prepared, encoder: str, steps: int, seed: int) -> tuple[float, float]:
    """CPU seconds of the whole command, with a cache of its own, which decoding has to fill; and accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "withheld", "pretrain", "simclr", "--data", path, "--out", str(run), "--encoder", encoder,
                   "--size", str(data.size), "--steps", str(steps), "--seed", str(seed), "--quiet"]  # fmt: skip
        subprocess.run(command, check=True, env=os.environ | {"WITHHELD_CACHE": str(Path(folder) / "cache")})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return spent, accuracy(as_encoder(run, "cpu"), data)


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", default="conv-nano")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10, help="of the example")
    parser.add_argument("--rate", type=float, default=0.06, help="of the example")
    parser.add_argument("--steps", default="100,200,400", help="of ours, a run each")
    parser.add_argument("--seeds", default="0")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = prepare(open_source(given.data, True), given.size, 3)
    text = given.out.read_text(encoding="utf-8") if given.out.is_file() else ""
    rows = [json.loads(line) for line in text.splitlines()]

    def keep(**row: Any) -> None:
        rows.append(row)
        print(row, flush=True)
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    name, seeds = f"example, rate {given.rate:g}", [int(seed) for seed in given.seeds.split(",")]
    done = {(row["who"], row["seed"], row["length"]) for row in rows}
    for seed in seeds:
        for steps in map(int, given.steps.split(",")):
            if ("withheld", seed, steps) not in done:
                spent, value = ours(given.data, data, given.encoder, steps, seed)
                keep(who="withheld", seed=seed, length=steps, seconds=spent, accuracy=value)
        if (name, seed, given.epochs) not in done:
            for epoch, (spent, value) in enumerate(example(data, given.encoder, given.epochs, given.rate, seed), 1):
                keep(who=name, seed=seed, length=epoch, seconds=spent, accuracy=value)
    for seed in seeds:
        of = {who: [row for row in rows if row["who"] == who and row["seed"] == seed] for who in ("withheld", name)}
        end = max(of[name], key=lambda row: row["length"])
        soon = [row for row in of["withheld"] if row["accuracy"] >= end["accuracy"]]
        told = f"seed {seed}: the example has {end['accuracy']:.1f} % after {end['seconds']:.0f} CPU s; ours "
        if soon:
            row = min(soon, key=lambda row: row["seconds"])
            told += f"{row['accuracy']:.1f} % after {row['seconds']:.0f}: {end['seconds'] / row['seconds']:.1f} times sooner"
        print(told if soon else told + "was not as good: name more --steps")


if __name__ == "__main__":
    main()
