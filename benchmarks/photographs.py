"""An epoch of crops of 224 pixels from a folder of photographs, beside opening each with Pillow, side by side on one core.

The other opens every photograph in every epoch, cuts and resizes it by Pillow and normalizes it. Ours decodes into the cache
once, at a fraction of the size where the photograph is large enough (JPEG), and crops from there: the first epoch does both, a
later one crops only.

    python benchmarks/photographs.py --photos photos/ [--count 200] [--rounds 8]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from paired import compare
from PIL import Image
from views import ASPECT, MEAN, SCALE, STD, cut, normalized

from withheld.data.image import ImageItems
from withheld.data.prepared import prepare
from withheld.data.sample import spaced
from withheld.data.source import Source, open_source
from withheld.splits.views import View

SIZE, KEPT, BATCH = 224, 298, 32
"""Pixels of a crop, and of what is kept: a third more, as in a run."""


def crops(items: ImageItems) -> None:
    """One of every image."""
    view = View(SIZE, scale=SCALE, aspect=ASPECT, color=0.0, grey=0.0, mean=MEAN, std=STD)
    for index in np.array_split(np.arange(len(items)), -(-len(items) // BATCH)):
        found = view(items.batch(index, torch.device("cpu")))
        assert found.shape[1:] == (3, SIZE, SIZE)


def kept(source: Source) -> ImageItems:
    """The photographs from a cache of their own, as bytes."""
    data = prepare(source, KEPT, 3)
    items = ImageItems(data, MEAN, STD)
    items.as_bytes = True
    return items


def main() -> None:
    """Runs both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # both are to have one core; decoding would take all
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    source = open_source(asked.photos)
    source = source.subset(spaced(len(source), asked.count))

    def theirs(number: int) -> int:
        for name in source.names:
            with Image.open(Path(asked.photos) / name) as image:
                normalized(cut(image.convert("RGB"), SIZE))
        return len(source)

    def first(number: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["WITHHELD_CACHE"] = folder
            crops(kept(source))
        return len(source)

    compare(
        first, theirs, asked.rounds, ("withheld", "Pillow, each epoch"), "photographs", "a first epoch of photographs"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WITHHELD_CACHE"] = folder
        items = kept(source)

        def later(number: int) -> int:
            crops(items)
            return len(source)

        compare(
            later,
            theirs,
            asked.rounds,
            ("withheld", "Pillow, each epoch"),
            "photographs",
            "a later epoch of photographs",
        )


if __name__ == "__main__":
    main()
