"""Recipes: what is read, and what is refused with a line that helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from withheld.cli import main
from withheld.cli.recipe_file import read_recipe
from withheld.cli.settings import typed
from withheld.errors import InputError
from withheld.run import load_method

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_whole_recipe(tmp_path: Path) -> None:
    path = write(
        tmp_path, "method: mae\nminutes: 10\nset: {ratio: 0.6}\nevaluate: {labels_per_class: [1, 10], seeds: 5}\n"
    )
    found = read_recipe(path)
    assert found["minutes"] == 10
    assert found["evaluate"]["labels_per_class"] == [1, 10]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methd: mae", "did you mean 'method'"),
        ("minutes: 3", "there is no `method`"),
        ("method: mae\nminutes: ten", "minutes is 'ten'"),
        ("method: mae\nsteps: true", "steps is True"),
        ("method: mae\nsteps: 2\nepochs: 3", "steps"),
        ("method: mae\nevaluate: {seds: 5}", "evaluate.seds"),
        ("method: mae\nevaluate: 5", "evaluate is 5"),
        ("method: mae\nmethod: mae", "line 2: the key 'method' stands twice"),
        ("method: mae\nset: &a {ratio: 0.5}\nsweep: *a", "line 3"),
        ("method: mae\nsweep: {ratio: [0.5]}", "evaluate"),
        ("method: mae\nsweep: {ratio: 0.5}\nevaluate: {}", "sweep"),
        ("method: mae\nsweep: {ratio: [1], flip: [1]}\nevaluate: {}", "sweep"),
        ("method: !!python/object/apply:os.system ['touch canary']", "recipe.yaml"),
        ("method: [mae", "line"),
        ("- mae", "keys and values"),
        ("", "keys and values"),
        ("[" * 20000, "recipe.yaml"),
        (b"\xff\xfe\x00", "recipe.yaml"),
        ("# " + "x" * 1_000_001, "bytes"),
    ],
)
@pytest.mark.promise("S10", "recipes that are refused")
def test_what_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_recipe(write(tmp_path, text))
    assert said in str(error.value)
    assert "recipe.yaml" in str(error.value)


@pytest.mark.promise("S10", "a billion laughs")
def test_aliases_cannot_grow(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(InputError, match="alias"):
        read_recipe(write(tmp_path, "\n".join(lines)))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name a recipe"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError):
        read_recipe(tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_of_ours(path: Path) -> None:
    found = read_recipe(path)
    method = load_method(found["method"])
    typed(found["method"], method, found.get("set") or {})
    for name, values in (found.get("sweep") or {}).items():
        for value in values:
            typed(found["method"], method, {name: value})
    text = path.read_text(encoding="utf-8")
    header = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert f"withheld run recipes/{path.name}" in header, "the header says how it is run"
    assert "minutes" in header, "the header says how long it takes, and on which machine"
    assert "expect" in header.lower() or "gallery" in header, "the header says which score to expect"


def test_a_sweep_compares_a_row_that_every_value_has() -> None:
    from withheld.cli.recipe import _compared

    def scores(*methods: str) -> list[dict]:
        return [{"method": name, "value": 0.5, "labels_per_class": 2, "spread": 0.1} for name in methods]

    found = [(value, scores("linear probe", "fine-tuned")) for value in (0.3, 0.6)]
    assert _compared(found, None, Path("out"))[0] == "fine-tuned"
    found.append((0.9, scores("linear probe")))  # fine-tuning was left out for time
    row, rows = _compared(found, None, Path("out"))
    assert row == "linear probe"
    assert [each["value"] for each in rows] == [0.3, 0.6, 0.9]
    with pytest.raises(InputError, match=r"'fine-tuned' is not among .*so far: linear probe\..*`row: .*--resume"):
        _compared(found, "fine-tuned", Path("out"))


def test_a_wrong_value_of_a_sweep_is_said_before_the_first_run(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("method: mae\nsteps: 2\nevaluate: {seeds: 2}\nsweep: {ratio: [0.5, x]}\n")
    (tmp_path / "photos").mkdir()
    done = CliRunner().invoke(
        main, ["run", str(path), "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "o")]
    )
    assert done.exit_code == 2
    assert "sweep: ratio=x: mae takes a number here" in done.output
    assert not (tmp_path / "o").exists()
