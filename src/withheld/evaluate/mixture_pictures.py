"""What a mixture found: who belongs to which component, and what the components are.

Components bear their place in the model, counted from 0, in every picture as in what `predict` writes.

Shapes: N rows, D columns, K components, C H W images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from withheld.evaluate.canvas import Tile, below, blank, enlargement, fitted, strip, tile
from withheld.evaluate.latent_pictures import entry
from withheld.evaluate.pictures import keep
from withheld.evaluate.plot import COLORS, SOFT, drawn, ellipse, named, plot
from withheld.networks.evidence import evidence_words

MOST_IMAGES, A_STRIP, MOST_NAMED = 60, 10, 40
MOST_ROWS, MOST_COLUMNS = 20, 14


def draw_mixture(
    model: Any, rows: NDArray[np.floating], columns: Sequence[str], folder: str | Path,
    image_shape: Sequence[int] | None = None, classes: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Draws the components into `folder`/pictures: means of images, else responsibilities and ellipses on two axes.

    Args:
        model: a `Mixture` of networks/mixture.py.
        rows: (N, D), some of those it learned from.
        columns: their names.
        image_shape: (C, H, W) where rows are images.
        classes: names, where it learned from labels: component k belongs to class k % S.
    """
    if image_shape is not None:
        entries = _means(model, image_shape)
    elif model.columns > 1:
        entries = [_scatter(model, rows, columns, classes), *_profile(model, rows, columns)]
    else:
        entries = [_histogram(model, rows, columns)]
    evidence = [_evidence(model.evidence)] if len(model.evidence) > 1 else []
    return keep(Path(folder), [*entries, *evidence, _weights(model)])


def _scatter(model: Any, rows: NDArray[np.floating], columns: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Rows in the color of their likeliest component, or class; unsure ones are paler."""
    share, _ = model.posterior(torch.from_numpy(rows))
    filled = np.where(np.isnan(rows), np.nanmean(rows, axis=0), rows)
    plane, names = _plane(filled, columns)
    center = np.zeros(2) if model.columns == 2 else filled.mean(axis=0)
    figure, axes = plot(7.2, 4.6)
    several = len(classes) or model.components
    grouped = share.reshape(len(share), -1, several).sum(dim=1)
    best, sure = grouped.argmax(dim=1).numpy(), grouped.max(dim=1).values.numpy()
    at = (filled - center) @ plane
    for k in np.unique(best):
        mine = best == k
        axes.scatter(
            *at[mine].T, s=9, color=COLORS[k % len(COLORS)], alpha=np.clip(sure[mine] ** 2, 0.15, 0.8), linewidths=0
        )
        if classes:
            axes.scatter([], [], s=30, color=COLORS[k % len(COLORS)], label=named(classes[k], 2.4))
        else:
            _number(axes, k, at[mine].mean(axis=0))
    if classes:
        axes.legend(frameon=False, fontsize=8, labelcolor=SOFT)
    matrices = model.matrices().numpy() if hasattr(model, "matrices") else None
    for k, mean in enumerate(model.means.numpy() if matrices is not None else []):
        if float(model.counts[k]) > 1 and matrices is not None:
            ellipse(axes, (mean - center) @ plane, plane.T @ matrices[k] @ plane, COLORS[k % several % len(COLORS)])
    axes.set_xlabel(named(names[0], 6.0), color=SOFT, fontsize=9)
    axes.set_ylabel(named(names[1], 3.8), color=SOFT, fontsize=9)
    what = "class" if classes else "component"
    caption = f"{len(rows):,} rows in the color of their likeliest {what}, paler where it is unsure"
    caption += "; outlines at two deviations" if matrices is not None else ""
    caption += "; missing cells stand at the mean of their column." if np.isnan(rows).any() else "."
    return entry("components", drawn(figure), "", caption, {})


def _profile(model: Any, rows: NDArray[np.floating], columns: Sequence[str]) -> list[dict[str, Any]]:
    """What the components are: their means in the units of the columns, colored by how far from the mean of all rows.

    Of no more than can be read: the columns in which the components differ most, the heaviest components.
    """
    means, weights = model.means.numpy(), model.weights.numpy()
    order = np.argsort(-weights, kind="stable")[:MOST_ROWS]
    spread = np.nanstd(rows, axis=0)
    away = (means[order] - np.nanmean(rows, axis=0)) / np.where(spread > 0, spread, 1.0)
    chosen = np.sort(np.argsort(-np.abs(away).max(axis=0), kind="stable")[:MOST_COLUMNS])
    figure, axes = plot(max(4.0, 1.4 + 0.8 * len(chosen)), 1.2 + 0.34 * len(order))
    axes.imshow(away[:, chosen], cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto", alpha=0.6)
    for row, k in enumerate(order):
        for place, at in enumerate(chosen):
            axes.text(place, row, f"{means[k, at]:.3g}", ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(order)), [f"{k}  ({100 * weights[k]:.0f} %)" for k in order])
    axes.set_xticks(range(len(chosen)), [fitted(columns[at], 100, 11) for at in chosen], rotation=30, ha="right")
    axes.spines[["left", "bottom"]].set_visible(False)
    caption = "The mean of each component (its weight) in every column, heaviest first; red above and blue below that of all rows."
    if len(chosen) < len(columns):
        caption += f" Of {len(columns):,} columns the {len(chosen)} in which they differ most."
    return [entry("components", drawn(figure), "", caption, {})]


def _number(axes: Any, k: int, at: Any) -> None:
    """Writes the number of a component at a place, on white, so that it is read over points and lines."""
    ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    axes.annotate(
        str(k),
        tuple(at),
        color=COLORS[k % len(COLORS)],
        fontsize=10,
        weight="bold",
        ha="center",
        va="center",
        bbox=ground,
    )


def _plane(rows: NDArray[np.floating], columns: Sequence[str]) -> tuple[NDArray[np.floating], list[str]]:
    """(D, 2) the two axes to look along: the columns where there are two, else the leading principal components."""
    if rows.shape[1] == 2:
        return np.eye(2), list(columns)
    away = rows - rows.mean(axis=0)
    _, values, axes = np.linalg.svd(away, full_matrices=False)
    part = values**2 / (values**2).sum()
    return axes[:2].T, [f"principal component {i + 1} ({100 * part[i]:.0f} % of the variance)" for i in range(2)]


def _histogram(model: Any, rows: NDArray[np.floating], columns: Sequence[str]) -> dict[str, Any]:
    values = rows[~np.isnan(rows[:, 0]), 0]
    figure, axes = plot(7.2, 3.6)
    axes.hist(values, bins=60, density=True, color="#d9dbe0")
    line = np.linspace(values.min(), values.max(), 400)
    joint = model.log_joint(torch.from_numpy(line[:, None])).exp().numpy()
    for k, density in enumerate(joint):
        axes.plot(line, density, color=COLORS[k % len(COLORS)], linewidth=1.4)
        if float(model.counts[k]) > 1:
            _number(axes, k, (line[density.argmax()], density.max()))
    axes.plot(line, joint.sum(axis=0), color="#1d1d1f", linewidth=1.2, linestyle=":")
    axes.set_xlabel(named(columns[0], 6.0), color=SOFT, fontsize=9)
    return entry(
        "components", drawn(figure), "", "The rows, every component's share of the density, and their sum.", {}
    )


def _means(model: Any, shape: Sequence[int]) -> list[dict[str, Any]]:
    """Every component's mean as an image, heaviest first."""
    order = model.weights.argsort(descending=True)[:MOST_IMAGES].tolist()
    means = model.means.numpy().reshape(len(model.means), *shape)
    tiles: list[Tile] = []
    for k in order:
        pixels = (255 * np.clip(means[k], 0, 1)).round().astype(np.uint8).transpose(1, 2, 0)
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)
        mean = tile(pixels, None, enlargement(pixels.shape[1], 64))
        tiles.append(below(blank(mean.width, 16, str(k)), mean))
    tiles += [blank(tiles[0].width, tiles[0].height)] * (-len(tiles) % A_STRIP)
    shown = f"the {len(order)} heaviest of {len(model.means)}" if len(order) < len(model.means) else "all"
    caption = f"The mean of each component under its number, {shown}, heaviest first."
    strips = [strip(tiles[i : i + A_STRIP], 3) for i in range(0, len(tiles), A_STRIP)]
    return [entry("components", each, "", caption, {}) for each in strips]


