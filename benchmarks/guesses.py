"""What `withheld finetune --unlabelled` gains: a classifier from few labels, with and without guessed labels of the rest.

    python benchmarks/guesses.py runs/few-fashion --data fashion-mnist/ [--labels-per-class 10] [--seeds 3] [--steps 1500]

Both are fine-tuned for as many steps, on labels of the training part; the unlabelled items are 10,000 of it. Tested on at most
4,000 items of the test part (else of items held out), which neither has seen in any form. Printed is the accuracy of every draw of
labels, the means and the paired difference, ± half the 95 % interval.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from withheld.data.few import few_label_splits, interval
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.evaluate.classifier import Classifier
from withheld.evaluate.features import as_encoder, features
from withheld.evaluate.finetune import finetune

TESTED, UNLABELLED = 4000, 10_000


def main() -> None:
    """Measures every draw both ways."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("run")
    options.add_argument("--data", required=True)
    options.add_argument("--labels-per-class", type=int, default=10)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--steps", type=int, default=1500)
    given = options.parse_args()
    torch.set_num_threads(1)
    encoder = as_encoder(given.run, "cpu")
    data = prepare(open_source(given.data, True), encoder.size, encoder.channels)
    labels = np.asarray(data.labels)
    found: dict[bool, list[float]] = {False: [], True: []}
    for draw in few_label_splits(labels, data.parts, given.labels_per_class, given.seeds, TESTED):
        own = np.arange(len(labels)) if data.parts is None else np.flatnonzero(data.parts != "test")
        free = np.setdiff1d(own, np.concatenate([draw.train, draw.test]))
        some = np.sort(np.random.default_rng(draw.seed).permutation(free)[:UNLABELLED])
        for guess in found:
            with tempfile.TemporaryDirectory() as folder:
                finetune(
                    encoder, (np.array(data.images[draw.train]), labels[draw.train]), Path(folder) / "model",
                    unlabelled=np.array(data.images[some]) if guess else None, steps=given.steps, seed=draw.seed, device="cpu",
                )  # fmt: skip
                model = Classifier.open(Path(folder) / "model")
            names, _ = model.of_encoded(features(model.encoder, data.images[draw.test]))
            right = np.asarray(names).astype(str) == labels[draw.test].astype(str)
            found[guess].append(100 * float(right.mean()))
            print(f"draw {draw.seed}, {'with' if guess else 'without'} guesses: {found[guess][-1]:.1f} %", flush=True)
    gained = np.array(found[True]) - found[False]
    for name, values in (("without", found[False]), ("with", found[True]), ("difference", gained)):
        print(f"{name}: {np.mean(values):.1f} ± {interval(list(values)):.1f}")


if __name__ == "__main__":
    main()
