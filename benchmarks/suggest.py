"""Are labels of suggested items worth more than labels of items drawn at random?

As many labels in all, then logistic regression (C = 10) on the features of a run, tested on items that nobody chose from.
Random draws and clusters are seeded; the interval is over them (95 %, Student's t), that of a difference by Welch.

    withheld pretrain mae --data fashion-mnist/ --out runs/fashion --minutes 10
    python benchmarks/suggest.py runs/fashion fashion-mnist/
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import t as student

from withheld.data.few import TEST_SHARE, interval
from withheld.evaluate.choose import WAYS, unit_features
from withheld.evaluate.features import as_encoder
from withheld.evaluate.few_label import FIXED, LinearProbe
from withheld.evaluate.judged import judged
from withheld.evaluate.pool import Pool, kept_of, open_pool, twins


def opened(run: str, data: str, items: int) -> tuple[Pool, np.ndarray, np.ndarray]:
    """A pool of labelled items, and places in it: what is chosen from, without near-duplicates, and what is tested."""
    encoder = as_encoder(run)
    source = judged(encoder).open(data, labels=True)
    known = np.flatnonzero(source.labels >= 0)
    random = np.random.default_rng(0)
    mixed = random.permutation(known)
    parts = np.full(len(source), "") if source.parts is None else source.parts
    test = mixed[parts[mixed] == "test"]
    if not len(test):
        test = mixed[: int(TEST_SHARE * len(mixed))]
    free = np.setdiff1d(mixed[parts[mixed] != "test"], test)
    some = np.concatenate([random.permutation(free)[:items], test[: items // 2]])
    source = source.subset(np.sort(some))
    pool = open_pool(encoder, source, lambda event: None, most=None)
    tested = np.isin(np.sort(some)[pool.at], test)
    left = kept_of(twins(pool), len(pool.at)) & ~tested
    print(f"{left.sum():,} items to choose from, {tested.sum():,} to test on, {len(source.classes)} classes")
    return pool, np.flatnonzero(left), np.flatnonzero(tested)


def accuracies(pool: Pool, left: np.ndarray, tested: np.ndarray, how: str, count: int, seeds: int) -> np.ndarray:
    """One accuracy a seed, in %; chance where the chosen items are all of one class."""
    labels = pool.source.labels[pool.at]
    unit, found = unit_features(pool.values[left]), []
    for seed in range(seeds):
        chosen = left[WAYS[how](unit, count, np.zeros(0, np.int64), seed)]
        if len(np.unique(labels[chosen])) < 2:
            found.append(100 * float((labels[tested] == labels[chosen[0]]).mean()))
            continue
        probe = LinearProbe(len(pool.source.classes), seed, FIXED).fit(pool.values[chosen], labels[chosen])
        guess = probe.probabilities(pool.values[tested]).argmax(axis=1)
        found.append(100 * float((guess == labels[tested]).mean()))
    return np.array(found)


def gap(ours: np.ndarray, random: np.ndarray) -> str:
    """The difference of two means with its 95 % interval (Welch)."""
    a, b = ours.var(ddof=1) / len(ours), random.var(ddof=1) / len(random)
    freedom = (a + b) ** 2 / max(a**2 / (len(ours) - 1) + b**2 / (len(random) - 1), 1e-12)
    mean, half = ours.mean() - random.mean(), student.ppf(0.975, max(freedom, 1)) * np.sqrt(a + b)
    return f"{mean:+.1f} ({mean - half:.1f} to {mean + half:.1f})"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--counts", default="10,50,100", help="labels in all")
    parser.add_argument("--draws", type=int, default=20, help="of random items")
    parser.add_argument("--seeds", type=int, default=5, help="of the other ways")
    parser.add_argument("--items", type=int, default=10_000, help="to choose from")
    given = parser.parse_args()
    counts = [int(count) for count in given.counts.split(",")]
    pool, left, tested = opened(given.run, given.data, given.items)
    cells = {
        how: {
            n: accuracies(pool, left, tested, how, n, given.draws if how == "random" else given.seeds) for n in counts
        }
        for how in ("random", "typical", "coverage")
    }
    print("| accuracy, % | " + " | ".join(f"{n} labels" for n in counts) + " |\n| --- |" + " --- |" * len(counts))
    for how, row in cells.items():
        shown = [f"{row[n].mean():.1f} ± {interval(row[n].tolist()):.1f}" for n in counts]
        print(f"| {how} | " + " | ".join(shown) + " |")
    for how in ("typical", "coverage"):
        print(f"| {how} over random | " + " | ".join(gap(cells[how][n], cells["random"][n]) for n in counts) + " |")
    print(f"\n{given.draws} draws of random items, {given.seeds} seeds of the others; ± half the 95 % interval.")


if __name__ == "__main__":
    main()
