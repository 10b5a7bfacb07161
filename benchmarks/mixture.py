"""EM and mean-field steps against scikit-learn in float64, from the same start, with equal log-likelihoods.

python benchmarks/mixture.py            # 100,000 rows, 16 columns, 10 components, full covariances, 20 passes
python benchmarks/mixture.py --memory   # peak memory of 10 million rows, memory-mapped
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import warnings
from pathlib import Path

import numpy as np
from paired import compare
from sklearn.mixture import BayesianGaussianMixture as TheirBayesian
from sklearn.mixture import GaussianMixture as Theirs

from withheld import BayesianGaussianMixture, GaussianMixture

ROWS, COLUMNS, COMPONENTS, PASSES = 100_000, 16, 10, 20


def rows(count: int = ROWS, seed: int = 0) -> np.ndarray:
    """Overlapping heaps with covariances of their own."""
    random = np.random.default_rng(seed)
    turn = np.eye(COLUMNS) + 0.15 * random.normal(size=(COMPONENTS, COLUMNS, COLUMNS))
    z = random.integers(COMPONENTS, size=count)
    away = np.einsum("nij,nj->ni", turn[z], random.normal(size=(count, COLUMNS)))
    return away + 2 * random.normal(size=(COMPONENTS, COLUMNS))[z]


def speed(rounds: int) -> None:
    """Both, and whether they agree."""
    X = rows()
    first = GaussianMixture(COMPONENTS, max_iter=1, tol=0).fit(X[:5000])
    start = {
        "weights_init": first.weights_,
        "means_init": first.means_,
        "precisions_init": np.linalg.inv(first.covariances_),
    }
    settings = {"max_iter": PASSES, "tol": 0}
    ours = lambda number: GaussianMixture(COMPONENTS, **settings, **start).fit(X)  # noqa: E731
    theirs = lambda number: Theirs(COMPONENTS, **settings, **start).fit(X)  # noqa: E731
    a, b = ours(0), theirs(0)
    print(f"EM: tiles of {a.model_.exact}, log-likelihood {a.score(X):.9f}, scikit-learn {b.score(X):.9f} nats a row")
    assert abs(a.score(X) / b.score(X) - 1) < 1e-6
    compare(ours, theirs, rounds, ("withheld", "scikit-learn"), what="EM of a Gaussian mixture")

    bayes = {"weight_concentration_prior": 1.0, "max_iter": PASSES, "tol": 0, "random_state": 0}
    ours = lambda number: BayesianGaussianMixture(COMPONENTS, **bayes).fit(X)  # noqa: E731
    theirs = lambda number: TheirBayesian(  # noqa: E731
        n_components=COMPONENTS,
        weight_concentration_prior_type="dirichlet_distribution",
        init_params="k-means++",
        **bayes,
    ).fit(X)
    print("mean field: each with its own start, k-means for ours, k-means++ for theirs")
    compare(ours, theirs, rounds, ("withheld", "scikit-learn"), what="mean field of a Gaussian mixture")


def memory(count: int = 10_000_000) -> None:
    """Peak memory of a pass over a memory-mapped file."""
    from withheld import pretrain

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, COLUMNS))
        for at in range(0, count, ROWS):
            file[at : at + ROWS] = rows(ROWS, seed=at)
        file.flush()
        del file
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pretrain(
            "mixture", str(path), Path(folder) / "run", settings={"components": COMPONENTS}, steps=2, pictures=False
        )
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        print(
            f"{count:,} rows of {COLUMNS}: peak {after / 1e6:.2f} GB ({before / 1e6:.2f} before), file pages included; {own}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    memory() if arguments.memory else speed(arguments.rounds)
