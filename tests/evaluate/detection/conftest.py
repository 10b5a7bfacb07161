"""A small VOC folder with proposals of its own, and a tiny encoder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "data")]

from voc_files import make_voc  # noqa: E402

from withheld.data.boxes import BoxData, open_boxes  # noqa: E402
from withheld.evaluate.detection.proposals import SelectiveSearch  # noqa: E402
from withheld.evaluate.detection.regions import Regions, load_regions  # noqa: E402


@pytest.fixture(scope="session")
def voc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images of rectangles: 6 train, 2 val, 4 test."""
    return make_voc(tmp_path_factory.mktemp("detection") / "VOC2007")


@pytest.fixture(scope="session")
def voc(voc_folder: Path) -> BoxData:
    return open_boxes(voc_folder)


@pytest.fixture
def encoder():
    """Untrained, trained at 24 x 24 pixels in color, patches of 4."""
    from tiny_vit import tiny_encoder

    return tiny_encoder(24, 3)


@pytest.fixture(scope="session")
def regions(voc: BoxData) -> Regions:
    """Its images at 48 pixels."""
    pytest.importorskip("cv2.ximgproc")
    from tiny_vit import tiny_encoder

    return load_regions(voc, tiny_encoder(48, 3), 48, SelectiveSearch(), ("train", "test"), lambda event: None)
