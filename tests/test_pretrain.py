"""Runs as a user makes them: from arrays and folders to a run folder, killed, resumed, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import withheld
from withheld.errors import CannotWrite, InputError, RunInUse
from withheld.lock import locked


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return np.kron(rng.random((48, 4, 4, 3)), np.ones((1, 4, 4, 1))).__mul__(255).astype(np.uint8)


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    return withheld.pretrain("mae", images, out, steps=6, batch_size=16, pictures=False, device="cpu")


def test_the_run_folder_is_whole(run):
    assert {p.name for p in run.folder.iterdir()} >= {
        "run.json", "log.jsonl", "skipped.jsonl", "status.json", "encoder", "model", "state",
    }  # fmt: skip
    settings = json.loads((run.folder / "run.json").read_text())
    assert settings["method"] == "mae"
    assert settings["steps"] == 6 == len(run.log())
    assert settings["data"]["items"] == 48
    assert json.loads((run.folder / "status.json").read_text())["state"] == "done"
    assert all("loss" in line for line in run.log())
    assert {"effective_rank", "feature_spread"} <= run.log()[-1]["vitals"].keys()
    assert not [p for p in run.folder.rglob("*") if p.suffix in {".pt", ".pkl", ".bin"}]


def test_the_encoder_opens_everywhere_with_equal_features(run, images):
    from transformers import AutoModel

    encoder = withheld.load_encoder(run.folder)
    assert encoder.size == 16
    np.testing.assert_allclose(encoder.mean, images.reshape(-1, 3).mean(0) / 255, atol=1e-3)
    assert encoder.transform(images).shape == (48, encoder.width)
    model = AutoModel.from_pretrained(run.folder / "encoder").eval()
    t = encoder.normalize(torch.from_numpy(images).permute(0, 3, 1, 2))
    with torch.no_grad():
        ours, theirs = encoder.trunk(t).tokens, model(pixel_values=t).last_hidden_state[:, 1:]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    again = withheld.load_encoder(run.folder / "encoder")
    assert np.array_equal(encoder.transform(images), again.transform(images))


def test_the_whole_network_comes_back(run, images):
    objective = run.objective()
    kept = load_file(run.folder / "model" / "model.safetensors")
    for name, tensor in objective.state_dict().items():
        if name in kept:
            assert torch.equal(tensor, kept[name])
    pair, prediction = objective.predict(torch.randn(2, 3, 16, 16))
    assert objective.split.merge(pair._replace(y=prediction)).shape == (2, 3, 16, 16)


def test_inside_a_scikit_learn_pipeline(run, images):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    labels = np.arange(48) % 2
    pipeline = make_pipeline(run.encoder(), LogisticRegression())
    assert pipeline.fit(images, labels).predict(images).shape == (48,)
    assert cross_val_score(pipeline, images, labels, cv=2).shape == (2,)


def test_fresh_is_the_same_architecture_untrained(run):
    encoder = run.encoder()
    a, b, c = encoder.fresh(0), encoder.fresh(0), encoder.fresh(1)
    weights = [e.trunk.state_dict() for e in (a, b, c, encoder)]
    assert weights[0].keys() == weights[3].keys()
    name = next(n for n in weights[0] if n.endswith(("fc1.weight", "intermediate.dense.weight")))
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])
    assert not torch.equal(weights[0][name], weights[3][name])


def test_an_own_objective_trains_and_is_kept(images, tmp_path):
    def left_half(t):
        middle = t.shape[-1] // 2
        return withheld.Pair(x=t[..., :middle], y=t[..., middle:])

    objective = withheld.Objective(left_half, withheld.Predictor("vit-nano"), withheld.squared_error)
    run = withheld.pretrain(objective, images, tmp_path / "own", steps=3, batch_size=16, pictures=False, device="cpu")
    assert run.encoder().transform(images[:3]).shape[0] == 3
    with pytest.raises(InputError, match="objective of your own"):
        run.objective()


JOB = """
import sys, time, numpy as np, withheld
def tell(event):
    print(event["kind"], flush=True)
    time.sleep(0.02)  # long enough to be killed in the middle
images = (np.random.default_rng(0).random((48, 16, 16, 3)) * 255).astype(np.uint8)
print("ready", flush=True)
withheld.pretrain("mae", images, sys.argv[1], steps=40, batch_size=16, pictures=False, device="cpu",
                  resume="resume" in sys.argv, save_every=0.05, listen=tell)
