"""Bad input: what, where and how to mend it; the documented exit code; no traceback; nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from withheld.cli.ending import ending
from withheld.data.source import open_source
from withheld.errors import CannotWrite, Diverged, InputError, RankFailed, RunInUse

Run = Callable[..., Result]


def refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.mark.promise("R19", "no items")
def test_an_empty_folder(tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "empty").mkdir()
    refused(
        withheld("pretrain", "mae", "--data", tmp_path / "empty", "--out", tmp_path / "o"), 2, "found 0", "looked for"
    )
    refused(withheld("check", tmp_path / "empty"), 2, "empty")
    assert not (tmp_path / "o" / "run.json").exists()


def test_no_such_data(tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "photos").mkdir()
    refused(withheld("check", tmp_path / "photo"), 2, "did you mean 'photos'")


NOT_THERE: list[tuple[tuple[object, ...], str]] = [
    (("pretrain", "auto", "--data", "photo/", "--out", "o"), "did you mean 'photos'"),
    (("check", "photo/"), "did you mean 'photos'"),
    (("show", "mae", "photos/", "--run", "runs/frist"), "did you mean 'first'"),
    (("evaluate", "runs/frist", "--data", "photos/"), "did you mean 'first'"),
    (("evaluate", "frist", "--data", "photos/"), "there is no folder 'frist' here"),
    (("evaluate", "runs/first", "--data", "photos/", "--against", "runs/second"), "there is no folder 'runs/second'"),
    (("finetune", "runs/frist", "--data", "photos/", "--out", "m"), "did you mean 'first'"),
    (("finetune", "runs/first", "--data", "photo/", "--out", "m"), "did you mean 'photos'"),
    (("predict", "models/first", "photos/"), "`withheld finetune RUN --data LABELLED --out models/first` makes one"),
    (("detect", "models/d", "photos/", "-o", "found/"), "`withheld finetune RUN --boxes DIR --out models/d` makes one"),
    (("suggest", "runs/frist", "--data", "photos/"), "did you mean 'first'"),
    (("suggest", "frist", "--data", "photos/"), "is no folder here"),
    (("search", "/no/such/run", "a.png", "--data", "photos/"), "there is no folder '/no/such/run'"),
    (("embed", "runs/frist", "photos/"), "did you mean 'first'"),
    (("export", "runs/frist", "--to", "hf"), "did you mean 'first'"),
    (("sample", "runs/vae"), "`withheld pretrain METHOD --data DATA --out runs/vae` makes one"),
    (("likelihood", "runs/first", "--data", "photo"), "did you mean 'photos'"),
    (("colorize", "runs/color", "photos/", "-o", "colored/"), "there is no run 'runs/color'"),
    (("score", "runs/lm", "a sentence"), "there is no folder 'runs/lm'"),
    (("track", "runs/frist", "clip.mp4", "--mask", "first.png", "-o", "o.mp4"), "did you mean 'first'"),
    (("doctor", "runs/frist"), "did you mean 'first'"),
    (("report", "runs/frist"), "did you mean 'first'"),
]


def test_a_path_that_is_not_there_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, withheld: Run
) -> None:
    """With a name like it, or what makes one."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for words, said in NOT_THERE:
        refused(withheld(*words), 2, said)


def test_a_path_that_is_not_there_is_said_before_torch_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom withheld.cli import main\nfor words in sys.argv[1:]:\n    try:\n        main(words.split())\n"
        "    except SystemExit as end:\n        assert end.code == 2\nassert 'torch' not in sys.modules\n"
    )
    commands = [
        "pretrain mae --data photo --out o",
        "evaluate a/b/c --data .",
        "finetune a/b/c --data . --out m",
        "predict m .",
    ]
    done = subprocess.run([sys.executable, "-c", program, *commands], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("may", "--steps", 2), "did you mean 'mae'"),
        (("mae", "--steps", 2, "--set", "rato=0.5"), "did you mean 'ratio'"),
        (("mae", "--steps", 2, "--set", "ratio=high"), "takes a number"),
        (("mae", "--steps", 2, "--set", "ratio=1.5"), "outside (0, 1)"),
        (("mae", "--steps", 2, "--set", "ratio=0"), "outside (0, 1)"),
        (("mae", "--steps", 2, "--encoder", "vit-tinny"), "vit-tiny"),
        (("mae", "--steps", 2, "--minutes", 1), "--minutes and --steps"),
        (("mae", "--steps", 0), "--steps"),
        (("mae", "--steps", 2, "--size", "large"), "auto"),
        (("mae", "--steps", 2, "--device", "cuda:77"), "--device"),
    ],
)
def test_settings_that_are_none(
    words: tuple[object, ...], said: str, labelled: Path, tmp_path: Path, withheld: Run
) -> None:
    refused(withheld("pretrain", *words, "--data", labelled, "--out", tmp_path / "o"), 2, said)
    assert not (tmp_path / "o" / "run.json").exists()


