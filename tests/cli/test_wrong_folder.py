"""A file, a part of a run, a folder of runs or a model where a run is wanted; paths below ~ that the shell left as they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from withheld.cli import at_home
from withheld.errors import InputError
from withheld.run import load_encoder, open_run

Run = Callable[..., Result]


@pytest.fixture
def runs(tmp_path: Path, run: Path) -> Path:
    """A folder of two runs, and a model beside it."""
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / "runs" / name)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    return tmp_path / "runs"


def test_the_run_that_was_meant_is_named(runs: Path, labelled: Path, withheld: Run) -> None:
    file = runs / "a" / "run.json"
    for words, said in (
        (("doctor", runs), f"it holds 2 runs: name one of them, such as {runs / 'a'}"),
        (("report", runs), f"name one of them, such as {runs / 'a'}"),
        (("embed", runs, labelled), f"name one of them, such as {runs / 'a'}"),
        (("sample", runs / "a" / "encoder"), f"it is a part of one: give {runs / 'a'}"),
        (("report", runs / "a" / "encoder"), f"it is a part of one: give {runs / 'a'}"),
        (("doctor", file), f"it is a file, and a run is a folder: give {runs / 'a'}"),
        (("export", labelled / "down" / "0.png", "--to", "hf"), "it is a file, and a run is a folder"),
        (("doctor", runs.parent / "model"), "it is a model"),
    ):
        result = withheld(*words)
        assert result.exit_code == 2, (words, result.output)
        assert said in result.stderr, (words, result.stderr)
    with pytest.raises(InputError, match="it holds 2 runs"):
        load_encoder(runs)
    with pytest.raises(InputError, match="it is a part of one"):
        open_run(runs / "a" / "encoder")
    for none in (labelled, runs / "c"):
        with pytest.raises(InputError, match="A run is what"):
            open_run(none)


def test_home_is_found_where_the_shell_leaves_the_tilde(
    tmp_path: Path, run: Path, labelled: Path, withheld: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "run")
    assert withheld("embed", "~/run", labelled, "--output=~/kept.npz").exit_code == 0
    assert (tmp_path / "kept.npz").is_file()
    assert not (tmp_path / "~").exists()
    assert load_encoder("~/run").width == load_encoder(run).width
    assert open_run("~/run").settings["method"] == "mae"
    assert at_home("--out=~/x") == f"--out={tmp_path}/x"
    for as_it_is in ("~", "a~/b", "--prompt=a ~/b", "-~/", "~other/x"):
        assert at_home(as_it_is) == as_it_is


def test_show_draws_of_all_classes_and_names_a_method_that_is_not(
    tmp_path: Path, labelled: Path, withheld: Run
) -> None:
    from withheld.cli.show import some_items

    _, names, _ = some_items(str(labelled), 4, 0, 16, None)
    assert {Path(name).parts[0] for name in names} == {"across", "down"}
    result = withheld("show", "mea", labelled, "-o", tmp_path / "x.png")
    assert result.exit_code == 2
    assert "no method is called 'mea': did you mean 'mae'?" in result.stderr


def test_a_run_that_kept_no_encoder_yet_says_so_wherever_it_is_asked(
    tmp_path: Path, run: Path, labelled: Path, withheld: Run
) -> None:
    shutil.copytree(run, tmp_path / "killed", ignore=shutil.ignore_patterns("encoder", "model"))
    for words in (("show", "mae", labelled, "--run"), ("embed",), ("export", "--to", "onnx")):
        rest = [labelled] if words[0] == "embed" else []
        result = withheld(*words, tmp_path / "killed", *rest)
        assert result.exit_code == 2
        assert "this run has no encoder yet. Finish it" in result.stderr, result.stderr


def test_a_folder_of_images_is_drawn_into_a_folder(tmp_path: Path, labelled: Path, withheld: Run) -> None:
    (tmp_path / "d").mkdir()
    result = withheld("detect", tmp_path / "d", labelled, "-o", tmp_path / "found.png")
    assert result.exit_code == 2
    assert "for a folder of images name a folder" in result.stderr


def test_what_is_to_be_typed_is_quoted(tmp_path: Path, labelled: Path, withheld: Run) -> None:
    model = tmp_path / "my model"
    model.mkdir()
    (model / "model.json").write_text('{"kind": "detector"}')
    assert f"withheld detect '{model}' IMAGES" in withheld("predict", model, labelled, "-o", tmp_path / "x.csv").stderr
    assert "--out 'runs/my model'" in withheld("evaluate", model, "--data", labelled).stderr
