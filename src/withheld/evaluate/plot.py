"""Plots with axes as tiles: matplotlib draws them off screen."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from withheld.evaluate.canvas import Tile, fitted

SOFT = "#6e6e74"
COLORS = (
    "#3b6fb6", "#d1672b", "#3f9a5a", "#a8487f", "#8a6f2a", "#5b56b0", "#2a9aa6", "#c2453d", "#76933c", "#7a7a80",
)  # fmt: skip


def plot(width: float, height: float) -> tuple[Any, Any]:
    """(figure, axes) of so many inches, without a frame on top and right."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelsize=8)
    return figure, axes


def named(name: str, inches: float) -> str:
    """A name that strangers chose, for matplotlib: so wide at most at 9 points, the middle left out, and no formula."""
    return fitted(str(name), 100 * inches, 12).replace("$", r"\$")


def drawn(figure: Any) -> Tile:
    """A figure as a tile."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    out.seek(0)
    return Image.open(out).convert("RGBA")


def ellipse(axes: Any, mean: Any, covariance: Any, color: str, deviations: float = 2.0) -> None:
    """The outline of a Gaussian in two dimensions, at so many deviations."""
    import numpy as np
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(covariance)
    across, along = 2 * deviations * np.sqrt(np.maximum(values, 0))
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    axes.add_patch(Ellipse(mean, along, across, angle=angle, fill=False, color=color, linewidth=1.6))