def _evidence(evidence: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Both criteria by the number of components, the chosen one marked."""
    counts = [each["components"] for each in evidence]
    figure, axes = plot(7.2, 2.8)
    for name, color in (("bic", COLORS[0]), ("aic", COLORS[1])):
        values = [each[name] for each in evidence]
        axes.plot(counts, values, color=color, marker="o", markersize=4, linewidth=1.4, label=name.upper())
        if name == "bic":
            at = int(np.argmin(values))
            axes.plot(counts[at], values[at], marker="o", markersize=11, markerfacecolor="none", markeredgecolor=color)
    axes.set_xticks(counts)
    axes.set_xlabel("components", color=SOFT, fontsize=9)
    axes.set_ylabel("lower is better", color=SOFT, fontsize=9)
    axes.legend(frameon=False, fontsize=8, labelcolor=SOFT)
    return entry("components", drawn(figure), "", f"{evidence_words(evidence)}.", {})


def _weights(model: Any) -> dict[str, Any]:
    weights = model.weights.numpy()
    order = np.argsort(-weights, kind="stable")
    figure, axes = plot(7.2, 2.2)
    axes.bar(np.arange(len(order)), 100 * weights[order], color=COLORS[0], width=0.7)
    named: Any = order if len(order) <= MOST_NAMED else []  # more would run into each other
    axes.set_xticks(np.arange(len(named)), [str(k) for k in named])
    axes.set_ylabel("weight, %", color=SOFT, fontsize=9)
    axes.set_xlabel("component, heaviest first", color=SOFT, fontsize=9)
    dead = model.dead()
    caption = f"The weights of the {len(weights)} components."
    if dead:
        caption += f" {len(dead)} died: no row belongs to {'it' if len(dead) == 1 else 'them'} any more; take fewer."
    return entry("components", drawn(figure), "", caption, {})
