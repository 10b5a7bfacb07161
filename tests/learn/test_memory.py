"""Less memory: pieces of a batch and layers computed twice change nothing that is computed, and do need less."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig

import withheld
from withheld.errors import InputError
from withheld.learn.gradient import Interrupted, Loop
from withheld.learn.memory import layers_of, recompute
from withheld.learn.sharding import check_shares
from withheld.losses.prediction import TokenCrossEntropy
from withheld.methods.bert import bert
from withheld.methods.byol import byol
from withheld.methods.ijepa import ijepa
from withheld.methods.lejepa import lejepa
from withheld.methods.mae import mae
from withheld.networks.open import open_trunk
from withheld.networks.text import Special, fresh_text_trunk
from withheld.objective import Objective
from withheld.types import Moment, Pair, Recipe

RECIPE = Recipe(base_learning_rate=1e-2, batch_size=16, warmup=0.2)


class Images:
    """A few random images."""

    t = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.t)

    def batch(self, index, device):
        return self.t[torch.from_numpy(index)]


class Words:
    """Blocks of tokens, in some of which hardly any word may be asked for."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.t = torch.randint(5, 40, (40, 24), generator=draw)
        self.t[torch.arange(24) > torch.randint(3, 24, (40, 1), generator=draw)] = 0  # a special token, never asked for

    def __len__(self) -> int:
        return 40

    def batch(self, index, device):
        return {"item": self.t[torch.from_numpy(index)], "document": torch.zeros(len(index), 24, dtype=torch.long)}


def images(method=mae, trunk: str = "vit-nano") -> Objective:
    torch.manual_seed(0)
    return method(open_trunk(trunk, size=16, channels=3)[0])[0]


def words(dropout: float = 0.0) -> Objective:
    torch.manual_seed(0)
    trunk = fresh_text_trunk(
        BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=6, num_attention_heads=2, intermediate_size=64), 0
    )
    trunk._special = Special(0, 2, 3, 4, (0, 1, 2, 3, 4))
    for part in trunk.modules():
        if isinstance(part, nn.Dropout):
            part.p = dropout
    return bert(trunk)[0]


