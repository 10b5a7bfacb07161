"""Contrastive losses against the papers' naive double loops, and two processes against one."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from withheld.losses.contrast import InfoNCE, NTXent, info_nce, nt_xent


def views(count: int = 6, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    one, two = torch.randn(2, count, width, generator=generator, dtype=torch.float64)
    return one, two


def naive_info_nce(one, two, temperature):
    """Gao et al. 2021, equation 1, item by item."""
    total = 0.0
    for i in range(len(one)):
        like = [math.exp(float(F.cosine_similarity(one[i], two[j], dim=0)) / temperature) for j in range(len(two))]
        total -= math.log(like[i] / sum(like))
    return total / len(one)


def naive_nt_xent(one, two, temperature):
    """Chen et al. 2020, algorithm 1: views 2k-1 and 2k belong together, no view is compared with itself."""
    z = [view for pair in zip(one, two, strict=True) for view in pair]

    def loss(i: int, j: int) -> float:
        like = [math.exp(float(F.cosine_similarity(z[i], z[k], dim=0)) / temperature) for k in range(len(z))]
        return -math.log(like[j] / sum(like[k] for k in range(len(z)) if k != i))

    count = len(one)
    return sum(loss(2 * k, 2 * k + 1) + loss(2 * k + 1, 2 * k) for k in range(count)) / (2 * count)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_both_equal_the_papers_double_loops(temperature):
    one, two = views()
    assert float(info_nce(one, two, temperature)) == pytest.approx(naive_info_nce(one, two, temperature), rel=1e-10)
    assert float(nt_xent(one, two, temperature)) == pytest.approx(naive_nt_xent(one, two, temperature), rel=1e-10)
    assert InfoNCE(temperature)(one, two)["contrast"] == info_nce(one, two, temperature)
    assert NTXent(temperature)(one, two)["contrast"] == nt_xent(one, two, temperature)


def test_a_collapse_is_as_good_as_guessing():
    same = torch.ones(8, 4)
    assert float(info_nce(same, same)) == pytest.approx(math.log(8), rel=1e-5)
    assert float(nt_xent(same, same)) == pytest.approx(math.log(15), rel=1e-5)


def test_length_of_vectors_does_not_matter():
    one, two = views()
    assert float(nt_xent(3 * one, two / 7, 0.5)) == pytest.approx(float(nt_xent(one, two, 0.5)), rel=1e-10)


def test_nt_xent_does_not_care_which_view_is_first():
    one, two = views()
    assert float(nt_xent(one, two)) == pytest.approx(float(nt_xent(two, one)), rel=1e-12)


SCRIPT = """
import json, os, sys
import torch
import torch._dynamo  # which DistributedDataParallel would import in every rank
from torch import nn
from withheld import distributed
from withheld.losses.contrast import info_nce, nt_xent

def share(rank, world, out):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    distributed.start(torch.device("cpu"))
    assert (distributed.rank(), distributed.world()) == (rank, world)
    generator = torch.Generator().manual_seed(3)
    one, two = torch.randn(2, 8, 5, generator=generator, dtype=torch.float64)
    each = 8 // world
    mine = slice(rank * each, (rank + 1) * each)
    found = []
    for loss in (info_nce, nt_xent):
        torch.manual_seed(0)
        layer = nn.Linear(5, 3).double()
        module = distributed.wrap(layer)
        z = module(torch.cat([one[mine], two[mine]]))
        value = loss(z[:each], z[each:], 0.1)
        value.backward()
        found.append([float(distributed.mean(value.detach())), layer.weight.grad.flatten().tolist(), layer.bias.grad.tolist()])
    with open(f"{out}/{world}-{rank}.json", "w") as file:
        json.dump(found, file)
    del module
    distributed.barrier()
    distributed.stop()

def born(*given):  # one program that forks them: each of four would import torch
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        share(*given)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)  # what gloo's threads do while the interpreter ends is not asked here

for world in (1, 2):
    children = [born(rank, world, sys.argv[1]) for rank in range(world)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * world, codes
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows forks no processes")
def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path):
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        at = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(some.getsockname()[1])}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **at}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    alone, *ranks = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    for found in ranks:
        for one, two in zip(alone, found, strict=True):
            assert one[0] == pytest.approx(two[0], rel=1e-12)
            assert one[1] == pytest.approx(two[1], rel=1e-9, abs=1e-12)
            assert one[2] == pytest.approx(two[2], rel=1e-9, abs=1e-12)
            assert max(map(abs, one[1])) > 1e-3  # there is a gradient to compare


@pytest.mark.parametrize("loss", [InfoNCE(0.05), NTXent(0.5)])
def test_what_a_constant_answer_has(loss) -> None:
    same = torch.ones(12, 8)
    told = loss.measures(torch.randn(12, 8), torch.randn(12, 8))["constant_loss"]
    assert told == pytest.approx(float(loss(same, same)["contrast"]), rel=1e-6)
