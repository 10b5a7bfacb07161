"""Pictures of masks that were followed, for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from withheld.data.davis import open_davis
from withheld.evaluate.canvas import strip
from withheld.evaluate.latent_pictures import entry
from withheld.evaluate.pictures import keep
from withheld.evaluate.tracking.davis import Tracked
from withheld.evaluate.tracking.track import overlaid

SHOWN, WIDTH, MOST = 5, 220, 8


def draw_tracked(tracked: Tracked, data: str | Path, folder: Path) -> Path:
    """A strip for every sequence: five frames from the first to the last, with the mask that was followed."""
    entries = []
    for sequence in open_davis(data)[0][:MOST]:
        found = tracked.masks.get(sequence.name)
        if found is None:
            continue
        at = np.linspace(0, len(found) - 1, SHOWN).round().astype(int)
        frames = sequence.images()[at]
        tiles = []
        for image in overlaid(frames, found[at]):
            height = round(WIDTH * image.shape[0] / image.shape[1])
            tiles.append(Image.fromarray(image).convert("RGBA").resize((WIDTH, height), Image.Resampling.LANCZOS))
        score = tracked.rows["pretrained"][sequence.name].j_and_f
        said = "The mask of the first frame was given; the others were found by pointing at the likest places before."
        entries.append(entry("tracking", strip(tiles), f"{sequence.name}, J&F {100 * score:.0f}", said, {}))
    return keep(folder, entries, sections=["tracking"])
