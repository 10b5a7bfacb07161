"""What is printed: escapes are shown, not obeyed; only the first process speaks; plain lines without a terminal."""

from __future__ import annotations

import pytest

from withheld import narrator, screen
from withheld.narrator import Narrator, plan
from withheld.screen import Screen, clock, printable
from withheld.wording import size


@pytest.mark.promise("S5", "control characters on the terminal")
def test_control_characters_are_written_out() -> None:
    assert printable("a\x1b[31mb\u202ec\ud800") == "a\\x1b[31mb\\u202ec\\ud800"


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (61, "1:01"), (7325, "2:02:05")])
def test_duration(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(512, "512 B"), (1500, "2 kB"), (2.5e9, "2.5 GB"), (3e12, "3000.0 GB")])
def test_size(number: float, text: str) -> None:
    assert size(number) == text


def test_tables_take_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table("T", ["name", "number"], [["[red]x[/red]", 1], ["[/]", 22]])
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "[/]" in out


def test_titles_are_not_folded_and_numbers_stand_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    title = "[b]clip[/b].mp4: squared error, summed over a frame"
    Screen().table(title, ["frame", "told"], [[1, "3.5"], [22, "100.0"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == title
    assert [line.split() for line in lines[-3:-1]] == [["1", "3.5"], ["22", "100.0"]]
    assert len({len(line.rstrip()) for line in lines[-3:-1]}) == 1


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    quiet = Screen(verbose=True)
    quiet.result("a")
    quiet.say("b")
    quiet.table("c", ["d"], [["e"]])
    with quiet.progress("f") as update:
        update(1, 2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_quiet_keeps_results(capsys: pytest.CaptureFixture[str]) -> None:
    some = Screen(quiet=True)
    some.say("gone")
    some.detail("gone")
    some.result("kept")
    captured = capsys.readouterr()
    assert captured.out == "kept\n"
    assert captured.err == ""


def test_progress_without_a_terminal_is_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(now))
    with Screen().progress("learning") as update:
        for step in range(1, 11):
            update(step, 10, f"loss {1 / step:.2f}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "learning 1/10  loss 1.00"
    assert lines[-1].startswith("learning 10/10  loss 0.10")
    assert 2 < len(lines) < 10
    assert "left" in lines[1]


def test_what_is_brief_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = iter(range(100))
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(now))
    with Screen().progress("reading", wait=3.0) as update:
        for _ in range(3):
            update(1, 2)
            update(2, 2)
    assert capsys.readouterr().err == ""
    with Screen().progress("reading", wait=3.0) as update:
        for done in range(1, 6):
            update(done, 5)
    assert capsys.readouterr().err.splitlines() == ["reading 3/5  3 s left", "reading 5/5"]


def test_the_narrator_tells_what_a_model_of_words_knows(capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "items": 9, "documents": 3, "tokens": 99, "tokenizer": "wordpiece", "vocabulary": 40, "length": 16, "unigram_nats": 6.62,
    }  # fmt: skip
    encoder = {"name": "bert-tiny", "parameters": 10}
    vitals = {"masked_loss": 5.887, "masked_accuracy": 0.181, "held_out_loss": 5.86, "gap": -0.348}
    with Narrator(Screen(verbose=True)) as told:
        told.hear(
            {
                "kind": "plan",
                "title": "bert",
                "data": data,
                "encoder": encoder,
                "steps": 2,
                "batch_size": 1,
                "device": "cpu",
            }
        )
        told.hear({"kind": "step", "step": 1, "steps": 2, "loss": 6.0, "vitals": vitals})
        told.hear({"kind": "step", "step": 2, "steps": 2, "loss": 6.0})
    last = [line for line in capsys.readouterr().err.splitlines() if "2/2" in line][-1]
    assert "held out 5.89 (counting 6.62, 18 % right, -0.35 to training)" in last


def test_the_narrator_tells_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        "title": "mae",
        "data": {"items": 1000, "channels": 3, "size": 96, "stored": 128},
        "encoder": {"name": "vit-nano", "parameters": 800_000, "patch": 8},
        "steps": 50,
        "batch_size": 256,
        "device": "cpu",
    }
    with Narrator(Screen(verbose=True)) as told:
        told.hear({"kind": "timing"})
        told.hear({"kind": "plan", **settings})
        told.hear({"kind": "step", "step": 1, "steps": 50, "loss": 0.5, "items_per_second": 1234.5})
        told.hear({"kind": "note", "text": "by the way"})
        told.hear({"kind": "something new", "done": 1, "total": 2})
        told.hear({"kind": "unknown and silent"})
        told.hear({"kind": "done", "seconds": {"forward": 3.0, "data": 1.0}})
    said = capsys.readouterr().err
    for words in (
        "timing",
        "12.8 epochs",
        "loss 0.5000  1,234 items/s",
        "by the way",
        "forward 75 %",
    ):
        assert words in said
    assert "kept at 128x128" in plan(settings)
    assert narrator.STAGES["step"] in said


def test_the_narrator_tells_of_an_illness_once_and_in_the_line_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    ill = {
        "vital": "codes",
        "state": "sick",
        "illness": "dead codes",
        "reason": "60 of 64 are dead",
        "cure": "--set codes=16",
    }
    health = {"state": "sick", "findings": [ill, {"vital": "input", "state": "ok"}]}
    with Narrator(Screen(verbose=True)) as told:
        told.hear({"kind": "step", "step": 1, "steps": 3, "loss": 6.0, "health": {"state": "ok", "findings": []}})
        told.hear({"kind": "health", "step": 2, **ill})
        told.hear({"kind": "step", "step": 2, "steps": 3, "loss": 6.0, "health": health})
        told.hear({"kind": "step", "step": 3, "steps": 3, "loss": 6.0})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("healthy")
    assert lines[1:3] == ["SICK at step 2: dead codes: 60 of 64 are dead", "  cure: --set codes=16"]
    assert lines[-1].endswith("sick: dead codes")


def test_a_plan_says_one_channel_and_does_not_advise_what_is_done() -> None:
    settings = {
        "method": "distill",
        "modality": "image",
        "title": "distill",
        "data": {"items": 40, "size": 32, "channels": 1},
        "encoder": {"name": "conv-nano", "parameters": 10},
        "steps": 5,
        "batch_size": 8,
        "device": "cpu",
    }
    said = plan(settings)
    assert "1 channel, 32x32" in said
    assert "too few" not in said
    assert "too few" in plan({**settings, "method": "simclr"})


@pytest.mark.parametrize(
    ("steps", "said"), [(1, "1 step of 10 = 0.01 epochs"), (100, "100 steps of 10 = 1 epoch"),
     (250, "250 steps of 10 = 2.5 epochs")]
)  # fmt: skip
def test_the_length_of_a_run_in_epochs(steps: int, said: str) -> None:
    assert narrator._length_words({"steps": steps, "batch_size": 10, "data": {"items": 1000}}) == said