"""


def start(out: Path, *words: str) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", JOB, str(out), *words], stdout=subprocess.PIPE, text=True, env=env)


def final(out: Path) -> dict[str, torch.Tensor]:
    folder = out / "state" / "step-40"
    return {**load_file(folder / "model.safetensors"), **load_file(folder / "optimizer.safetensors")}


@pytest.mark.slow  # three starts of a program; tests/promises kills forked ones, more often
@pytest.mark.promise("R1", "killed as a program of its own")
def test_killed_and_resumed_is_bit_identical(tmp_path):
    killed = start(tmp_path / "killed")
    for line in killed.stdout:
        if line.strip() == "step":
            break
    deadline = time.monotonic() + 60
    kept = (tmp_path / "killed" / "state").glob
    while all(path.suffix == ".tmp" for path in kept("step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    status = json.loads((tmp_path / "killed" / "status.json").read_text())
    assert status["state"] == "running"
    resumed, whole = start(tmp_path / "killed", "resume"), start(tmp_path / "whole")
    assert "note" in resumed.communicate(timeout=240)[0]
    assert resumed.returncode == 0
    assert whole.wait(timeout=240) == 0
    a, b = final(tmp_path / "whole"), final(tmp_path / "killed")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    keys = ("step", "loss", "gradient_norm", "learning_rate")
    logs = []
    for name in ("whole", "killed"):
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        logs.append([{key: line[key] for key in keys} for line in map(json.loads, lines)])
    assert logs[0] == logs[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"settings": {"ratio": 1.5}}, "outside"),
        ({"settings": {"ratoi": 0.5}}, "did you mean 'ratio'"),
        ({"encoder": "vit-nanno"}, "did you mean 'vit-nano'"),
        ({"steps": 3, "minutes": 2}, "give one of"),
        ({"steps": 0}, "above 0"),
        ({"batch_size": -1, "steps": 1}, "above 0"),
        ({"size": "big", "steps": 1}, "--size big"),
        ({"size": 18, "steps": 1}, "--size"),
        ({"device": "cuda:77", "steps": 1}, "--device"),
    ],
)
def test_bad_settings_are_named_with_the_remedy(images, tmp_path, settings, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=message) as error:
        withheld.pretrain("mae", images, tmp_path / "out", pictures=False, **{"device": "cpu", **settings})
    assert error.value.exit_code == 2
    assert not (tmp_path / "out" / "run.json").exists()


def test_an_unknown_method_is_named(images, tmp_path):
    with pytest.raises(InputError, match="did you mean 'mae'"):
        withheld.pretrain("maee", images, tmp_path / "out", steps=1)


def test_an_existing_run_is_never_overwritten(run, images):
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(InputError, match="--resume"):
        withheld.pretrain("mae", images, run.folder, steps=6, batch_size=16)
    assert (run.folder / "run.json").read_bytes() == before


@pytest.mark.promise("R18", "other settings, other data")
def test_resuming_with_other_settings_shows_the_difference(run, images):
    with pytest.raises(InputError, match=r"steps: 6 -> 7"):
        withheld.pretrain("mae", images, run.folder, steps=7, resume=True, pictures=False, device="cpu")
    with pytest.raises(InputError, match="fingerprint"):
        withheld.pretrain("mae", images[:40], run.folder, resume=True, pictures=False, device="cpu")


def test_what_is_not_asked_again_is_as_the_run_began(images, tmp_path):
    """A run of which only the folder is named goes on with its own batches, settings, size and seed, not with defaults."""
    asked = {"size": 16, "batch_size": 8, "seed": 3, "settings": {"ratio": 0.5, "flip": False}, "encoder": "vit-micro"}
    whole = withheld.pretrain("mae", images, tmp_path / "whole", steps=4, pictures=False, **asked)
    stopped = tmp_path / "stopped"

    def stop(event):
        if event.get("step") == 2 and event.get("kind") == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        withheld.pretrain("mae", images, stopped, steps=4, pictures=False, listen=stop, save_every=0.0, **asked)
    again = withheld.pretrain("mae", images, stopped, pictures=False, resume=True, settings={"ratio": 0.5})
    assert again.settings["recipe"]["batch_size"] == 8
    weights = [run.encoder().trunk.state_dict() for run in (whole, again)]
    assert all(torch.equal(part, weights[1][name]) for name, part in weights[0].items())
    with pytest.raises(InputError, match="settings"):
        withheld.pretrain("mae", images, stopped, pictures=False, resume=True, settings={"ratio": 0.6})


def test_a_run_of_another_version_goes_on_by_its_own_recipe(images, tmp_path):
    """Defaults may change between versions; a run keeps those it began with, also those that had no name yet."""

    def stop(event):
        if event.get("step") == 2 and event.get("kind") == "step":
            raise KeyboardInterrupt

    asked = {"size": 32, "batch_size": 8, "encoder": "conv-nano", "pictures": False}
    with pytest.raises(KeyboardInterrupt):
        withheld.pretrain("simclr", images, tmp_path / "run", steps=4, listen=stop, save_every=0.0, **asked)
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    del kept["recipe"]["progressive"]
    kept["recipe"] |= {"schedule": "constant", "base_learning_rate": 0.064, "forgotten": 1}
    (tmp_path / "run" / "run.json").write_text(json.dumps(kept))
    again = withheld.pretrain("simclr", images, tmp_path / "run", pictures=False, resume=True)
    assert again.log()[-1]["learning_rate"] == pytest.approx(0.002)  # 0.064 for 256 items, of which a step has 8
    assert "side" not in again.log()[-1]


def test_a_run_that_began_with_a_path_goes_on_without_it_being_named(images, run, tmp_path):
    """From Python an encoder may be a `Path`; run.json kept its type for it, which is no place."""

    def stop(event):
        if event.get("step") == 2 and event.get("kind") == "step":
            raise KeyboardInterrupt

    first = run.folder / "encoder"
    with pytest.raises(KeyboardInterrupt):
        withheld.pretrain(
            "mae",
            images,
            tmp_path / "run",
            steps=3,
            encoder=first,
            batch_size=8,
            pictures=False,
            listen=stop,
            save_every=0.0,
        )
    for asked in ({}, {"encoder": first}, {"encoder": str(first)}):
        again = withheld.pretrain("mae", images, tmp_path / "run", pictures=False, resume=True, **asked)
    assert again.settings["given"]["encoder"] == str(first)


def test_resuming_a_finished_run_does_nothing_and_succeeds(run, images):
    before = run.log()
    again = withheld.pretrain("mae", images, run.folder, resume=True, pictures=False, device="cpu")
    assert again.log() == before


def test_a_folder_with_other_things_is_left_alone(images, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        withheld.pretrain("mae", images, tmp_path, steps=1)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.promise("R17", "a run folder in use")
def test_a_run_in_use_says_by_whom(tmp_path, images):
    with locked(tmp_path / "out"), pytest.raises(RunInUse, match=str(os.getpid())) as error:
        withheld.pretrain("mae", images, tmp_path / "out", steps=1)
    assert error.value.exit_code == 73


@pytest.mark.promise("R5", "a run folder that is a file")
def test_out_that_is_a_file_cannot_be_written(tmp_path, images):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite) as error:
        withheld.pretrain("mae", images, tmp_path / "file", steps=1)
    assert error.value.exit_code == 74
    with pytest.raises(CannotWrite):
        withheld.pretrain("mae", images, tmp_path / "file" / "below", steps=1)


def test_a_dry_run_plans_and_writes_nothing(tmp_path, images):
    events = []
    run = withheld.pretrain(
        "mae", images, tmp_path / "dry", minutes=1, dry_run=True, device="cpu", listen=events.append
    )
    assert run.settings["steps"] > 1
    assert not (tmp_path / "dry").exists()
    assert any(event["kind"] == "plan" for event in events)


@pytest.mark.promise("S1", "pickled weights of an encoder")
def test_pictures_beside_the_images_that_are_not_read_are_told(tmp_path, images):
    data = tmp_path / "data"
    data.mkdir()
    for i, image in enumerate(images[:8]):
        Image.fromarray(image).save(data / f"{i}.png")
    (data / "phone.HEIC").write_bytes(b"x")
    (data / "film.mov").write_bytes(b"x")
    heard = []
    withheld.pretrain("mae", data, tmp_path / "o", dry_run=True, device="cpu", steps=1, listen=heard.append)
    notes = " ".join(event.get("text", "") for event in heard)
    assert "pictures beside these (1 with .heic) are of kinds that are not read here" in notes
    assert "clips beside these (1 with .mov) are not counted" in notes


def test_pickled_weights_are_never_opened(tmp_path, images):
    folder = tmp_path / "stranger"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 32}))
    torch.save({"a": torch.ones(1)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickle"):
        withheld.pretrain("mae", images, tmp_path / "out", encoder=str(folder), steps=1)


def test_a_checkpoint_continues_training(run, images, tmp_path):
    again = withheld.pretrain(
        "mae", images, tmp_path / "more", encoder=str(run.folder), steps=1, batch_size=16, pictures=False, device="cpu",
        settings={"base_learning_rate": 1e-9},
    )  # fmt: skip
    a, b = run.encoder(), again.encoder()
    assert again.settings["encoder"]["pretrained"]
    np.testing.assert_allclose(a.transform(images), b.transform(images), atol=1e-2)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.promise("R13", "signals during a step")
def test_a_signal_writes_a_checkpoint_first(tmp_path, number):
    job = start(tmp_path / "out")
    for line in job.stdout:
        if line.strip() == "step":
            break
    job.send_signal(number)
    job.stdout.read()
    assert job.wait(timeout=60) != 0
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["state"] == "stopped"
    assert status["resumable"]
    assert (tmp_path / "out" / "state" / f"step-{status['step']}" / "MANIFEST.json").is_file()


def test_the_scale_of_16_bit_images_is_kept_with_the_encoder(tmp_path):
    rng = np.random.default_rng(0)
    images = (rng.random((40, 16, 16)) * 4000).astype(np.uint16)  # 12 bits in 16
    run = withheld.pretrain("mae", images, tmp_path / "run", steps=1, batch_size=8, pictures=False, device="cpu")
    encoder = run.encoder()
    assert 3900 < encoder.scale.high[0] <= 4000
    assert 0.4 < encoder.mean[0] < 0.6
    darker = encoder.transform(list(images // 2))
    assert np.abs(darker - encoder.transform(list(images))).max() > 1e-3


def test_float_tiffs_beside_16_bit_images_are_seen_as_what_they_are(tmp_path):
    from PIL import Image

    rng, heard = np.random.default_rng(0), []
    for at in range(20):
        Image.fromarray((rng.random((16, 16)) * 60000).astype(np.uint16)).save(tmp_path / f"{at}.png")
        Image.fromarray(rng.random((16, 16)).astype(np.float32)).save(tmp_path / f"{at}.tif")
    run = withheld.pretrain(
        "mae", tmp_path, tmp_path / "run", steps=1, batch_size=8, pictures=False, device="cpu", listen=heard.append
    )
    encoder = run.encoder()
    assert 0.4 < encoder.mean[0] < 0.6
    assert encoder.std[0] > 0.2
    assert (encoder.scale.floats.low, encoder.scale.floats.high) == ((0.0,), (1.0,))
    assert any("of those of floats 0 becomes black and 1 white" in event.get("text", "") for event in heard)


def test_photographs_are_kept_larger_than_they_are_seen(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (16, 120, 90, 3), np.uint8)
    run = withheld.pretrain(
        "mae", images, tmp_path / "run", size=72, steps=2, batch_size=8, pictures=False, device="cpu"
    )
    assert run.settings["data"]["stored"] == 96
    assert run.encoder().size == 72
    assert "(9, 9)" in run.settings["split"]
    assert run.encoder().transform(images[:2]).shape[0] == 2


def test_a_run_that_died_before_it_began_is_begun_again(images, tmp_path):
    """Killed while it prepared: the folder holds a lock and a status, and nothing to resume."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "status.json").write_text('{"state": "running", "step": 0}')
    (out / "run.lock").write_text("")
    again = withheld.pretrain("mae", images, out, steps=2, batch_size=16, pictures=False, device="cpu")
    assert json.loads((again.folder / "status.json").read_text())["state"] == "done"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not empty and holds no run \(notes.txt"):
        withheld.pretrain("mae", images, tmp_path / "mine", steps=2, device="cpu")


@pytest.mark.parametrize("method", ["vicreg", "simclr", "lejepa", "exemplar"])
def test_a_batch_of_one_that_cannot_be_normalized_is_refused_before_a_run_begins(method, images, tmp_path):
    """It ended in a traceback of torch, after the run had begun."""
    with pytest.raises(InputError, match=r"--batch-size 1: a batch norm .* give 2 at least"):
        withheld.pretrain(method, images, tmp_path / "run", steps=3, batch_size=1, device="cpu")
    assert not (tmp_path / "run" / "run.json").exists()
    uneven = withheld.pretrain(
        method, images[:5], tmp_path / "two", steps=4, batch_size=2, device="cpu", pictures=False
    )
    assert len(uneven.log()) >= 4  # five items in batches of two: no batch is ever smaller


def test_steps_that_are_enough_are_not_said_to_overfit(images, tmp_path):
    heard = []
    withheld.pretrain(
        "patch_dictionary", images, tmp_path / "run", minutes=10, device="cpu", dry_run=True, listen=heard.append
    )
    told = [event["text"] for event in heard if event["kind"] == "note"]
    assert any("steps are enough, more would not be better" in text for text in told), told