def test_a_run_that_exists(run: Path, labelled: Path, withheld: Run) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and "lock" not in path.name}
    refused(withheld("pretrain", "mae", "--data", labelled, "--out", run, "--steps", 3), 2, "--resume")
    more = ("--steps", 5, "--batch-size", 16, "--resume")
    refused(withheld("pretrain", "mae", "--data", labelled, "--out", run, *more), 2, "steps: 3 -> 5")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_out_is_a_file(labelled: Path, tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "file").write_text("kept")
    result = withheld("pretrain", "mae", "--data", labelled, "--out", tmp_path / "file", "--steps", 2)
    refused(result, 74, "is a file")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.promise("R17", "a run folder in use, on the command line")
def test_a_run_in_use(run: Path, labelled: Path, withheld: Run) -> None:
    from withheld.lock import locked

    with locked(run):
        result = withheld(
            "pretrain", "mae", "--data", labelled, "--out", run, "--steps", 3, "--batch-size", 16, "--resume"
        )
    refused(result, 73, f"in use by process {os.getpid()} on ")


@pytest.mark.parametrize(
    ("csv", "said"),
    [
        ("file,lable\nacross/0.png,a\n", "label"),
        ("file,label\nacross/99.png,a\nacross/98.png,b\n", "labels.csv:2"),
        ("file,label\nacross/0.png,a\nacross/1.png,a\n", "class"),
    ],
)
def test_a_wrong_labels_csv(csv: str, said: str, run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "labels.csv").write_text(csv)
    result = withheld("evaluate", run, "--data", labelled, "--labels", tmp_path / "labels.csv")
    refused(result, 2, said)


def test_subjects_that_are_none(labelled: Path, tmp_path: Path, withheld: Run) -> None:
    refused(withheld("evaluate", tmp_path / "none", "--data", labelled, "--out", tmp_path / "o"), 2, "none")
    refused(withheld("report", tmp_path / "none"), 2, "withheld pretrain METHOD")
    refused(withheld("embed", tmp_path / "none", labelled, "-o", tmp_path / "f.npz"), 2, "none")
    refused(withheld("predict", tmp_path / "none", labelled, "-o", tmp_path / "l.csv"), 2, "none")
    refused(withheld("evaluate", "x", "--data", labelled, "--labels-per-class", "1,x"), 2, "1,10,100")


def test_a_run_that_was_refused_leaves_no_subject(labelled: Path, tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "run").mkdir()
    for name in ("run.lock", "run.lock.json"):
        (tmp_path / "run" / name).touch()
    refused(withheld("evaluate", tmp_path / "run", "--data", labelled), 2, "holds no run and no encoder: it is empty")


