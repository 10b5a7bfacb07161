"""GLUE's files as published, and every way they can be wrong."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr, ttest_1samp

from withheld.data.glue import TASKS, chosen_tasks, find_tasks, read_task
from withheld.errors import InputError
from withheld.evaluate.glue import glue
from withheld.evaluate.glue_metrics import glue_metrics, sampled_items, write_submission
from withheld.evaluate.glue_table import DEV, PUBLISHED, GlueRow, lines_of, markdown, verdict_of

PUBLISHED_FORMS = {
    "sst2": ("sentence\tlabel", "a film\t1", "index\tsentence\n0\ta film"),
    "cola": (None, 'gj04\t1\t\t"Quoted" words', "index\tsentence\n0\ta b"),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t7\t8\ta b\tc d", None),
    "stsb": ("index\tgenre\tsentence1\tsentence2\tscore", "0\tx\ta b\tc d\t3.5", None),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\ta\tb\t1", None),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\ta\tb\tnot_entailment", None),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\ta\tb\tentailment", None),
    "mnli": ("index\tsentence1\tsentence2\tgold_label", "0\ta\tb\tneutral", None),
}


def written(folder, task: str, train: str | None = None):
    header, row, test = PUBLISHED_FORMS[task]
    place = folder / TASKS[task].title
    place.mkdir(parents=True, exist_ok=True)
    content = (f"{header}\n" if header else "") + f"{row}\n{row}\n"
    (place / "train.tsv").write_text(train if train is not None else content, encoding="utf-8")
    for dev in ("dev_matched.tsv", "dev_mismatched.tsv") if task == "mnli" else ("dev.tsv",):
        (place / dev).write_text(content, encoding="utf-8")
    if test:
        (place / "test.tsv").write_text(test + "\n", encoding="utf-8")
    return place


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_is_read_as_published(tmp_path, task):
    place = written(tmp_path, task)
    sets = read_task(find_tasks(tmp_path)[task], TASKS[task])
    train = sets.parts["train"]
    assert len(train) == 2
    assert bool(train.second) == TASKS[task].pair
    assert train.label is not None
    assert train.label.dtype == (np.int64 if TASKS[task].classes else np.float64)
    assert find_tasks(place)[task] == place
    if "test" in sets.parts:
        assert sets.parts["test"].label is None


@pytest.mark.parametrize(
    ("task", "train", "told"),
    [
        ("sst2", "sentence\tlabel\na film\t1\nbroken\n", "train.tsv:3: 1 column where 2"),
        ("sst2", "sentence\tlabel\na film\t7\n", "train.tsv:2: the label '7' is not one of 0, 1"),
        ("sst2", "text\tlabel\na film\t1\n", "no column sentence"),
        ("sst2", "sentence\tlable\na film\t1\n", "no column label"),
        ("stsb", "index\tgenre\tsentence1\tsentence2\tscore\n0\tx\ta\tb\tnine\n", "not a score"),
        ("sst2", "", "is empty"),
    ],
)
def test_a_bad_file_names_its_line(tmp_path, task, train, told):
    written(tmp_path, task, train)
    with pytest.raises(InputError, match=told):
        read_task(find_tasks(tmp_path)[task], TASKS[task])


def test_marks_that_look_like_ends_of_lines_end_no_row_of_a_csv(tmp_path):
    rows = [["a page\u2028 of two lines", "what a\x85 day", "4.5"], ["a, b", "two\nlines", "0.5"]]
    place = tmp_path / "STS-B"
    place.mkdir()
    for part in ("train", "dev"):
        with open(place / f"stsb-en-{part}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    train = read_task(place, TASKS["stsb"]).parts["train"]
    assert [[*texts, str(label)] for *texts, label in zip(train.first, train.second, train.label, strict=True)] == rows


def test_missing_files_and_unknown_tasks(tmp_path):
    with pytest.raises(InputError, match="no task in it"):
        find_tasks(tmp_path)
    place = written(tmp_path, "rte")
    (place / "dev.tsv").unlink()
    with pytest.raises(InputError, match="no dev file"):
        read_task(place, TASKS["rte"])
    with pytest.raises(InputError, match=r"--tasks rtee: did you mean 'rte'\?$"):
        chosen_tasks(find_tasks(tmp_path), "rtee")
    with pytest.raises(InputError, match="not there"):
        chosen_tasks(find_tasks(tmp_path), "cola")


def test_metrics_are_the_naive_formulas():
    generator = np.random.default_rng(0)
    guess, label = generator.integers(0, 2, 100), generator.integers(0, 2, 100)
    tp, fp = int(((guess == 1) & (label == 1)).sum()), int(((guess == 1) & (label == 0)).sum())
    fn, tn = int(((guess == 0) & (label == 1)).sum()), int(((guess == 0) & (label == 0)).sum())
    found = glue_metrics(TASKS["mrpc"], guess, label)
    assert found["f1"] == pytest.approx(100 * 2 * tp / (2 * tp + fp + fn))
    assert found["accuracy"] == pytest.approx(tp + tn)
    matthews = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert glue_metrics(TASKS["cola"], guess, label)["matthews"] == pytest.approx(100 * matthews)
    a, b = generator.normal(size=50), generator.normal(size=50)
    spearman = np.corrcoef(rankdata(a), rankdata(b))[0, 1]
    assert glue_metrics(TASKS["stsb"], a, b)["spearman"] == pytest.approx(100 * spearman)
    assert glue_metrics(TASKS["stsb"], np.ones(50), b) == {"spearman": 0.0, "pearson": 0.0}


def test_the_servers_files(tmp_path):
    written(tmp_path, "sst2")
    sets = read_task(find_tasks(tmp_path)["sst2"], TASKS["sst2"])
    (path,) = write_submission(tmp_path / "out", sets, {"test": np.array([1])})
    assert path.name == "SST-2.tsv"
    assert path.read_text() == "index\tprediction\n0\t1\n"


def test_the_table_has_the_papers_layout():
    ours = GlueRow("ours", "dev", {"sst2": [80.0, 82.0, 81.0]})
    header, cells = lines_of([ours])
    assert header[2:5] == ["MNLI-(m/mm)", "QQP", "QNLI"]
    assert cells[-1][5] == "81.0 (80.0-82.0)"
    assert cells[-1][-1] == "-"
    base = next(row for row in PUBLISHED if row.name == "BERT base")
    assert base.cell("mnli") == "84.6/83.4"
    assert GlueRow("again", "dev", base.values, base.second).mean() == "79.6"
    assert markdown([ours]).count("\n") == len(PUBLISHED) + 2


def test_a_task_is_measured_once_and_goes_on(tmp_path):
    import withheld

    words = ["good", "bad"]
    rows = "\n".join(f"a {words[i % 2]} film number {i}\t{1 - i % 2}" for i in range(60))
    place = written(tmp_path / "glue", "sst2", f"sentence\tlabel\n{rows}\n")
    (place / "dev.tsv").write_text(f"sentence\tlabel\n{rows}\n")
    texts = [f"a {words[i % 2]} film number {i} of many" for i in range(60)]
    run = tmp_path / "run"
    withheld.pretrain("bert", texts, run, steps=3, size=16, batch_size=8, settings={"held_out": 0.1}, pictures=False)
    heard: list = []
    given = {"seeds": 1, "results": run / "results.jsonl", "epochs": 1.0, "submit": tmp_path / "out"}
    first = glue(run, tmp_path / "glue", listen=heard.append, **given)
    assert {row.name for row in first} == {"bert bert-tiny", "bert bert-tiny, from scratch", "tf-idf"}
    assert first[-1].values["sst2"] == [100.0]
    assert (tmp_path / "out" / "SST-2.tsv").is_file()
    steps = sum(event["kind"] == "step" for event in heard)
    heard.clear()
    with (run / "results.jsonl").open("a") as file:
        file.write('{"kind": "glue", "ta\n')  # as a full disk cuts it
    again = glue(run, tmp_path / "glue", listen=heard.append, **given)
    assert steps > 0
    assert not [event for event in heard if event["kind"] == "step"]
    assert [row.values for row in again] == [row.values for row in first]
    assert again[0].items == first[0].items
    assert first[0].items["sst2"] >= 0
    turned = "\n".join(f"a {words[i % 2]} film number {i}\t{i % 2}" for i in range(60))
    (place / "dev.tsv").write_text(f"sentence\tlabel\n{turned}\n")
    other = glue(run, tmp_path / "glue", listen=heard.append, **given)
    assert other[-1].values["sst2"] == [0.0], "other files are measured, not looked up"


def test_lines_that_break_off_in_the_published_qqp_are_left_out_and_named(tmp_path):
    header, row, _ = PUBLISHED_FORMS["qqp"]
    written(tmp_path, "qqp", "\n".join([header, *[row] * 2000, "7\t1\t2\ta question"]) + "\n")
    sets = read_task(find_tasks(tmp_path)["qqp"], TASKS["qqp"])
    assert len(sets.parts["train"]) == 2000
    assert "train.tsv:2002" in sets.notes[0]
    written(tmp_path, "qqp", "\n".join([header, *[row] * 20, "7\t1\t2\ta question"]) + "\n")
    with pytest.raises(InputError, match=r"train.tsv:22; get the file again"):
        read_task(find_tasks(tmp_path)["qqp"], TASKS["qqp"])


def small_task(root, task: str) -> None:
    """Forty rows of a task of single texts or of one of pairs, the same to learn from and to be tested."""
    words = ["good", "bad"]
    single = "\n".join(f"a {words[i % 2]} film number {i}\t{1 - i % 2}" for i in range(40))
    pairs = "\n".join(f"{i}\tx\ta {words[i % 2]} film\ta {words[i // 2 % 2]} film\t{i % 6}" for i in range(40))
    content = f"sentence\tlabel\n{single}\n" if task == "sst2" else f"{PUBLISHED_FORMS['stsb'][0]}\n{pairs}\n"
    place = written(root, task, content)
    (place / "dev.tsv").write_text(content)


@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_several_encoders_in_one_table(tmp_path, task):
    """Every kind with its own head, on single texts and on pairs; another encoder of the same name is measured anew."""
    import withheld

    words = ["good", "bad"]
    texts = [f"a {words[i % 2]} film number {i} of many" for i in range(60)]
    small_task(tmp_path / "glue", task)
    given = {"steps": 2, "batch_size": 8, "settings": {"held_out": 0.1}, "pictures": False}
    for name, method in (("b", "bert"), ("g", "gpt"), ("e", "elmo"), ("e2", "elmo")):
        withheld.pretrain(method, texts, tmp_path / name, size=8, seed=name == "e2", **given)
    measure = {"seeds": 1, "epochs": 1.0, "results": tmp_path / "results.jsonl"}
    others = [tmp_path / name for name in ("g", "e", "e2", "b")]
    found = glue(tmp_path / "b", tmp_path / "glue", against=others, **measure)
    kinds = ["bert bert-tiny", "gpt gpt-tiny", "elmo elmo-tiny", "elmo elmo-tiny (2)"]
    rows = [name for kind in kinds for name in (kind, f"{kind}, from scratch")]
    assert [row.name for row in found] == [*rows, "bert bert-tiny (2)", "tf-idf"]  # the last BERT's twin stands above
    assert all(np.isfinite(row.values[task]).all() for row in found)
    heard: list = []
    glue(tmp_path / "e2", tmp_path / "glue", listen=heard.append, **measure)  # takes the name of the one before
    assert any(event["kind"] == "step" for event in heard)


def test_the_sentence_of_the_table():
    """Paired by seed: a gap of 2 in every seed is certain whatever the seeds have in common."""
    seeds = np.array([70.0, 75.0, 80.0, 72.0, 78.0])
    rows = [
        GlueRow(
            "bert",
            DEV,
            {"sst2": list(seeds + 2 + np.array([0.1, 0, -0.1, 0, 0])), "cola": list(seeds), "mrpc": [80.0] * 5},
        ),
        GlueRow(
            "bert, from scratch", DEV, {"sst2": list(seeds), "cola": list(seeds[::-1]), "mrpc": [80, 81, 82, 81, 81.5]}
        ),
        GlueRow("tf-idf", DEV, {"sst2": [60.0], "cola": [75.0], "mrpc": [79.0]}),
    ]
    found = verdict_of(rows)
    assert found["outcome"] == "mixed"
    assert found["sentence"] == (
        "Pretraining is worth something over training the same network from scratch on SST-2 (+2.0 points, 95 % CI 1.9 to 2.1); "
        "it is not certainly better than that on CoLA (+0.0 points, 95 % CI -7.5 to 7.5); it is worse than that on MRPC "
        "(-1.1 points, 95 % CI -2.0 to -0.2); tf-idf with a linear model is as good or better on CoLA (75.0 against 75.0)"
    )
    for gaps, told in (([0, -1, -2, -1, -1.5], (-2.0, -0.2)), (seeds - seeds[::-1], (-7.5, 7.5))):
        low, high = ttest_1samp(gaps, 0).confidence_interval()
        assert (round(low, 1), round(high, 1)) == told
    once = [GlueRow(row.name, DEV, {"sst2": row.values["sst2"][:1]}) for row in rows]
    assert verdict_of(once) == {
        "sentence": "Pretraining is not certainly better than training the same network from scratch on SST-2 "
        "(+2.1 points, one seed)",
        "outcome": "unclear",
    }


@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_the_sample_of_dev_rows_is_in_the_interval(task):
    """Of a share of right answers as the closed form has it; of a correlation as wide as fresh samples differ."""
    rng = np.random.default_rng(0)

    def sample(rows):
        if task == "sst2":
            label = rng.integers(0, 2, rows)
            return (
                label,
                np.where(rng.random(rows) < 0.8, label, 1 - label),
                np.where(rng.random(rows) < 0.7, label, 1 - label),
            )
        label = rng.normal(size=rows)
        return label, label + rng.normal(size=rows), label + 2 * rng.normal(size=rows)

    label, a, b = sample(800)
    half = sampled_items(TASKS[task], label, [(a, b), (a, b)])
    if task == "sst2":
        gaps = 100 * ((a == label) * 1.0 - (b == label))
        expected = 1.96 * gaps.std() / np.sqrt(800)
    else:
        fresh = [sample(800) for _ in range(200)]
        expected = 1.96 * np.std([100 * (spearmanr(a, y)[0] - spearmanr(b, y)[0]) for y, a, b in fresh])
    assert half == pytest.approx(expected, rel=0.25)
    same = sampled_items(TASKS[task], label, [(a, a), (a, a)])  # two systems that agree on all of 800 rows
    assert same == pytest.approx(100 * 3.841459 / (800 + 3.841459))
    rows = [
        GlueRow("bert", DEV, {task: [70.0, 70.0]}, items={task: half}),
        GlueRow("scratch", DEV, {task: [69.0, 69.0]}),
    ]
    assert f"95 % CI {1 - half:.1f} to {1 + half:.1f}" in verdict_of([*rows, GlueRow("tf-idf", DEV, {})])["sentence"]


def test_the_real_files(shared_data):
    found = find_tasks(shared_data / "glue")
    sizes = {name: len(read_task(path, TASKS[name]).parts["train"]) for name, path in found.items()}
    assert sizes == {"sst2": 67349, "cola": 8551, "stsb": 5749, "mrpc": 4076}


@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_word_vectors_are_fine_tuned_as_well(tmp_path, task):
    """They were refused, with the advice to use evaluate."""
    import withheld

    words = ["good", "bad"]
    texts = [f"a {words[i % 2]} film number {i} of many that were seen here" for i in range(60)]
    small_task(tmp_path / "glue", task)
    run = withheld.pretrain("same_text", texts, tmp_path / "run", steps=2, batch_size=8, pictures=False).folder
    found = glue(run, tmp_path / "glue", seeds=1, epochs=1.0)
    assert [row.name for row in found] == ["same_text word-vectors", "same_text word-vectors, from scratch", "tf-idf"]
    assert all(np.isfinite(row.values[task]).all() for row in found)
