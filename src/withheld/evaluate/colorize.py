"""Colors for grey pictures: a run of colorization tells ab, the picture keeps its own lightness at full size.

Shapes: C channels, H W pixels of the picture, S side that the network sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from withheld.color import lightness, to_srgb
from withheld.data.decode import Decoded, decode
from withheld.data.image import to_array, to_color
from withheld.data.source import open_source
from withheld.data.work import reason_of
from withheld.errors import InputError
from withheld.evaluate.features import Listen, printable_name, silent
from withheld.learn.checkpoint import replacing
from withheld.losses.color import AnnealedColor
from withheld.run import Run, open_run, pick_device

PICTURES = (".png", ".jpg", ".jpeg")
ROWS = 256
"""Rows of a picture that are made at once: whole photographs in floats would fill the memory."""


class Colorizing:
    """A run of colorization, ready for pictures.

    Args:
        run: a run folder.
        device: "auto", "cpu", "cuda", "mps".
        temperature: of the annealed mean; None takes the run's.

    Raises:
        InputError: it is a run of another method, or one without a temperature.
    """

    def __init__(self, run: str | Path | Run, device: str = "auto", temperature: float | None = None) -> None:
        run = run if isinstance(run, Run) else open_run(run)
        if run.settings["method"] != "colorization":
            raise InputError(
                f"{run.folder}: a run of {run.settings['title']} tells no colors; a run of colorization does"
            )
        self.encoder = run.encoder()
        self.objective = run.objective().to(pick_device(device))
        self.device = next(self.objective.parameters()).device
        if temperature is not None:
            if not isinstance(self.objective.target, AnnealedColor):
                raise InputError(f"--temperature {temperature}: {run.folder} regresses ab, which has no temperature")
            self.objective.loss.temperature = temperature

    @torch.no_grad()
    def picture(self, image: Decoded) -> NDArray[np.uint8]:
        """An image of any size and mode in color, (H, W, 3): its own lightness, the colors that the network tells."""
        whole = to_color(image, self.encoder.scale)
        small = to_array(image, self.encoder.size, 3, self.encoder.scale)
        x = self.objective.split.full(self.encoder_input(small))
        blank = torch.empty(1, 1, 1, 1, device=self.device).expand(1, 2, *whole.shape[1:])
        ab = self.objective.target.undo(self.objective.network(x), blank)
        strips = [self._strip(whole, ab, first) for first in range(0, whole.shape[1], ROWS)]
        return np.concatenate(strips)

    def encoder_input(self, small: NDArray[np.uint8]) -> Any:
        """(1, 3, S, S) in 0..1."""
        return torch.from_numpy(small[None].copy()).to(self.device).float() / 255

    def _strip(self, whole: NDArray[np.uint8], ab: Any, first: int) -> NDArray[np.uint8]:
        part = torch.from_numpy(whole[None, :, first : first + ROWS].copy()).to(self.device).float() / 255
        lab = torch.cat([lightness(part), ab[:, :, first : first + ROWS]], dim=1)
        return (to_srgb(lab)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def colorize(
    run: str | Path | Run, data: Sequence[str | Path], out: str | Path, *, force: bool = False, device: str = "auto",
    temperature: float | None = None, listen: Listen = silent,
) -> list[Path]:  # fmt: skip
    """Writes pictures in color, at their full size.

    Args:
        run: a run folder of colorization.
        data: pictures, folders or archives of them.
        out: a file (.png, .jpg) where there is one picture, else a folder, which gets a PNG for each under its own name.
        force: whether a file that exists is written over.
        device: "auto", "cpu", "cuda", "mps".
        temperature: of the annealed mean: 1 is calm, towards 0 vivid; None takes the run's.
        listen: is told {"kind": "colorize", "done", "total"}, and of files that could not be read.

    Returns:
        The files written.

    Raises:
        InputError: for the run, for data where no picture can be read, for a file that exists. CannotWrite: for `out`.
    """
    out = Path(out)
    sources = [open_source(str(where)) for where in data]
    total = sum(len(source) for source in sources)
    single = total == 1 and out.suffix.lower() in PICTURES
    if total > 1 and out.suffix.lower() in PICTURES:
        raise InputError(f"-o {out}: there are {total:,} pictures; name a folder")
    if total == 1 and not single and out.suffix:
        raise InputError(f"-o {out}: pictures are written as {', '.join(PICTURES)}, or into a folder")
    _free(out, single, force)
    colorizing = Colorizing(run, device, temperature)
    written: list[Path] = []
    bad: list[str] = []
    for name, image in _decoded(sources):
        try:
            if isinstance(image, Exception):
                raise image
            picture = colorizing.picture(image)
        except (MemoryError, InputError):
            raise
        except Exception as error:  # damaged files raise anything
            bad.append(f"{name!r}: {reason_of(error)}")
            listen({"kind": "note", "text": f"left out {bad[-1]}"})
            continue
        where = out if single else _named(out, name, written)
        if where.exists() and not force:
            raise InputError(f"{where} exists: choose another name, or --force to write over it")
        written.append(_write(picture, where))
        listen({"kind": "colorize", "done": len(written) + len(bad), "total": total})
    if not written:
        raise InputError("no picture could be read:\n  " + "\n  ".join(bad[:5]))
    return written


def _free(out: Path, single: bool, force: bool) -> None:
    """Fails before the work instead of after it."""
    if single and out.exists() and not force:
        raise InputError(f"{out} exists: choose another name, or --force to write over it")
    if not single and out.exists() and not out.is_dir():
        raise InputError(f"-o {out} is a file: name a folder for several pictures")


def _decoded(sources: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for source in sources:
        for left in source.left_out:
            yield left["file"], ValueError(left["reason"])
        for position, raw in source.raw():
            try:
                image: Any = decode(raw)
            except Exception as error:  # damaged files raise anything
                image = error
            yield source.names[position], image


def _named(folder: Path, name: str, written: list[Path]) -> Path:
    """Where a picture goes: its own name with .png, inside the folder whatever the name says."""
    parts = [
        part for part in PurePosixPath(printable_name(name).replace("\\", "/")).parts if part not in ("/", "..", ".")
    ]
    inside = folder.joinpath(*[part.replace(":", "_") for part in parts] or ["picture"])
    where = inside.with_suffix(".png")
    return inside.with_name(inside.name + ".png") if where in written else where


def _write(picture: NDArray[np.uint8], where: Path) -> Path:
    with replacing(where) as aside:
        Image.fromarray(picture).save(aside, "PNG" if where.suffix.lower() == ".png" else "JPEG", quality=95)
    return where
