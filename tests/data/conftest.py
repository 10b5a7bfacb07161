"""What the tests of data share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_files import write_images


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """train/CLASS and test/CLASS with two classes."""
    for part, count in (("train", 4), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            write_images(tmp_path / "pets" / part / name, count, first=10 * number + (part == "test") * 100)
    return tmp_path / "pets"
