"""What unlabelled texts add to a few labels: which book is a paragraph from?

    python benchmarks/text_self_training.py --data books/ [--labels 1,10,100] [--seeds 5] [--most 400]
    python benchmarks/text_self_training.py --data books/ --csv books.csv    # only writes the paragraphs, for pretrain and evaluate

A folder of .txt files, each of them a class; its paragraphs are the items, at most so many a book (the first 20 are left out: title
pages). Each draw tests another 30 % of them; the weights of words and the topics are learned on all others. tf-idf with logistic
regression learns from the labelled ones, self-training from the unlabelled ones too. Printed are means over draws and half their
95 % intervals, and the paired difference.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

import numpy as np

from withheld.data.few import few_label_splits, interval
from withheld.evaluate.self_training import SelfTraining, even
from withheld.evaluate.text_floors import Words, counted, tfidf_probabilities

SHORTEST, LONGEST, FIRST = 150, 1500, 20


def paragraphs(folder: Path, most: int) -> tuple[list[str], np.ndarray, int]:
    """Paragraphs, the number of their book, and how many books there are."""
    texts: list[str] = []
    labels: list[int] = []
    books = 0
    for path in sorted(folder.rglob("*.txt")):
        parts = re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace"))
        whole = [" ".join(part.split()) for part in parts]
        own = [part for part in whole if SHORTEST < len(part) < LONGEST][FIRST : FIRST + most]
        if len(own) >= most // 2:
            texts += own
            labels += [books] * len(own)
            books += 1
    return texts, np.array(labels), books


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", default="1,10,100")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=400)
    parser.add_argument("--csv", type=Path, help="writes text and label of the paragraphs there, and measures nothing")
    given = parser.parse_args()
    texts, labels, books = paragraphs(given.data, given.most)
    if given.csv:
        with given.csv.open("w", encoding="utf-8", newline="") as file:
            rows = [(text, f"book{label:02d}") for text, label in zip(texts, labels, strict=True)]
            csv.writer(file).writerows([("text", "label"), *rows])
        print(f"{len(texts):,} paragraphs of {books} books: {given.csv}")
        return
    print(f"{len(texts):,} paragraphs of {books} books")
    counts = counted(texts)[1]
    print("| accuracy, % | tf-idf | self-training on tf-idf | difference |\n| --- | --- | --- | --- |")
    for per_class in map(int, given.labels.split(",")):
        right = []
        for draw in few_label_splits(labels, None, per_class, given.seeds):
            free = np.setdiff1d(np.arange(len(texts)), draw.test)
            words = Words(counts[free], books)
            x = words.weighted(counts)
            topics = words.topics(x)
            rest = np.setdiff1d(free, draw.train)
            learn, unlabelled, tested = even(topics[draw.train], topics[rest], topics[draw.test])
            found = SelfTraining(books, draw.seed, plain=tfidf_probabilities)
            found.fit(learn, labels[draw.train], unlabelled, x[draw.train])
            plain = tfidf_probabilities(x[draw.train], labels[draw.train], x[draw.test], books, draw.seed)
            told = (plain, found.probabilities(tested, x[draw.test]))
            right.append([100 * float((p.argmax(axis=1) == labels[draw.test]).mean()) for p in told])
            share = draw.test_share
        first, second = np.array(right).T
        columns = [f"{v.mean():.1f} ± {interval(v.tolist(), share):.1f}" for v in (first, second, second - first)]
        print(f"| {per_class} labels a book | " + " | ".join(columns) + " |", flush=True)


if __name__ == "__main__":
    main()
