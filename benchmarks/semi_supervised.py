"""Unlabelled items against the linear probe: features of an encoder, few labels, the error of both and what the mixture chose.

    python benchmarks/semi_supervised.py RUN DATA --seeds 5
    python benchmarks/semi_supervised.py runs/fashion fashion-mnist/ --labels-per-class 1,10,100

It is the verdict's frozen rows and no more: `withheld evaluate RUN --data DATA` measures them among all others.
"""

from __future__ import annotations

import argparse

import numpy as np

from withheld.data.prepared import prepare
from withheld.evaluate.features import as_encoder, features
from withheld.evaluate.few_label import LinearProbe, nearest_neighbors
from withheld.evaluate.labelled import open_labelled
from withheld.evaluate.semi_supervised import SemiSupervisedMixture

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run")
parser.add_argument("data")
parser.add_argument("--labels-per-class", default="1,10,100")
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--unlabelled", type=int, default=10_000)
asked = parser.parse_args()

encoder = as_encoder(asked.run)
labelled = open_labelled(asked.data, True, [int(n) for n in asked.labels_per_class.split(",")], asked.seeds)
x = features(encoder, prepare(labelled.source, encoder.size, encoder.channels, scale=encoder.scale).images)
more = x[:0]
if labelled.more is not None:
    at = np.random.default_rng(0).permutation(len(labelled.more))[: asked.unlabelled]
    more = features(encoder, prepare(labelled.more.subset(np.sort(at)), encoder.size, encoder.channels).images)
y, classes = labelled.labels, len(labelled.classes)
print(f"{len(more)} unlabelled items, {asked.seeds} draws of the labels; accuracy in %, mean and range")
for count in labelled.counts:
    found: dict[str, list[float]] = {"linear probe": [], "kNN": [], "semi-supervised mixture": []}
    chosen = []
    for seed in labelled.seeds:
        draw = labelled.draws[count, seed]
        learn, known, test = x[draw.train], y[draw.train], x[draw.test]
        mixture = SemiSupervisedMixture(classes, seed).fit(learn, known, more)
        guesses = (
            LinearProbe(classes, seed).fit(learn, known).probabilities(test),
            nearest_neighbors(learn, known, test, classes),
            mixture.probabilities(test),
        )
        for values, guess in zip(found.values(), guesses, strict=True):
            values.append(100 * float((guess.argmax(1) == y[draw.test]).mean()))
        chosen.append(f"{mixture.setting.covariance} {mixture.setting.columns}, weight {mixture.setting.weight:g}")
    for name, values in found.items():
        print(f"{count:4d} a class  {name:24s} {np.mean(values):5.1f}  ({min(values):.1f} to {max(values):.1f})")
    print(f"     the mixture took {'; '.join(sorted(set(chosen)))}")
