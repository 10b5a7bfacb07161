"""Pictures of masks that were followed, for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from withheld.data.davis import open_davis
from withheld.evaluate.canvas import strip
from withheld.evaluate.latent_pictures import entry
from withheld.evaluate.pictures import keep
from withheld.evaluate.tracking.davis import Tracked
from withheld.evaluate.tracking.track import overlaid, write_video

SHOWN, WIDTH, MOST = 5, 220, 8
FILMS, LENGTH, PIXELS, RATE = 3, 40, 480, 24.0
"""Moving pictures in the report, their frames at most, and the width and rate of the videos beside it."""


def draw_tracked(tracked: Tracked, data: str | Path, folder: Path) -> Path:
    """A strip for every sequence: five frames from the first to the last, with the mask that was followed; some move, too.

    All of them lie as videos in `folder`/tracked.
    """
    entries, films = [], []
    for sequence in open_davis(data)[0][:MOST]:
        found = tracked.masks.get(sequence.name)
        if found is None:
            continue
        small = [smaller(image, PIXELS) for image in overlaid(sequence.images(), found)]
        write_video(folder / "tracked" / f"{sequence.name}.mp4", map(np.asarray, small), RATE)
        tiles = [smaller(np.asarray(image), WIDTH).convert("RGBA") for image in small]
        at = np.linspace(0, len(found) - 1, SHOWN).round().astype(int)
        score = tracked.rows["pretrained"][sequence.name].j_and_f
        title = f"{sequence.name}, J&F {100 * score:.0f}"
        said = "The mask of the first frame was given; the others were found by pointing at the likest places before."
        entries.append(entry("tracking", strip([tiles[i] for i in at]), title, said, {}))
        shown = tiles[:: -(-len(tiles) // LENGTH)]
        films.append(
            {
                **entry("tracking_moving", tiles[0], title, "All of them as videos: tracked/ in the run folder."),
                "picture": shown,
            }
        )
    return keep(folder, entries + films[:FILMS], sections=["tracking", "tracking_moving"])


def smaller(image_HW3: NDArray[np.uint8], width: int) -> Image.Image:
    """The picture at most so wide."""
    picture = Image.fromarray(image_HW3)
    if picture.width <= width:
        return picture
    return picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)
