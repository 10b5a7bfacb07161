"""The page and the picture of a run: reads run.json, log.jsonl, results.jsonl and pictures/, never torch."""

from __future__ import annotations

from pathlib import Path


def write(run_folder: str | Path) -> Path:
    """Writes `report.html` into a run folder: one file that opens anywhere, without network or JavaScript.

    What the folder does not hold yet is left out; a run that was not evaluated says how to evaluate it.

    Args:
        run_folder: a folder with run.json, results.jsonl or sweep.json.

    Returns:
        The path of report.html.

    Raises:
        InputError: the folder is none of ours, or its run.json cannot be read.
        CannotWrite: the disk is full or read-only.
    """
    from withheld.report.page import write_page

    return write_page(Path(run_folder))


def figure(run_folder: str | Path, out_png: str | Path) -> Path:
    """Draws the verdict, accuracy by labels per class with every baseline, as a PNG for a README or a slide.

    Raises:
        InputError: the folder holds no scores.
        CannotWrite: the disk is full or read-only.
    """
    from withheld.report.drawing import draw_figure

    return draw_figure(Path(run_folder), Path(out_png))


__all__ = ["figure", "write"]
