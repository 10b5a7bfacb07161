"""RGB to Lab of a batch, ours against scikit-image called image by image, as data set classes do.

    python benchmarks/lab.py [--size 96] [--batch 64] [--rounds 12]

First asserts that both say the same. Above 1, ours is faster.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from paired import compare
from skimage.color import rgb2lab

from withheld.color import to_lab


def main() -> None:
    """Prints the ratio."""
    parser = argparse.ArgumentParser()
    for name, value in (("size", 96), ("batch", 64), ("rounds", 12)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (options.batch, options.size, options.size, 3), dtype=np.uint8)

    def ours(_: int) -> torch.Tensor:
        return to_lab(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float() / 255)

    def theirs(_: int) -> torch.Tensor:
        return torch.stack([torch.from_numpy(rgb2lab(image).transpose(2, 0, 1)).float() for image in pixels])

    torch.testing.assert_close(ours(0), theirs(0), atol=0.02, rtol=0)
    compare(ours, theirs, options.rounds, ("ours", "scikit-image"), what="RGB to Lab")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