def test_a_demo_does_not_clear_what_is_not_its_own(tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "thesis.tex").write_text("kept")
    refused(withheld("demo", "--out", tmp_path), 2, "choose another --out")
    assert (tmp_path / "thesis.tex").read_text() == "kept"


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("bad"), 2, "error: bad"),
        (Diverged("nan"), 3, "error: nan"),
        (RunInUse("busy"), 73, "error: busy"),
        (CannotWrite("full"), 74, "error: full"),
        (RankFailed("gone"), 75, "error: gone"),
        (OSError(28, "No space left on device", "x"), 74, "Free some space"),
        (OutOfMemoryError("CUDA out of memory.\nmore"), 75, "half the --batch-size"),
        (MemoryError(), 75, "half the --batch-size"),
        (KeyboardInterrupt(), 130, "Ctrl-C"),
        (click.Abort(), 130, "stopped"),
        (click.UsageError("so not"), 2, "so not"),
        (InputError("a\x1b[2Jb"), 2, "a\\x1b[2Jb"),
    ],
)
@pytest.mark.promise("R21", "ways to end, each with its exit code")
def test_every_ending(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        ending(command)
    assert ended.value.code == code
    assert said in capsys.readouterr().err


def test_a_bug_of_ours_shows_its_traceback() -> None:
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ending(command)


def test_the_traceback_on_request(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise InputError("bad")

    monkeypatch.setenv("WITHHELD_DEBUG", "1")
    with pytest.raises(SystemExit):
        ending(command)
    assert "Traceback" in capsys.readouterr().err


def test_other_ranks_do_not_repeat_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    for error, spoken in ((InputError("bad"), False), (RankFailed("gone"), True)):

        def command(error: Exception = error) -> None:
            raise error

        with pytest.raises(SystemExit):
            ending(command)
        assert bool(capsys.readouterr().err) is spoken


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.promise("R13", "signals to the command line")
def test_a_stopped_run_says_how_to_go_on(number: int, code: int, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["pretrain", "mae", "--data", str(labelled), "--out", str(out), "--steps", "100000", "--batch-size", "16"]
    process = subprocess.Popen(
        [sys.executable, "-m", "withheld", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 90
    while not ((out / "log.jsonl").is_file() and (out / "log.jsonl").stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "--resume" in said
    assert "Traceback" not in said
    assert list((out / "state").glob("step-*"))


def test_data_of_another_kind_is_named(tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "A.MP4").write_bytes(b"x")
    (tmp_path / "reviews.csv").write_text("review,sentiment\ngood,1\n")
    for data, said in (("clips", "these are clips"), ("reviews.csv", "these are texts, or rows of numbers")):
        result = withheld("pretrain", "mae", "--data", tmp_path / data, "--out", tmp_path / "o", "--steps", 1)
        refused(result, 2, said, "withheld list --modality")


def test_one_class_is_named(run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "only").mkdir()
    for file in (labelled / "down").iterdir():
        (tmp_path / "only" / file.name).write_bytes(file.read_bytes())
    result = withheld("finetune", run, "--data", tmp_path, "--out", tmp_path / "m")
    refused(result, 2, "only one class folder, 'only'", "two or more")


def test_few_items_are_told_of_before_learning(tmp_path: Path, labelled: Path, withheld: Run) -> None:
    more = ("--out", tmp_path / "o", "--steps", 2, "--dry-run")
    result = withheld("pretrain", "simclr", "--data", labelled, *more)
    assert result.exit_code == 0, result.output
    assert "too few images to learn from (40)" in result.stderr


def test_an_encoding_without_the_letters_is_no_reason_to_end() -> None:
    program = "from withheld.cli.ending import ending\nending(lambda: print('K\\xf6ln \\xb1'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "K\\xf6ln \\xb1\n"), done.stderr


def test_a_run_of_rows_keeps_no_encoder_and_need_not_be_finished(tmp_path: Path, labelled: Path, withheld: Run) -> None:
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "run.json").write_text('{"method": "mixture", "title": "mixture", "modality": "table"}')
    result = withheld("finetune", tmp_path / "groups", "--data", labelled, "--out", tmp_path / "m")
    refused(
        result,
        2,
        "a run of mixture keeps a model of items, and no encoder; which row belongs to what: withheld predict",
    )


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic", "is a picture of a kind that is not read here: save it as JPEG or PNG"),
        ("a.jpg", b"", "is empty"),
        ("a.png", b"hello", "is no image, whatever its name says"),
    ],
)
def test_single_files_that_are_no_images_say_what_they_are(
    tmp_path: Path, name: str, contents: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(InputError, match=said):
        open_source(str(tmp_path / name))


def test_what_is_not_there_to_be_learned_from_is_named(tmp_path: Path, withheld: Run) -> None:
    for name, file in (("photos", "a.heic"), ("films", "b.wmv"), ("pages", "c.html")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(b"x")
    out = tmp_path / "o"
    for method in ("mae", "auto"):
        refused(
            withheld("pretrain", method, "--data", tmp_path / "photos", "--out", out), 2,
            ".heic pictures are not read here: save them as JPEG or PNG",
        )  # fmt: skip
    for method in ("videomae", "auto"):
        refused(
            withheld("pretrain", method, "--data", tmp_path / "films", "--out", out), 2,
            ".wmv videos are not read here: save them as .mp4",
        )  # fmt: skip
    for method in ("bert", "auto"):
        refused(
            withheld("pretrain", method, "--data", tmp_path / "pages", "--out", out), 2, "saved as plain text, .txt"
        )


def test_images_that_are_none_beside_clips_name_the_first_and_the_clips(tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "cover.jpg").write_bytes(b"no picture")
    (tmp_path / "a.mp4").write_bytes(b"no video")
    refused(
        withheld("pretrain", "mae", "--data", tmp_path, "--out", tmp_path / "o"), 2,
        "the first: 'cover.jpg' is not an image of a format that is read; these are clips",
    )  # fmt: skip


@pytest.mark.parametrize("method", ["mixture", "mean_field", "code_prior"])
def test_show_of_what_hides_nothing_says_so(method: str, tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    refused(
        withheld("show", method, tmp_path / "t.csv"),
        2,
        f"{method} hides nothing of them",
        f"withheld pretrain {method}",
    )
    assert not list(tmp_path.glob("*.png"))
