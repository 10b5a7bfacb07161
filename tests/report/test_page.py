"""The page: complete, parseable, without anything from outside, and honest about what is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fake_run import SENTENCE, full_run, result_lines, run_json, sweep_json, write_lines
from page_reader import Reader, read

import withheld.report as report
from withheld.errors import InputError
from withheld.report.training import held_out_words

ALL_SECTIONS = {
    "verdict", "sweep", "data", "split", "neighbors", "patches", "map", "errors", "training", "cost", "reproduce",
}  # fmt: skip


def sections(reader: Reader) -> set[str]:
    return {value or "" for tag, attrs in reader.elements if tag == "section" for name, value in attrs if name == "id"}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(full_run(tmp_path_factory.mktemp("run") / "mae"))


def test_full_run_has_every_section(full: Path) -> None:
    reader = read(full)
    assert sections(reader) == ALL_SECTIONS
    words = " ".join(reader.words)
    assert SENTENCE.replace(" %", "\u00a0%") in words
    for expected in (
        "64.3",
        "from scratch",
        "29,996",
        "withheld pretrain mae --data",
        "9f2c5a81",
        "bad-0.jpg",
        "cat taken for dog",
        "17 of 100",
    ):
        assert expected in words


def test_what_a_model_of_words_knows_is_said() -> None:
    vitals = {"masked_loss": 5.0, "masked_accuracy": 0.25, "held_out_loss": 4.9, "word_accuracy": 0.3, "gap": 0.02}
    said = held_out_words(
        [{"step": 1, "vitals": {"masked_loss": 9.0}}, {"step": 2, "vitals": vitals}, {"step": 3}], 6.62
    )
    assert "words behind [MASK] with 5.00 nats each, 25.0 % of them right" in said
    assert "only counts words has 6.62" in said
    assert "+0.02 nats" in said
    stuck = held_out_words([{"step": 2, "vitals": {"masked_loss": 6.55}}], 6.62)
    assert "no more than counting words" in stuck
    assert held_out_words([{"step": 2, "vitals": {"held_out_loss": 0.3}}], None) == ""
    assert held_out_words([], 6.62) == ""


def test_every_anchor_leads_somewhere(full: Path) -> None:
    reader = read(full)
    links = [value for tag, attrs in reader.elements if tag == "a" for name, value in attrs if name == "href"]
    assert {link.removeprefix("#") for link in links if link} == ALL_SECTIONS


def test_nothing_from_outside(full: Path) -> None:
    page = re.sub(r"base64,[A-Za-z0-9+/=]*", "base64,", full.read_text(encoding="utf-8"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(|javascript:|<script|<link|<iframe|<object|<embed|<form", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    for rule in ("default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", "font-src data:"):
        assert rule in policy.group(1)
    for tag, attrs in read(full).elements:
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "src":
                assert str(value).startswith(("data:image/png;base64,", "data:image/webp;base64,"))


def test_same_folder_same_page(full: Path, tmp_path: Path) -> None:
    other = report.write(full_run(tmp_path / "mae"))
    here, there = (path.read_text().replace(str(path.parent), "RUN") for path in (full, other))
    assert here == there


def test_absent_parts_are_absent(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run_json()))
    reader = read(report.write(tmp_path))
    assert sections(reader) == {"verdict", "data", "cost", "reproduce"}
    words = " ".join(reader.words)
    assert "withheld evaluate" in words
    assert "was not measured yet" in words


def test_only_scores(tmp_path: Path) -> None:
    write_lines(tmp_path / "results.jsonl", result_lines())
    assert sections(read(report.write(tmp_path))) == {"verdict", "errors", "cost", "reproduce"}


def test_the_words_of_a_text_that_was_guessed_wrong_are_shown(tmp_path: Path) -> None:
    wrong = {
        "name": "reviews.csv:7",
        "true": "good",
        "predicted": "bad",
        "probability": 0.8,
        "text": "a <b>fine</b> film",
    }
    write_lines(tmp_path / "results.jsonl", [*result_lines()[:-1], {**result_lines()[-1], "errors": [wrong]}])
    page = report.write(tmp_path)
    assert "a <b>fine</b> film" in " ".join(read(page).words)
    assert "a &lt;b&gt;fine&lt;/b&gt; film" in page.read_text()


def test_the_columns_of_a_table_are_named(tmp_path: Path) -> None:
    run = run_json()
    run["data"] = {**run["data"], "columns": ["height", "a <b>", *(f"x{i}" for i in range(9))]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    words = " ".join(read(report.write(tmp_path)).words)
    assert "columns 11: height, a <b>, x0, x1, x2, x3, x4, x5, ..." in words


def test_of_clips_it_is_said_how_many_and_how_they_were_seen(tmp_path: Path) -> None:
    run = run_json()
    run["data"] = {**run["data"], "clips": 30, "frames": 8, "rate": 12.0}
    (tmp_path / "run.json").write_text(json.dumps(run))
    words = " ".join(read(report.write(tmp_path)).words)
    assert "clips 30" in words
    assert "frames at once 8, at 12 a second" in words


def test_only_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps(sweep_json()))
    reader = read(report.write(tmp_path))
    assert sections(reader) == {"sweep"}
    words = " ".join(reader.words)
    assert "ratio = 0.6 was highest" in words
    assert "the intervals of 0.75, 0.9 overlap its own" in words


def test_a_sweep_with_a_clear_winner_says_so(tmp_path: Path) -> None:
    sweep = sweep_json()
    for score in sweep["scores"]:
        score["spread"] = 1e-5
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    words = " ".join(read(report.write(tmp_path)).words)
    assert "ratio = 0.6 was best" in words
    assert "overlap" not in words


def test_stopped_evaluation_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run_json()))
    write_lines(tmp_path / "results.jsonl", result_lines()[:-1])
    assert "stopped before its end" in " ".join(read(report.write(tmp_path)).words)


def test_latest_evaluation_wins(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run_json()))
    old = result_lines("old", {"fine-tuned": (0.111, 0.222, 0.333)}, sentence="not better than pixels: use pixels")
    write_lines(tmp_path / "results.jsonl", old + result_lines("new"))
    page = report.write(tmp_path).read_text()
    assert "not better than pixels" not in page
    assert "33.3" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.S).replace("33.3 <", "").replace("33.3</b>", "")
    assert "holds 2 evaluations" in page


@pytest.mark.parametrize(
    ("sentence", "outcome"),
    [
        (SENTENCE, "better"),
        ("not better than HOG + logistic regression: use HOG + logistic regression", "worse"),
        ("pretraining is not certainly better than HOG (44.1 % against 43.0 %): use HOG", "worse"),
        (
            "fine-tuned, pretraining is not better than training from scratch (60.0 % against 61.0 %); its linear probe is better "
            "than that by +9.0 points (95 % CI 7.0 to 11.0): use it",
            "mixed",
        ),
        ("With 10 labels per class, pretraining is worth -2.1 points (95 % CI -3.0 to -1.2)", "worse"),
        (
            "pretraining is not better than HOG with logistic regression (40.1 % against 43.0 %): "
            "use HOG; over training from scratch at equal steps it is worth +8.1 points (95 % CI 7.0 to 9.2).",
            "mixed",
        ),
        (
            "pretraining is not better than raw pixels (32.5 % against 40.0 %): use raw pixels; no row is certainly better than "
            "guessing (10 %): give more labels, or more --seeds",
            "worse",
        ),
        ("With 1 label per class, pretraining scored +3.0 points: too few seeds to tell.", "unclear"),
        ("The intervals overlap at every number of labels", "unclear"),
    ],
)
def test_outcome_colors_the_verdict(tmp_path: Path, sentence: str, outcome: str) -> None:
    write_lines(tmp_path / "results.jsonl", result_lines(sentence=sentence))
    assert f'<div class="verdict {outcome}">' in report.write(tmp_path).read_text()


@pytest.mark.parametrize("state", ["diverged", "stopped", "failed", "running"])
def test_status_is_said(tmp_path: Path, state: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run_json()))
    (tmp_path / "status.json").write_text(json.dumps({"state": state, "step": 12, "resumable": True, "reason": "why"}))
    assert re.search(r'class="alert">This run .*step 12', report.write(tmp_path).read_text())


def test_damaged_run_json_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"method": "mae", ')
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        report.write(tmp_path)
    (tmp_path / "run.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="JSON object"):
        report.write(tmp_path)


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        report.write(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        report.write(tmp_path / "absent")


def test_damaged_lines_are_left_out_with_a_note(tmp_path: Path) -> None:
    full_run(tmp_path)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"step": 1810, "loss": NaN}\n[]\n\xff\xfe{"step": 9\n{"step": 1820, "lo')
    with (tmp_path / "results.jsonl").open("ab") as file:
        file.write(b"[" * 100_000 + b"\n")
    (tmp_path / "status.json").write_text("{")
    (tmp_path / "pictures" / "split-04.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    reader = read(report.write(tmp_path))
    words = " ".join(reader.words)
    assert "left-out" in sections(reader)
    assert "log.jsonl: 3 damaged lines left out" in words
    assert "results.jsonl: 1 damaged line left out" in words
    assert "split-04.png was left out" in words
    assert "status.json is damaged" in words


JUNK = (None, -1.5, "x", [1], {"a": 1}, True, 10**400, float("nan"))


def test_wrong_types_anywhere_do_not_crash(tmp_path: Path) -> None:
    full_run(tmp_path, pictures=False, every=300)
    for name in ("run.json", "status.json", "sweep.json"):
        value = json.loads((tmp_path / name).read_text())
        damaged = [{**value, key: JUNK[at % len(JUNK)]} for at, key in enumerate(value)]
        damaged += [dict.fromkeys(value, junk) for junk in JUNK]
        for each in damaged:
            (tmp_path / name).write_text(json.dumps(each))
            read(report.write(tmp_path))
        (tmp_path / name).write_text(json.dumps(value))


def test_wrong_types_in_lines_do_not_crash(tmp_path: Path) -> None:
    full_run(tmp_path, pictures=False, every=300)
    for name in ("log.jsonl", "results.jsonl", "skipped.jsonl"):
        text = (tmp_path / name).read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        for junk in (None, -3, "x", [], {"a": [1]}, [{"a": 1}]):
            changed = [{**line, key: junk} for line in (lines[0], lines[-1]) for key in line]
            write_lines(tmp_path / name, lines[:-1] + changed + lines[-1:])
            read(report.write(tmp_path))
        (tmp_path / name).write_text(text)


def test_tags_do_not_depend_on_the_number_of_rows_only(tmp_path: Path) -> None:
    """One label count, one row, no spread: the smallest evaluation there is."""
    score = {
        "kind": "score",
        "method": "linear probe",
        "metric": "accuracy",
        "labels_per_class": None,
        "value": 0.5,
        "seeds": [0],
    }
    write_lines(tmp_path / "results.jsonl", [score])
    counted = Counter(tag for tag, _ in read(report.write(tmp_path)).elements)
    assert counted["svg"] == 4  # wide, narrow, a swatch in the legend and one in the table


def test_cannot_write(tmp_path: Path) -> None:
    from withheld.errors import CannotWrite

    full_run(tmp_path)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(CannotWrite, match=r"report\.html"):
        report.write(tmp_path)
    assert not list(tmp_path.glob(".report*"))


def test_import_is_light() -> None:
    heavy = "torch transformers matplotlib PIL jinja2 numpy sklearn skimage"
    code = f"import sys, withheld.report; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_writing_needs_no_torch(tmp_path: Path) -> None:
    full_run(tmp_path)
    code = f"import sys, withheld.report as r; r.write({str(tmp_path)!r}); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_nothing_of_ours_is_cut(tmp_path: Path) -> None:
    full_run(tmp_path, pictures=False, every=2)
    config = {f"key_{i:03d}": i for i in range(200)}
    run = run_json(command="withheld pretrain mae " + " ".join(f"--set a{i}={i}" for i in range(600)))
    run["encoder"]["config"] = config
    (tmp_path / "run.json").write_text(json.dumps(run))
    page = report.write(tmp_path).read_text()
    assert "key_199" in page
    assert "--set a599=599" in page
    lines = re.findall(r'<path d="([^"]*)" class="(?:raw|smooth)">', page)
    assert len(lines) > 8
    assert all(re.fullmatch(r"M[-\d.]+ [-\d.]+( L[-\d.]+ [-\d.]+)+", line) for line in lines)
    ends = {float(line.rsplit("L", 1)[1].split()[0]) for line in lines}
    assert ends <= {906.0, 336.0, 290.0}, "every line ends at the right edge of its plot"


def test_asides_follow_the_sentence(tmp_path: Path) -> None:
    sentence = (
        "pretraining is not better than HOG: use HOG; over training from scratch it is worth +8.1 points; no more."
    )
    write_lines(tmp_path / "results.jsonl", result_lines(sentence=sentence, outcome="worse"))
    page = report.write(tmp_path).read_text()
    assert "<h1>pretraining is not better than HOG: use HOG.</h1>" in page
    assert "Over training from scratch it is worth +8.1 points. No more.</p>" in page
    assert '<div class="verdict mixed">' in page


def test_glues_table_is_shown_whole_or_not_at_all(tmp_path: Path) -> None:
    run = full_run(tmp_path / "mae")
    table = {"header": ["system", "on", "CoLA"], "rows": [["ours <b>", "dev", "7.0 (6.0-8.0)"]], "said": "Percent."}
    (run / "glue.json").write_text(json.dumps(table))
    page = report.write(run).read_text(encoding="utf-8")
    assert 'id="glue"' in page
    assert "7.0 (6.0-8.0)" in page
    assert "ours <b>" not in page
    (run / "glue.json").write_text(json.dumps({**table, "rows": [["ours", "dev"]]}))
    assert 'id="glue"' not in report.write(run).read_text(encoding="utf-8")


def test_glues_sentence_is_the_headline_where_there_is_no_other_verdict(tmp_path: Path) -> None:
    run = full_run(tmp_path / "bert")
    for file in ("results.jsonl", "verdict.json", "report.html"):
        (run / file).unlink(missing_ok=True)
    table = {"header": ["system", "on", "CoLA"], "rows": [["ours", "dev", "7.0"]], "said": "Percent."}
    said = {"sentence": "Pretraining is worth something on CoLA", "outcome": "better"}
    (run / "glue.json").write_text(json.dumps({**table, **said}))
    page = report.write(run).read_text(encoding="utf-8")
    assert "Pretraining helped" in page
    assert said["sentence"] in page
    assert "Not evaluated yet" not in page
    assert "was not measured yet" not in page


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"recipe": {"normalize": False}}, False),
        ({"encoder": {"name": "vit-tiny", "pretrained": True}}, False),
    ],
    ids=["own", "pixels as they are", "an encoder's"],
)
def test_mean_and_deviation_are_told_where_they_are_the_data_s(tmp_path: Path, changes: dict, shown: bool) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run_json(**changes)), encoding="utf-8")
    words = " ".join(read(report.write(tmp_path)).words)
    assert ("mean of the channels" in words) == ("standard deviation" in words) == shown
