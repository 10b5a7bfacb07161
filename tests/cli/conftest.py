"""Small data and one small run, made once through the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from withheld.cli import main


@pytest.fixture(scope="session")
def withheld() -> Callable[..., Result]:
    """`withheld("list")` runs a command in this process."""

    def run(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    return run


@pytest.fixture(scope="module", autouse=True)
def _few_steps() -> Iterator[None]:
    """Fine-tuning of four steps: here commands are asked, not accuracies."""
    from withheld.evaluate import tuned

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuned, "steps_for", lambda items: 4)
        yield


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 20 images of 16x16: stripes across and stripes down."""
    folder = tmp_path_factory.mktemp("cli") / "labelled"
    random = np.random.default_rng(0)
    for name in ("across", "down"):
        (folder / name).mkdir(parents=True)
        for at in range(20):
            pixels = random.integers(0, 100, (16, 16, 3), dtype=np.uint8)
            pixels[random.integers(0, 3) :: 3] += 120
            Image.fromarray(pixels if name == "across" else pixels.transpose(1, 0, 2)).save(folder / name / f"{at}.png")
    return folder


@pytest.fixture(scope="session")
def run(labelled: Path, withheld: Callable[..., Result]) -> Path:
    """A run of three steps."""
    out = labelled.parent / "run"
    result = withheld("pretrain", "mae", "--data", labelled, "--out", out, "--steps", 3, "--batch-size", 16)
    assert result.exit_code == 0, result.output
    assert "Encoder: " in result.stdout
    assert f"withheld evaluate {out} --data LABELLED" in result.stderr
    return out
