"""Language models whose adapters learn in their place (`--set lora=8`): runs from the start to the kept encoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

import withheld
from made_texts import two_sentences
from withheld.cli import main
from withheld.errors import InputError
from withheld.run import open_run

GIVEN = {"batch_size": 8, "pictures": False, "device": "cpu"}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return two_sentences(400)


@pytest.fixture(scope="module")
def starts(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("starts")
    given = {"steps": 4, "size": 16, **GIVEN}
    return {
        "bert": withheld.pretrain("bert", texts, out / "bert", **given),
        "gpt": withheld.pretrain("transformer_lm", texts, out / "gpt", encoder="gpt2-nano", **given),
    }


def weights_of(run: withheld.Run) -> dict[str, torch.Tensor]:
    return run.encoder().trunk.state_dict()


@pytest.mark.parametrize(
    ("method", "start"),
    [
        ("bert", "bert"),
        ("data2vec_text", "bert"),
        ("simcse", "bert"),
        ("tsdae", "bert"),
        ("same_text", "bert"),
        ("gpt", "gpt"),
        ("transformer_lm", "gpt"),
        ("same_text", "gpt"),
    ],
)
def test_adapters_learn_in_the_place_of_a_language_model(method, start, texts, starts, tmp_path):
    pytest.importorskip("peft")
    heard: list[dict] = []
    run = withheld.pretrain(
        method, texts, tmp_path / "run", encoder=str(starts[start].folder), steps=3, settings={"lora": 4},
        listen=heard.append, **GIVEN,
    )  # fmt: skip
    (note,) = [event["text"] for event in heard if event["kind"] == "note" and "adapters" in event["text"]]
    before, after = weights_of(starts[start]), weights_of(run)
    assert f"{starts[start].settings['encoder']['parameters']:,}" in note
    assert run.settings["encoder"]["parameters"] == starts[start].settings["encoder"]["parameters"]
    assert before.keys() == after.keys()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved
    assert all(
        ".weight" in name and (".layer." in name or ".h." in name) for name in moved
    )  # no table, no norm, no head
    assert all(np.linalg.matrix_rank((after[n] - before[n]).numpy(), tol=1e-5) <= 4 for n in moved)
    objective = open_run(run.folder).objective()
    learned = [name for name, p in objective.trunk.named_parameters() if p.requires_grad]
    assert learned
    assert all(".lora_" in name for name in learned)
    kind = AutoModelForMaskedLM if start == "bert" else AutoModelForCausalLM
    plain = kind.from_pretrained(run.folder / "encoder", trust_remote_code=False)
    assert plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
    x = {"item": torch.randint(8, 20, (2, 10))}
    with torch.no_grad():
        torch.testing.assert_close(
            plain(input_ids=x["item"]).logits,
            objective.trunk.logits(objective.trunk(x).tokens),
            atol=1e-4,
            rtol=1e-4,
        )
    if method == "bert":
        done = CliRunner().invoke(main, ["fill", str(run.folder), "the old [MASK]"])
        assert done.exit_code == 0, done.output


def test_the_first_loss_is_that_of_the_model_without_adapters(texts, starts, tmp_path):
    pytest.importorskip("peft")
    first = []
    for out, settings in (("a", {}), ("b", {"lora": 4})):
        given = {"encoder": str(starts["bert"].folder), "steps": 2, "settings": settings, **GIVEN}
        withheld.pretrain("bert", texts, tmp_path / out, **given)
        first.append(json.loads((tmp_path / out / "log.jsonl").read_text().splitlines()[0])["loss"])
    assert first[0] == pytest.approx(first[1], rel=1e-6)


def test_a_killed_run_goes_on_with_its_adapters(texts, starts, tmp_path):
    pytest.importorskip("peft")
    given = {"encoder": str(starts["bert"].folder), "steps": 6, "settings": {"lora": 4}, **GIVEN}

    def stop(event: dict) -> None:
        if event["kind"] == "step" and event["step"] == 4:
            raise KeyboardInterrupt

    whole = withheld.pretrain("data2vec_text", texts, tmp_path / "whole", **given)
    with pytest.raises(KeyboardInterrupt):
        withheld.pretrain("data2vec_text", texts, tmp_path / "run", save_every=0.0, listen=stop, **given)
    run = withheld.pretrain("data2vec_text", texts, tmp_path / "run", resume=True, device="cpu", pictures=False)
    one, two = weights_of(whole), weights_of(run)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("same_text", "withheld_word_vectors is none"),
        ("lstm_lm", "withheld_lstm is none"),
        ("elmo", "withheld_elmo is none"),
        ("sentence_vae", "withheld_sentence is none"),
        ("bert", "name one with --encoder RUN"),
    ],
)
def test_what_takes_no_adapters_says_so(method, said, texts, tmp_path):
    with pytest.raises(InputError, match=said):
        withheld.pretrain(method, texts, tmp_path / "run", steps=2, size=16, settings={"lora": 4}, **GIVEN)


def test_an_objective_of_ones_own_takes_no_adapters(tmp_path):
    pictures = np.zeros((16, 8, 8, 3), np.uint8)
    own = withheld.Objective(withheld.Pair, torch.nn.Identity(), None)
    with pytest.raises(InputError, match="put adapters into its trunk yourself"):
        withheld.pretrain(own, pictures, tmp_path / "run", settings={"lora": 4}, device="cpu")
