"""Where objects may be: selective search (Uijlings et al. 2013), computed once an image and kept in the prepared cache."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from withheld.data import cache
from withheld.data.decode import decode
from withheld.data.image import to_array
from withheld.data.source import digest
from withheld.data.work import in_order
from withheld.errors import InputError
from withheld.evaluate.features import Listen

FORMAT = "2"


@dataclass(frozen=True)
class SelectiveSearch:
    """How regions are proposed.

    Attributes:
        side: the longer side of the image the search sees, pixels; its time grows with the square.
        base, step, smooth: of the segmentation it begins with (Felzenszwalb and Huttenlocher 2004): the scale of its two runs,
            and the blur before. OpenCV's 150, 150 and 0.8 are made for images of 500 pixels and miss objects in smaller ones.
        most: regions of an image; where there are more, a sample seeded by the image stays.
        least: a region's shorter side, pixels of the searched image.
        quality: more colors, scales and similarities; three times as slow.
    """

    side: int = 240
    base: int = 30
    step: int = 60
    smooth: float = 0.6
    most: int = 2000
    least: int = 4
    quality: bool = False

    def __call__(self, pixels_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(R, 4) continuous boxes as shares of width and height, in a fixed order.

        Raises:
            InputError: where opencv-contrib is missing.
        """
        search = segmentation().createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(pixels_HW3[..., ::-1]))
        if self.quality:
            search.switchToSelectiveSearchQuality(self.base, self.step, self.smooth)
        else:
            search.switchToSelectiveSearchFast(self.base, self.step, self.smooth)
        found = np.asarray(search.process(), np.int64).reshape(-1, 4)
        # OpenCV ranks regions by C's rand(), so the order says nothing: sorted, and sampled by a seed of our own
        found = np.unique(found[(found[:, 2:] >= self.least).all(axis=1)], axis=0)
        if len(found) > self.most:
            seed = int(hashlib.sha256(pixels_HW3.tobytes()).hexdigest()[:12], 16)
            found = found[np.sort(np.random.default_rng(seed).permutation(len(found))[: self.most])]
        height, width = pixels_HW3.shape[:2]
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)
        return (corners / [width, height, width, height]).clip(0, 1).astype(np.float32)

    def see(self, path: Path) -> NDArray[np.uint8]:
        """The image of a file as the search sees it. Raises anything."""
        image = decode(path, self.side)
        if not isinstance(image, Image.Image):
            return to_array(image, self.side, 3).transpose(1, 2, 0)
        plain = image.convert("RGB")
        scale = self.side / max(plain.size)
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in plain.size)
            plain = plain.resize((width, height), Image.Resampling.BOX)
        return np.asarray(plain)


def segmentation() -> Any:
    """OpenCV's module of region proposals.

    Raises:
        InputError: where it is not installed.
    """
    try:
        from cv2.ximgproc import segmentation as found
    except ImportError as error:
        raise InputError(
            f'region proposals need OpenCV with its contributed modules ({error}): pip install "withheld[detection]"; '
            "where another opencv is installed, remove it first, since they share one name"
        ) from None
    return found


def propose(paths: list[Path], search: SelectiveSearch, listen: Listen) -> list[NDArray[np.float32] | str]:
    """Regions of every file, or why there are none; cached by the file's content and the settings.

    Args:
        listen: is told {"kind": "proposals", "done", "total"}.
    """
    segmentation()
    name = "proposals-" + digest([FORMAT, *(f"{key}={value}" for key, value in asdict(search).items())])[:20]
    found: list[NDArray[np.float32] | str] = []
    with cache.locked(name) as entry:
        entry.mkdir(exist_ok=True)
        (entry / "prepared.json").touch()
        cache.touch(entry)
        cache.make_room(16 * search.most * len(paths), name)
        for regions in in_order(paths, lambda path: _one(path, search, entry), torch.get_num_threads()):
            found.append(regions)
            listen({"kind": "proposals", "done": len(found), "total": len(paths)})
    return found


def _one(path: Path, search: SelectiveSearch, entry: Path) -> NDArray[np.float32] | str:
    try:
        kept = entry / (hashlib.sha256(path.read_bytes()).hexdigest()[:40] + ".npy")
        if kept.is_file():
            try:
                return np.load(kept, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                kept.unlink(missing_ok=True)  # cut short by a full disk: made again
        regions = search(search.see(path))
    except InputError:
        raise
    except Exception as error:  # damaged files raise anything
        return f"cannot be read ({error}): replace the image"
    aside = kept.with_name(f"{kept.stem}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            np.save(file, regions)
        os.replace(aside, kept)
    except OSError as error:
        raise cache.cannot_write(entry, error) from error
    return regions
