"""Checkpoints when the disk is full, and when what is loaded belongs to something else."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys

import pytest
import torch

from withheld.errors import CannotWrite, InputError
from withheld.learn import checkpoint
from withheld.learn.checkpoint import (
    damage,
    load_tensors,
    newest,
    replacing,
    save_folder,
    save_state,
    tensors_of,
    write_json,
)


def network(width: int = 64) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(width, width)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.promise("R4", "a save that does not fit")
def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    import resource
    import signal

    model, optimizer = network()
    save_state(tmp_path / "state", 1, model, optimizer)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(CannotWrite, match="no space left") as error:
            save_state(tmp_path / "state", 2, model, optimizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert error.value.exit_code == 74
    assert "--resume" in str(error.value)
    assert newest(tmp_path / "state") == (tmp_path / "state" / "step-1", [])
    save_state(tmp_path / "state", 2, model, optimizer)
    assert newest(tmp_path / "state")[0].name == "step-2"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.promise("R4", "errors of the disk, named")
def test_what_the_disk_refuses_is_one_clear_error(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(checkpoint.os, "replace", refuse)
    with pytest.raises(CannotWrite, match=r"status\.json"):
        write_json(tmp_path / "status.json", {})


@pytest.mark.parametrize("call", range(1, 13))
@pytest.mark.promise("R2", "calls of one save")
def test_dying_at_any_call_of_a_save_leaves_a_good_checkpoint(tmp_path, monkeypatch, call):
    model, optimizer = network(8)
    state = tmp_path / "state"
    save_state(state, 1, model, optimizer)
    with torch.no_grad():
        model.weight += 1
    left = [call]

    class Dead(BaseException):
        """As good as SIGKILL: nothing catches it."""

    def mortal(function):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise Dead
            return function(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(checkpoint, "save_file", mortal(checkpoint.save_file))
    monkeypatch.setattr(checkpoint, "_sync", mortal(checkpoint._sync))
    monkeypatch.setattr(checkpoint.os, "rename", mortal(checkpoint.os.rename))
    monkeypatch.setattr(checkpoint.shutil, "rmtree", mortal(checkpoint.shutil.rmtree))
    with contextlib.suppress(Dead):
        save_state(state, 2, model, optimizer)
    monkeypatch.undo()
    folder, passed = newest(state)
    assert folder is not None
    assert passed == []
    assert damage(folder) is None
    assert save_state(state, 3, model, optimizer).name == "step-3"


def test_weights_of_another_network_are_refused(tmp_path):
    model, _ = network(8)
    save_folder(tmp_path / "model", {"model.safetensors": tensors_of(model)})
    with pytest.raises(InputError, match="does not fit"):
        load_tensors(torch.nn.Linear(9, 9), tmp_path / "model" / "model.safetensors")
    with pytest.raises(InputError, match="does not fit"):
        load_tensors(torch.nn.Linear(8, 8, bias=False), tmp_path / "model" / "model.safetensors")
    load_tensors(model, tmp_path / "model" / "model.safetensors")


def test_saving_a_step_again_replaces_it(tmp_path):
    model, optimizer = network(8)
    save_state(tmp_path, 1, model, optimizer)
    with torch.no_grad():
        model.weight += 1
    save_state(tmp_path, 1, model, optimizer)
    other, _ = network(8)
    load_tensors(other, tmp_path / "step-1" / "model.safetensors")
    assert torch.equal(other.weight, model.weight)


def test_files_are_synced_through_handles_that_may_write(tmp_path, monkeypatch):
    """On Windows any other is refused, and every save with it."""
    fcntl = pytest.importorskip("fcntl")
    sync = os.fsync

    def windows(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode) and fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        sync(handle)

    monkeypatch.setattr(checkpoint.os, "fsync", windows)
    save_state(tmp_path / "state", 1, *network())
    assert newest(tmp_path / "state")[0].name == "step-1"


def test_a_file_that_could_not_be_written_leaves_the_one_before_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "new" / "rows.csv"
    with replacing(path) as aside:
        assert aside.suffix == ".csv"
        aside.write_text("whole")

    def full() -> None:
        with replacing(path) as aside:
            aside.write_text("ha")
            raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(CannotWrite, match="no space"):
        full()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]
