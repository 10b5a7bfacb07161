"""Bernoulli mixtures on binarized MNIST: test log-likelihood in nats an image, for K = 10 and K = 500.

    python benchmarks/bernoulli_mixture.py --data mnist/

Grey pixels become bits once, stochastically, with the stated seed. About 4 minutes on one core. The NADE paper's table
(Larochelle and Murray 2011) has -168.95 and -137.64 with their own binarization.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from withheld import BernoulliMixture
from withheld.data.prepared import prepare
from withheld.data.source import open_source


def bits(data: str, part: str, seed: int) -> np.ndarray:
    """(n, pixels) of 0 and 1."""
    source = open_source(data)
    images = np.asarray(prepare(source.part(part) or source, 28, 1).images)
    grey = images.reshape(len(images), -1) / np.float32(255)
    return (np.random.default_rng(seed).random(grey.shape, np.float32) < grey).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--components", type=int, nargs="+", default=[10, 500])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train, test = bits(arguments.data, "train", arguments.seed), bits(arguments.data, "test", arguments.seed + 1)
    print(f"{len(train):,} + {len(test):,} images, binarized with seeds {arguments.seed} and {arguments.seed + 1}")
    for count in arguments.components:
        begun = time.perf_counter()
        start = "kmeans" if count < 50 else "random"
        mixture = BernoulliMixture(count, tol=1e-2, max_iter=60, init_params=start, random_state=arguments.seed).fit(
            train
        )
        seconds, some = time.perf_counter() - begun, mixture.score(train[:10_000])
        print(
            f"K = {count}: {mixture.score(test):.2f} nats an image on the test set, {some:.2f} on 10,000 of training,",
            end=" ",
        )
        print(f"{mixture.n_iter_} passes, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