def gradient(objective: Objective, items, **more) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and terms, and the whole gradient, of one step."""
    objective.train()
    loop = Loop(objective, items, RECIPE, steps=9, seed=3, **more)
    numbers = loop._add_up(2, Moment(2, 9))[1]
    return torch.tensor(numbers), torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])


def test_pieces_that_ask_for_unlike_many_words_are_one_batch():
    """Naively: the cross-entropy of all asked words of the step at once."""
    objective = words().double().train()
    loop = Loop(objective, Words(), RECIPE, steps=9, seed=3, accumulate=8)
    pairs = list(loop.pieces(2))
    asked = [int(pair.x["asked"].sum()) for pair in pairs]
    assert len(pairs) == 8
    assert max(asked) > 1.5 * min(asked)
    each = [objective.network(pair.x)["words"].log_softmax(dim=-1) for pair in pairs]
    right = [pair.y[pair.x["asked"]] for pair in pairs]
    told = torch.cat([p.gather(1, y[:, None]).flatten() for p, y in zip(each, right, strict=True)])
    (-told.mean()).backward()
    naive = torch.cat([p.grad.flatten() for p in objective.parameters()])
    for pieces in (1, 8):
        loss, found = gradient(words().double(), Words(), accumulate=pieces)
        assert loss[0] == pytest.approx(-float(told.detach().mean()), rel=1e-6)
        assert (found - naive).norm() <= 1e-6 * naive.norm()


def test_a_piece_without_a_word_to_ask_for_counts_for_nothing():
    class Half(Words):
        def batch(self, index, device):
            found = super().batch(index, device)
            found["item"][: len(index) // 2] = 0
            return found

    whole, in_two = gradient(words().double(), Half()), gradient(words().double(), Half(), accumulate=2)
    assert torch.isfinite(in_two[1]).all()
    assert in_two[0][0] == pytest.approx(float(whole[0][0]), rel=1e-6)
    assert (whole[1] - in_two[1]).norm() <= 1e-6 * whole[1].norm()


def test_only_a_piece_is_in_the_network_at_once():
    objective, seen = images(), []
    objective.network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0]["at"])))
    gradient(objective, Images(), accumulate=4)
    assert seen == [4] * 4


@pytest.mark.parametrize("pieces", [3, 16])
def test_pieces_that_do_not_divide_the_batch_are_refused(pieces):
    with pytest.raises(InputError, match=f"--accumulate {pieces}: a batch of 16 .* 2, 4 or 8"):
        Loop(images(), Images(), RECIPE, steps=2, accumulate=pieces)


def test_a_run_in_pieces_is_resumed_to_the_same_bits(tmp_path):
    def run(folder: Path, stop: int, resume: bool) -> tuple[dict, list[str], dict]:
        data = (np.random.default_rng(0).random((40, 16, 16, 3)) * 255).astype(np.uint8)

        def listen(event):
            if event["kind"] == "step" and event["step"] == stop:
                os.kill(os.getpid(), signal.SIGTERM)

        given = {"steps": 5, "batch_size": 16, "resume": resume, "pictures": False, "device": "cpu"}
        given |= {"recompute": True} if resume else {"accumulate": 4}
        try:
            withheld.pretrain("mae", data, folder, listen=listen, **given)
        except Interrupted:
            assert stop
        state = max((folder / "state").glob("step-*"))
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        kept = [json.dumps([line[k] for k in ("step", "loss", "terms", "gradient_norm")]) for line in lines]
        return {p.name: p.read_bytes() for p in state.iterdir()}, kept, json.loads((folder / "run.json").read_text())

    state, lines, settings = run(tmp_path / "whole", 0, False)
    assert (settings["accumulate"], settings["recompute"], settings["shard"]) == (4, False, False)
    run(tmp_path / "part", 2, False)
    resumed, again, _ = run(tmp_path / "part", 0, True)  # in pieces as it began; computing twice changes no bit
    assert lines == again
    assert state == resumed
    data = (np.random.default_rng(0).random((40, 16, 16, 3)) * 255).astype(np.uint8)
    with pytest.raises(InputError, match="accumulate: 4 -> 2"):
        withheld.pretrain(
            "mae", data, tmp_path / "part", steps=5, batch_size=16, accumulate=2, resume=True, device="cpu"
        )


@pytest.mark.parametrize("build", [images, words, lambda: words(0.1)], ids=["mae", "bert", "bert with dropout"])
def test_layers_computed_twice_change_nothing_and_keep_less(build):
    kept = {}
    found = {}
    for again in (False, True):
        objective = build()
        if again:
            assert recompute(objective) >= 2
        bytes_kept: dict[int, int] = {}

        def note(t, bytes_kept=bytes_kept):
            bytes_kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        items = Images() if build is images else Words()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            objective.train()
            torch.manual_seed(0)
            pair = next(Loop(objective, items, RECIPE, steps=9, seed=3).pieces(2))
            terms = objective(pair)
        weights = {p.untyped_storage().data_ptr() for p in objective.parameters()}
        kept[again] = sum(size for at, size in bytes_kept.items() if at not in weights)
        del terms
        found[again] = gradient(objective, items)
    for before, after in zip(found[False], found[True], strict=True):
        assert torch.equal(before, after)
    assert kept[True] < 0.6 * kept[False], kept


def test_layers_are_found_by_name_and_not_within_others():
    assert list(layers_of(images().network)) == [
        *(f"trunk.model.layers.{i}" for i in range(images().trunk.depth)),
        "decoder.blocks.0",
        "decoder.blocks.1",
    ]


def test_batch_norms_are_not_computed_twice():
    with pytest.raises(InputError, match=r"--recompute: .* is a batch norm, which would count everything twice"):
        recompute(images(lejepa, "conv-nano"))


def test_only_what_is_accepted_is_proposed():
    class AtOnce:
        at_once = "it whitens by the items of a step"

        def __call__(self, prediction, y):
            return (prediction - y).square().mean()

    class InPieces(AtOnce):
        at_once = ""

    for loss, proposed in ((AtOnce(), False), (InPieces(), True)):
        objective = Objective(lambda t: Pair(t.mean(dim=1), t.mean(dim=1)), nn.Linear(16, 16), loss)
        with pytest.raises(InputError, match="--recompute: this network has no stack") as raised:
            recompute(objective)
        assert ("--accumulate" in str(raised.value)) == proposed
        assert "--batch-size" in str(raised.value)


@pytest.mark.parametrize(("method", "trunk", "proposed"), [(ijepa, "vit-nano", True), (byol, "conv-nano", False)])
def test_instead_of_shares_only_what_is_accepted_is_proposed(method, trunk, proposed):
    objective = images(method, trunk)
    with pytest.raises(InputError, match=r"--shard: .* moves after every step") as raised:
        check_shares(objective, "warn")
    for option in ("--accumulate", "--recompute"):
        assert (option in str(raised.value)) == proposed, raised.value
    if proposed:
        Loop(objective, Images(), RECIPE, steps=1, accumulate=2)
        recompute(objective)


def test_a_table_is_told_what_to_do_instead(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    for option in ({"accumulate": 2}, {"recompute": True}, {"shard": True}):
        with pytest.raises(InputError, match=f"--{next(iter(option))}: mixture takes no gradients"):
            withheld.pretrain("mixture", rows, tmp_path / "run", steps=2, **option)


def test_one_process_shares_with_nobody_and_says_so(tmp_path):
    data = (np.random.default_rng(0).random((32, 16, 16, 3)) * 255).astype(np.uint8)
    said = []
    withheld.pretrain(
        "mae", data, tmp_path, steps=1, batch_size=8, shard=True, pictures=False, device="cpu", listen=said.append
    )
    assert any("one process holds everything" in event.get("text", "") for event in said)


@pytest.mark.parametrize("more", [{}, {"on_sick": "stop"}])
def test_what_needs_whole_weights_is_not_shared(more, tmp_path):
    data = (np.random.default_rng(0).random((32, 16, 16, 3)) * 255).astype(np.uint8)
    method, words = ("mae", "--on-sick stop with --shard") if more else ("ijepa", "--shard: Teacher moves")
    with pytest.raises(InputError, match=words):
        withheld.pretrain(method, data, tmp_path, steps=1, batch_size=8, shard=True, device="cpu", **more)


def test_a_loss_of_the_users_own_may_say_that_it_needs_the_batch():
    class Whitened:
        at_once = "it whitens by the items of a step"

        def __call__(self, prediction, y):
            return (prediction - y).square().mean()

    objective = Objective(lambda t: Pair(t.mean(dim=1), t.mean(dim=1)), nn.Linear(16, 16), Whitened())
    with pytest.raises(InputError, match="since it whitens"):
        Loop(objective, Images(), RECIPE, steps=1, accumulate=2)
    assert TokenCrossEntropy().counts(torch.tensor([3, -100, 2]))["loss"] == 2
