"""Clips with masks in the layout of DAVIS: JPEGImages/[480p/]SEQUENCE/*.jpg, Annotations/[480p/]SEQUENCE/*.png."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from withheld.data.decode import decode
from withheld.data.folder import is_hidden
from withheld.errors import InputError
from withheld.wording import plural

LEAST_PART = 0.05
"""Of all that a mask marks, the least that a level of grey marks where it is an object of its own."""
FRAMES = (".jpg", ".jpeg", ".png")


@dataclass
class Sequence:
    """A clip with its masks.

    Attributes:
        name: of its folder. frames, masks: files, in order; frames without a mask have None.
    """

    name: str
    frames: list[Path]
    masks: list[Path | None]

    def images(self, size: int | None = None) -> NDArray[np.uint8]:
        """(T, H, W, 3), squashed to a square where a size is given."""
        found = []
        for path in self.frames:
            image = decode(path, size)
            if not isinstance(image, Image.Image):
                raise InputError(f"{path}: frames are 8 bit images")
            image = image.convert("RGB")
            found.append(np.asarray(image if size is None else image.resize((size, size), Image.Resampling.BILINEAR)))
        return np.stack(found)

    def ids(self) -> tuple[NDArray[np.int64], list[int]]:
        """Numbers of objects (T, H, W), -1 where a frame has no mask, and the values that they had in the files.

        Raises:
            InputError: a mask of another size, or none in the first frame.
        """
        raw = [None if path is None else read_mask(path) for path in self.masks]
        first = raw[0]
        if first is None or not first.any():
            raise InputError(f"{self.masks[0] or self.name}: the mask of the first frame marks nothing to follow")
        values = [int(v) for v in np.unique(first) if v]
        found = np.full((len(raw), *first.shape), -1, np.int64)
        for at, mask in enumerate(raw):
            if mask is None:
                continue
            if mask.shape != first.shape:
                raise InputError(f"{self.masks[at]}: the mask has {mask.shape}, the first one {first.shape}")
            found[at] = 0
            for number, value in enumerate(values, 1):
                found[at][mask == value] = number
        return found, values


def read_mask(path: Path) -> NDArray[np.int64]:
    """(H, W) numbers of objects, 0 for none; of a picture in color or grey everything that is not black is one object.

    But levels of grey that each mark a good part are objects of their own, as tools for annotation save them; edges are less.

    Raises:
        InputError: where it cannot be read.
    """
    try:
        with Image.open(path, formats=("PNG", "GIF", "BMP", "TIFF")) as image:
            image.load()
            if image.mode == "P" or image.mode.startswith("I"):  # 16 bits hold numbers, too
                return np.asarray(image).astype(np.int64)
            values, grey = _brightest(image), image.mode == "L"
    except UnidentifiedImageError:
        raise InputError(
            f"{path}: this mask cannot be read: it is no PNG (nor GIF, BMP, TIFF); JPEG and the like smear its edges"
        ) from None
    except Exception as error:  # damaged files raise anything
        raise InputError(f"{path}: this mask cannot be read: {error}; give a PNG") from None
    few, count = np.unique(values, return_counts=True)
    marked = count[few > 0]
    if grey and len(marked) and marked.min() >= LEAST_PART * marked.sum():
        return values
    return values if len(few) <= 2 or few.max() < 32 else (values > few.max() / 2).astype(np.int64)


def _brightest(image: Image.Image) -> NDArray[np.int64]:
    """(H, W): grey, or the brightest channel, so that red is no darker than white; what is transparent is black."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return np.asarray(image.convert("L")).astype(np.int64)
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, image.convert("RGBA")))[..., :3].max(axis=2).astype(np.int64)


def open_davis(folder: str | Path) -> tuple[list[Sequence], list[str]]:
    """The sequences of a folder, and what there is to say of those that were left out.

    Raises:
        InputError: where the folder has not this layout, or no sequence is whole.
    """
    root = Path(folder)
    frames, masks = _below(root, "JPEGImages"), _below(root, "Annotations")
    found, notes = [], []
    for place in sorted(path for path in frames.iterdir() if path.is_dir() and not is_hidden(path.name)):
        images = sorted(p for p in place.iterdir() if p.suffix.lower() in FRAMES and not is_hidden(p.name))
        if len(images) < 3:
            notes.append(f"{place.name}: {plural(len(images), 'frame')}, three are needed")
            continue
        known = {p.stem: p for p in (masks / place.name).glob("*.png")} if (masks / place.name).is_dir() else {}
        if images[0].stem not in known:
            notes.append(f"{place.name}: no mask of its first frame, {masks / place.name / images[0].stem}.png")
            continue
        found.append(Sequence(place.name, images, [known.get(p.stem) for p in images]))
    if not found:
        raise InputError(f"{root}: no sequence with frames and masks. {'; '.join(notes[:3])}")
    return found, notes


def _below(root: Path, name: str) -> Path:
    for place in (root / name, root / "DAVIS" / name):
        if place.is_dir():
            inner = [p for p in place.iterdir() if p.is_dir() and not is_hidden(p.name)]
            if len(inner) == 1 and not any(p.suffix.lower() in FRAMES for p in inner[0].iterdir()):
                return inner[0]
            return place
    held = ", ".join(sorted(p.name for p in root.iterdir())[:5]) if root.is_dir() else "no such folder"
    raise InputError(
        f"{root}: no folder {name} (found: {held}). Give a folder with JPEGImages/SEQUENCE/*.jpg and "
        "Annotations/SEQUENCE/*.png, as DAVIS has them"
    )
