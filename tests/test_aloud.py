"""What Python shows of long work, where nobody says who listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import withheld

IMAGES = np.random.default_rng(0).integers(0, 256, (120, 16, 16, 3), dtype=np.uint8)


def _learn(out: Path, **more: Any) -> withheld.Run:
    return withheld.pretrain("auto", IMAGES, out, steps=2, pictures=False, **more)


def test_a_run_and_its_verdict_are_told_on_stderr_and_nothing_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _learn(tmp_path / "run")
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "auto: patch_dictionary" in seen.err
    assert "learning 2/2" in seen.err
    withheld.verdict(run.encoder(), (IMAGES, [i % 2 for i in range(120)]), labels_per_class=(2,), seeds=2, minutes=0.1)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "linear probe, 2 per class" in seen.err


@pytest.mark.parametrize("listen", [False, None])
def test_silence_is_one_word_away(listen: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _learn(tmp_path / "run", listen=listen)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "")


def test_a_function_hears_everything_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[dict[str, Any]] = []
    _learn(tmp_path / "run", listen=heard.append)
    assert {"note", "plan", "step", "done"} <= {event["kind"] for event in heard}
    assert capsys.readouterr().err == ""
