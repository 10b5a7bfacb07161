"""How well a mask was followed: region, boundary, recall and decay, as the DAVIS benchmark defines them.

Perazzi et al. 2016, A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation.
Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Masks = NDArray[np.bool_]
TOLERANCE = 0.008
"""Of the diagonal: how far a boundary may be off."""
RECALL = 0.5


def region(found_HW: Masks, true_HW: Masks) -> float:
    """J, intersection over union; 1 where both are empty."""
    union = np.count_nonzero(found_HW | true_HW)
    return 1.0 if union == 0 else float(np.count_nonzero(found_HW & true_HW) / union)


def outline(mask_HW: Masks) -> Masks:
    """Pixels whose neighbor to the right, below or on the diagonal is on the other side (seg2bmap)."""
    east, south, corner = mask_HW.copy(), mask_HW.copy(), mask_HW.copy()
    east[:, :-1], south[:-1], corner[:-1, :-1] = mask_HW[:, 1:], mask_HW[1:], mask_HW[1:, 1:]
    edge = (mask_HW ^ east) | (mask_HW ^ south) | (mask_HW ^ corner)
    edge[-1], edge[:, -1] = mask_HW[-1] ^ east[-1], mask_HW[:, -1] ^ south[:, -1]
    edge[-1, -1] = False
    return edge


def boundary(found_HW: Masks, true_HW: Masks) -> float:
    """F, the harmonic mean of how much of either outline lies within a tolerance of the other."""
    reach = np.ceil(TOLERANCE * np.hypot(*true_HW.shape))
    found, true = outline(found_HW), outline(true_HW)
    if not found.any() or not true.any():
        return float(not found.any() and not true.any())
    around = _around(found | true, int(reach) + 1)
    found, true = found[around], true[around]
    precision = np.count_nonzero(found & _near(true, reach)) / np.count_nonzero(found)
    recall = np.count_nonzero(true & _near(found, reach)) / np.count_nonzero(true)
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def _around(mask_HW: Masks, margin: int) -> tuple[slice, slice]:
    """The part of the picture that matters, with a margin."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def _near(outline_HW: Masks, reach: float) -> Masks:
    """Within a disk of this radius of an outline; the same as dilating it, and faster."""
    return distance_transform_edt(~outline_HW) <= reach


@dataclass(frozen=True)
class Followed:
    """Measures of one object of a sequence: means over frames, the share of frames above 0.5, and what is lost.

    Decay is the mean of the first quarter of the frames minus that of the last.
    """

    j_mean: float
    j_recall: float
    j_decay: float
    f_mean: float
    f_recall: float
    f_decay: float

    @property
    def j_and_f(self) -> float:
        """J&F, the mean of both."""
        return (self.j_mean + self.f_mean) / 2


def followed(found_THW: Masks, true_THW: Masks) -> Followed:
    """Measures of a sequence; the first frame, which was given, and the last do not count, as in the benchmark."""
    inner = range(1, len(true_THW) - 1) if len(true_THW) > 2 else range(1, len(true_THW))
    regions = np.array([region(found_THW[i], true_THW[i]) for i in inner])
    boundaries = np.array([boundary(found_THW[i], true_THW[i]) for i in inner])
    return Followed(*_summary(regions), *_summary(boundaries))


def _summary(values_T: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean, recall and decay over quarters (db_statistics)."""
    ends = np.round(np.linspace(1, len(values_T), 5) + 1e-10).astype(int) - 1
    quarters = [values_T[ends[i] : ends[i + 1] + 1] for i in range(4)]
    return float(values_T.mean()), float((values_T > RECALL).mean()), float(quarters[0].mean() - quarters[3].mean())
