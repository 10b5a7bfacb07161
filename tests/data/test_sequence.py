"""Text and clips, as `withheld show predict_part` draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from withheld.data.sequence import open_sequence
from withheld.errors import InputError


def clip(path: Path, frames: int) -> Path:
    pictures = [Image.fromarray(np.full((20, 30, 3), 10 * k, np.uint8)) for k in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    return path


def test_text_is_spans_of_its_characters(tmp_path):
    text = "the quick brown fox jumps over the lazy dog, again and again and again\n" * 3
    (tmp_path / "book.txt").write_text(text)
    spans = open_sequence(tmp_path / "book.txt", 3, 0)
    assert spans.shape == (3, 64)
    assert all("".join(map(chr, span)) in " ".join(text.split()) for span in spans)
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(InputError, match="too few"):
        open_sequence(tmp_path / "short.txt", 1, 0)


def test_an_animated_gif_is_a_clip_and_others_are_images(tmp_path):
    found = open_sequence(clip(tmp_path / "clip.gif", 16), 6, 0)
    assert found.shape == (1, 12, 3, 20, 30)
    assert found.mean(axis=(0, 2, 3, 4)).tolist() == sorted(found.mean(axis=(0, 2, 3, 4)).tolist())
    assert open_sequence(clip(tmp_path / "one.gif", 1), 6, 0) is None
    assert open_sequence(tmp_path / "a.png", 6, 0) is None
    (tmp_path / "broken.gif").write_bytes(b"GIF89a no more")
    with pytest.raises(InputError, match=r"broken\.gif"):
        open_sequence(tmp_path / "broken.gif", 6, 0)


@pytest.mark.parametrize("pairs", [["part=future"], ["part=past"], ["part=future", "given=recent"], ["part=occluded"]])
def test_show_draws_them(tmp_path, pairs):
    from withheld.cli import main

    clip(tmp_path / "clip.gif", 16)
    (tmp_path / "book.txt").write_text("the quick brown fox jumps over the lazy dog, again and again and again\n" * 3)
    for name in ("clip.gif", "book.txt"):
        out = tmp_path / f"{name}.png"
        options = [word for pair in pairs for word in ("--set", pair)]
        done = CliRunner().invoke(main, ["show", "predict_part", str(tmp_path / name), "-o", str(out), *options])
        assert done.exit_code == 0, done.output
        with Image.open(out) as picture:
            assert min(picture.size) > 20
