"""Distillation of texts: the student reads the teacher's tokens and learns what it says of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import withheld
from made_texts import WORDS
from withheld.cli import main
from withheld.errors import InputError
from withheld.image_encoder import ImageEncoder
from withheld.networks import frozen_text
from withheld.networks.frozen_text import FrozenText
from withheld.networks.open import open_trunk
from withheld.networks.text_open import open_text_trunk
from withheld.run import load_method, open_run
from withheld.splits.text import LeaveOutWords
from withheld.text_encoder import TextEncoder

GIVEN = {"batch_size": 16, "pictures": False, "device": "cpu"}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(4, 30))).capitalize() + "." for _ in range(300)]


@pytest.fixture(scope="module")
def teacher(texts, tmp_path_factory) -> withheld.Run:
    """A BERT whose dropout would show."""
    out = tmp_path_factory.mktemp("teacher")
    run = withheld.pretrain("bert", texts, out / "run", steps=3, size=32, **GIVEN)
    path = out / "run" / "encoder" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}))
    return run


@pytest.fixture(scope="module")
def student(texts, teacher, tmp_path_factory) -> withheld.Run:
    out = tmp_path_factory.mktemp("student") / "run"
    return withheld.pretrain("distill_text", texts, out, steps=20, settings={"teacher": str(teacher.folder)}, **GIVEN)


def batch_of(encoder: TextEncoder, texts: list[str]) -> dict[str, torch.Tensor]:
    rows = encoder.rows(texts)
    item = nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row) for row in rows], batch_first=True, padding_value=encoder.pad
    )
    return {"item": item, "mask": torch.arange(item.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]}


def test_the_student_reads_what_the_teacher_reads_and_learns_what_it_says(student, teacher, texts):
    one, two = student.encoder(), teacher.encoder()
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()
    assert student.settings["data"]["tokenizer"] == f"of {teacher.folder / 'encoder'}"
    lines = [json.loads(line) for line in (student.folder / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    objective = open_run(student.folder).objective()
    torch.testing.assert_close(
        objective.trunk.vector(batch_of(one, texts[:5])),
        torch.from_numpy(one.transform(texts[:5])),
        atol=1e-5,
        rtol=1e-5,
    )
    names = {name.split(".")[0] for name in objective.state_dict()}
    assert names == {"network"}  # the teacher is in no checkpoint


def test_the_loss_is_that_of_the_naive_formula(teacher, texts):
    torch.manual_seed(0)
    trunk, _ = open_text_trunk("word-vectors", vocabulary=teacher.encoder().trunk.vocabulary, length=32)
    trunk.know(teacher.encoder().tokenizer)
    objective, _ = load_method("distill_text")(trunk, teacher=str(teacher.folder), left_out=0.0)
    objective.train()
    told = teacher.encoder().transform(texts[:8])  # nothing is dropped, and windows and pooling are those of an encoder
    features = [(column - column.mean()) / column.std(ddof=1) for column in told.T]
    with torch.no_grad():
        guess = objective.network(objective.split(batch_of(teacher.encoder(), texts[:8])).x)
        loss = objective(batch_of(teacher.encoder(), texts[:8]))["loss"]
    naive = np.mean([(guess[k, d].item() - features[d][k]) ** 2 for k in range(8) for d in range(len(features))])
    assert float(loss) == pytest.approx(float(naive), rel=1e-4)


def test_the_teacher_says_the_same_whatever_stands_beside_a_text_and_is_asked_once(teacher, texts, monkeypatch):
    encoder = teacher.encoder()
    frozen, other = (FrozenText(str(teacher.folder), encoder.trunk.special) for _ in range(2))
    before = {name: p.clone() for name, p in frozen.trunk.state_dict().items()}
    batch = batch_of(encoder, texts[:8])
    found = frozen(batch)
    np.testing.assert_allclose(found.numpy(), encoder.transform(texts[:8]), atol=1e-5)
    short = batch_of(encoder, texts[3:4])
    assert torch.equal(other(short)[0], found[3])  # alone, and beside longer ones
    assert not frozen.trunk.training
    assert all(torch.equal(p, before[name]) for name, p in frozen.trunk.state_dict().items())
    assert not any(p.requires_grad for p in frozen.trunk.parameters())
    asked: list[int] = []
    ask = frozen._ask
    monkeypatch.setattr(frozen, "_ask", lambda y, rows, which: asked.extend(which) or ask(y, rows, which))
    assert torch.equal(frozen(batch), found)
    assert asked == []
    monkeypatch.setattr(frozen_text, "KEPT", 0)
    frozen._kept.clear()
    assert torch.equal(frozen(batch), found)
    assert torch.equal(frozen(batch), found)
    assert len(asked) == 16
    assert frozen._kept == {}


def test_a_killed_run_goes_on_as_if_nothing_had_been(texts, teacher, tmp_path):
    given = {"steps": 50, "settings": {"teacher": str(teacher.folder)}, **GIVEN}  # more than an epoch of 18 steps

    def stop(event: dict) -> None:
        if event["kind"] == "step" and event["step"] == 30:
            raise KeyboardInterrupt

    whole = withheld.pretrain("distill_text", texts, tmp_path / "whole", **given)
    with pytest.raises(KeyboardInterrupt):
        withheld.pretrain("distill_text", texts, tmp_path / "run", save_every=0.0, listen=stop, **given)
    run = withheld.pretrain("distill_text", texts, tmp_path / "run", resume=True, device="cpu", pictures=False)
    one, two = (each.encoder().trunk.state_dict() for each in (whole, run))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_any_language_model_may_be_the_student(texts, teacher, tmp_path):
    run = withheld.pretrain(
        "distill_text",
        texts,
        tmp_path / "run",
        encoder="bert-tiny",
        steps=2,
        settings={"teacher": str(teacher.folder)},
        **GIVEN,
    )
    assert run.encoder().transform(texts[:2]).shape == (2, 128)


@pytest.fixture
def folders(teacher, texts, tmp_path, monkeypatch):
    """Encoders that are no teachers of these texts, by name."""
    monkeypatch.chdir(tmp_path)
    ImageEncoder(open_trunk("conv-nano", size=16, channels=3)[0], [0.5] * 3, [0.5] * 3).save(
        tmp_path / "images" / "encoder"
    )
    encoder = teacher.encoder()
    encoder.trunk.config.save_pretrained(tmp_path / "untrained")
    encoder.tokenizer.save_pretrained(tmp_path / "untrained")
    encoder.trunk.model.save_pretrained(tmp_path / "mute")
    (tmp_path / "empty").mkdir()
    other = [text.replace("sea", "lake") for text in texts]
    withheld.pretrain("bert", other, tmp_path / "others", steps=1, size=32, **GIVEN)
    (tmp_path / "teacher").symlink_to(teacher.folder)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"settings": {}}, "needs a teacher: --set teacher=RUN"),
        ({"settings": {"teacher": "images"}}, "no encoder of texts with its tokenizer is there"),
        ({"settings": {"teacher": "untrained"}}, "has no trained weights"),
        ({"settings": {"teacher": "mute"}}, "no encoder of texts with its tokenizer is there"),
        ({"settings": {"teacher": "bert-tiny"}}, "no encoder of texts with its tokenizer is there"),
        ({"settings": {"teacher": "empty"}}, "no encoder of texts with its tokenizer is there"),
        ({"settings": {"teacher": "teacher", "vocabulary": 100}}, "leave vocabulary out"),
        ({"settings": {"teacher": "teacher", "left_out": 1.0}}, "from 0 to below 1"),
        ({"settings": {"teacher": "teacher"}, "encoder": "others"}, "has others: leave --encoder out"),
    ],
)
def test_what_is_no_teacher_is_said(given, said, folders, texts):
    with pytest.raises(InputError, match=said):
        withheld.pretrain("distill_text", texts, "run", steps=1, **GIVEN, **given)


def test_what_is_left_out_is_shown(teacher, texts, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(texts))
    given = ["show", "distill_text", tmp_path / "a.txt", "--set", f"teacher={teacher.folder}", "-o", tmp_path / "a.png"]
    done = CliRunner().invoke(main, list(map(str, given)))
    assert done.exit_code == 0, done.output
    assert "What does the teacher say of all of them?" in done.output
    row = next(line for line in done.output.splitlines() if line.startswith("[CLS]"))  # which is never left out
    assert "[" in row[5:]


def test_a_share_of_the_words_is_left_out_and_never_all():
    torch.manual_seed(0)
    item = torch.randint(5, 40, (64, 40))
    item[:, 0], mask = 2, torch.arange(40) < torch.arange(64)[:, None] % 38 + 2
    pair = LeaveOutWords(0.4, (2,))({"item": item, "mask": mask})
    assert torch.equal(pair.y["mask"], mask)
    assert (pair.x["mask"] & ~mask).sum() == 0
    assert pair.x["mask"][:, 0].all()
    assert (pair.x["mask"][:, 1:].sum(dim=1) > 0).all()
    long = mask.sum(dim=1) > 20
    assert 0.5 < float(pair.x["mask"][long].sum() / mask[long].sum()) < 0.7
