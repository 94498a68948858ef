"""Whole volumes in memory up to a limit and on disk beyond it: the same values, nothing left, one sentence without room."""

import errno
import os
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_unroll.errors import MemoryExceeded
from napari_unroll.events import Finished, Outcome, Progress
from napari_unroll.interrupt import stepwise, within
from napari_unroll.methods.registry import get
from napari_unroll.pipeline.devices import Device, probe, scratch_folder
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scratch import MOST_IDLE, InScratch, Scratch, zeros
from tests.methods import tiny

SHAPE = (1, 1, 10, 12, 14)
AXES = (-3, -2, -1)
MAPS = Path("/proc/self/maps")


def numbers(seed, dtype=torch.float32):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X, Y, C = numbers(0), numbers(1), numbers(2, torch.complex64)
EXACT = {
    "arithmetic": lambda: 1 - 0.5 * X + X * Y / 3 - X**2,
    "in place": lambda: X.clone().mul_(2).add_(Y),
    "filled": lambda: torch.ones_like(X) + torch.full(SHAPE, 2.0) + X.new_zeros(SHAPE) + torch.zeros(SHAPE),
    "random": lambda: numbers(3),
    "choice": lambda: torch.where(X > 0, X, Y).clamp(min=0.1).sqrt(),
    "stack": lambda: torch.cat([torch.stack([X, Y])[0], Y]),
    "types": lambda: X.double().square().float(),
    "complex": lambda: (C.conj() * C).real + C.abs() + torch.view_as_real(C)[..., 0],
    "padding": lambda: torch.nn.functional.pad(X, (1, 2, 0, 3, 4, 0), value=2.0),
    "broadcast": lambda: torch.arange(10.0)[:, None, None] * torch.arange(12.0)[:, None] * torch.arange(14.0),
    "picked": lambda: torch.zeros(1, 1, 20, 12, 14).index_copy(-3, torch.arange(10), X.index_select(-1, torch.arange(14))),
    "turned": lambda: X.movedim(-3, -1) + 1,
    "product": lambda: X.movedim(-3, -1) @ torch.eye(10),
    "shifted": lambda: torch.roll(X, (1, 2, 3), AXES).flip((-1, -2)),
}  # fmt: skip
ROUNDED = {
    "complex transform": lambda: torch.fft.ifftn(torch.fft.fftn(C, dim=AXES), dim=AXES, norm="ortho"),
    "real transform": lambda: torch.fft.irfftn(torch.fft.rfftn(X, s=(20, 24, 28), dim=AXES), s=(20, 24, 28), dim=AXES),
    "transform of real numbers": lambda: torch.fft.fftn(X, s=(20, 24, 28), dim=AXES),
}


@pytest.fixture
def scratch(tmp_path):
    return Scratch(tmp_path / "scratch", X.numel())


@pytest.fixture
def in_memory(monkeypatch):
    """Shapes of the large tensors that could only be made in memory, and were moved."""
    shapes, moved = [], InScratch._moved
    monkeypatch.setattr(InScratch, "_moved", lambda self, made: shapes.append(made.shape) or moved(self, made))
    return shapes


def is_on_disk(tensor):
    """Whether its pages are those of a file."""
    address = tensor.data_ptr()
    for line in MAPS.read_text().splitlines():
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if first <= address < last:
            return "(deleted)" in line and line.split()[1][3] == "s"
    return False


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_torch_makes_the_same_on_disk(name, scratch, in_memory):
    work = {**EXACT, **ROUNDED}[name]
    wanted = work()
    with InScratch(scratch):
        found = work()
    assert not in_memory
    assert found.stride() == wanted.stride()
    if name in EXACT:
        assert torch.equal(found, wanted)
    else:
        assert torch.linalg.vector_norm(found - wanted) <= 3e-7 * torch.linalg.vector_norm(wanted)
    if MAPS.exists():
        assert is_on_disk(found)
        assert not is_on_disk(wanted)
    assert not list(scratch.place.iterdir())


def test_what_is_smaller_than_a_volume_stays_in_memory(scratch):
    with InScratch(scratch):
        assert zeros((10, 12, 14)).base is not None
        patch = X[..., 1:, :, :] + 1
        zeros((9, 12, 14))
    with InScratch(Scratch(scratch.place / "none", 10**9)):
        assert torch.equal(X + Y, Y + X)
        assert zeros(SHAPE).sum() == 0
    assert patch.shape == (1, 1, 9, 12, 14)
    assert not (scratch.place / "none").exists()


def test_what_cannot_be_written_into_a_place_is_made_in_memory_first(scratch, in_memory):
    with InScratch(scratch):
        found = torch.masked_select(X, X > -100)
    assert in_memory == [(X.numel(),)]
    assert torch.equal(found, X.flatten())


def test_threads_of_a_step_make_it_on_disk_too_and_listeners_do_not(scratch):
    made = {}

    def work():
        made[threading.current_thread().name] = zeros(SHAPE)
        return X + 1

    def steps():
        yield Progress(0, 1, "")
        return (yield from stepwise(work, "thread"))

    for _ in (whole := within(steps(), partial(InScratch, scratch))):
        assert type(zeros(SHAPE).base) is not bytes
        assert zeros(SHAPE).flags.owndata
        del _
    assert not made["unroll: thread"].flags.owndata
    whole.close()


def tiny_plan(name, folder):
    scan = tiny.cone()
    return resolve(
        Choices(
            device="cpu", method=name, params=tiny.quick_params(get(name), scan, folder), patch_size=16, overlap=4,
            fit={"n_probes": 2, "n_test": 0},
        ),
        scan,
    )  # fmt: skip


CT = ("fdk", "cgls", "sirt", "tikhonov", "tv-fista", "tv-pdhg", "wavelet-l1", "unrolled-pgd")


@pytest.mark.parametrize("n_volumes", [0, 1])
@pytest.mark.parametrize("name", CT)
def test_a_run_with_volumes_on_disk_gives_the_same(name, n_volumes, tmp_path, monkeypatch, in_memory):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    plan, folder = tiny_plan(name, tmp_path), tmp_path / "scratch"
    results = []
    for made in (plan, replace(plan, volume_bytes=n_volumes * 4 * 20**3, scratch=folder)):
        *_, finished = run(made, tiny.cone())
        assert finished.outcome is Outcome.COMPLETED, finished.advice
        results.append(finished.result)
    wanted, found = results
    assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)
    assert found.dtype == np.float32
    assert folder.is_dir()
    assert not list(folder.iterdir())
    assert not [shape for shape in in_memory if np.prod(shape[-3:]) >= 20**3]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_unroll.scratch._reserve", full_disk)
    plan = replace(tiny_plan("fdk", tmp_path), volume_bytes=0, scratch=tmp_path / "full")
    *_, finished = run(plan, tiny.cone())
    assert isinstance(finished, Finished)
    assert finished.outcome is Outcome.FAILED
    assert finished.advice.count("\n") == 0
    assert "No space left on device" in finished.advice
    assert "NAPARI_UNROLL_SCRATCH" in finished.advice
    assert not list((tmp_path / "full").iterdir())


def test_room_is_taken_without_a_system_call_too(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    mapped = Scratch(tmp_path, 1).mapped(3 * 2**20 + 5)
    assert bytes(mapped) == bytes(3 * 2**20 + 5)


MIB = 2**20


def cpu(memory, disk, folder):
    return (Device("cpu", "CPU", memory, scratch=folder, disk_bytes=disk),)


@pytest.mark.parametrize("name", ["tv-fista", "unrolled-pgd"])
def test_volumes_go_to_disk_where_they_do_not_fit_the_memory(name, tmp_path):
    scan = tiny.cone().with_grid(tiny.cone().grid.resample((128, 128, 128)))
    roomy = resolve(Choices(method=name), scan, cpu(8000 * MIB, 8000 * MIB, tmp_path))
    tight = resolve(
        Choices(method=name), scan, cpu(200 * MIB if name == "unrolled-pgd" else 90 * MIB, 8000 * MIB, tmp_path)
    )
    assert (roomy.disk_bytes, tight.scratch) == (0, tmp_path)
    assert tight.volume_bytes > 0 or name != "tv-fista"
    assert tight.volume_bytes + tight.disk_bytes > 10 * 4 * 128**3
    assert tight.memory_bytes <= 0.9 * tight.free_bytes
    assert "go to disk" in tight.cautions[0]
    assert str(tmp_path) in tight.facts["memory"]
    assert tight.patch_size != roomy.patch_size or name == "tv-fista"


def test_without_room_on_the_disk_it_is_as_before(tmp_path):
    scan = tiny.cone().with_grid(tiny.cone().grid.resample((128, 128, 128)))
    assert resolve(Choices(method="tv-fista"), scan, cpu(90 * MIB, MIB, tmp_path)).volume_bytes is None
    with pytest.raises(MemoryExceeded, match="choose a region"):
        resolve(Choices(method="unrolled-pgd"), scan, cpu(200 * MIB, MIB, tmp_path))
    with pytest.raises(MemoryExceeded, match="even with its volumes on disk"):
        resolve(Choices(method="tv-fista"), scan, cpu(2**12, 8000 * MIB, tmp_path))


def test_volumes_of_coil_images_stay_in_memory(tmp_path):
    with pytest.raises(MemoryExceeded, match="choose a region"):
        resolve(Choices(method="cgls"), tiny.multicoil(), cpu(2**15, 8000 * MIB, tmp_path))


def test_the_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_SCRATCH", str(tmp_path / "not there yet"))
    assert scratch_folder() == tmp_path / "not there yet"
    assert probe()[-1].disk_bytes > 0


def test_a_file_is_used_again_once_nothing_refers_to_its_volume(tmp_path, monkeypatch):
    made, mapped = [], Scratch.mapped
    monkeypatch.setattr(Scratch, "mapped", lambda self, n: made.append(n) or mapped(self, n))
    with InScratch(Scratch(tmp_path, X.numel())):
        held, total = X.clone(), X.clone()
        for _ in range(5):
            total = total + held
            ours = zeros(X.shape)
            assert not ours.any()
            ours[...] = 1
    assert torch.equal(held, X)
    torch.testing.assert_close(total, 6 * X)
    assert len(made) <= 5


def test_files_that_wait_take_little_room(tmp_path):
    scratch = Scratch(tmp_path, 1000)
    held = [scratch.room(4000 + 8 * k) for k in range(60)]
    del held
    again = [scratch.room(9000 + 8 * k) for k in range(8)]
    assert 0 < sum(map(len, scratch.files.idle)) <= 4 * MOST_IDLE * 1000
    del again


def test_rooms_lie_in_memory_up_to_the_limit(tmp_path):
    scratch = Scratch(tmp_path, X.numel(), 2 * 4 * X.numel())
    with InScratch(scratch):
        first, second = X + 1, X + 2
        third = X + 3
        assert [is_on_disk(one) for one in (first, second, third)] == [False, False, MAPS.exists()]
        place = second.data_ptr()
        del second
        assert (X + 4).data_ptr() == place
        larger = torch.cat([X, X])
        assert is_on_disk(larger) is MAPS.exists()
        del first
        smaller = X[..., :-1].double()
        assert is_on_disk(smaller) is False
    assert scratch.memory.n_bytes <= scratch.memory.most
    assert torch.equal(third, X + 3)


def test_rooms_never_pass_the_limit_whatever_threads_ask(tmp_path):
    scratch = Scratch(tmp_path, 1, 10**6)
    passed, found = [], []

    def ask(seed):
        rng, held = np.random.default_rng(seed), []
        for _ in range(300):
            room = scratch.room(int(rng.integers(1, 8)) * 50_000)
            room[:] = seed
            held.append(room)
            if len(held) > rng.integers(1, 6):
                found.append((held.pop(int(rng.integers(len(held)))) == seed).all())
            passed.append(scratch.memory.n_bytes > 10**6)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found)
    assert not any(passed)
    assert scratch.memory.n_bytes > 0


@pytest.mark.parametrize("in_memory", [0, 10**6])
def test_what_lies_in_a_room_outlives_its_scratch(tmp_path, in_memory):
    with InScratch(Scratch(tmp_path, X.numel(), in_memory)):
        kept, array = X + 1, zeros(X.shape)
        view = array[1:]
        del array
        others = [torch.zeros_like(X) for _ in range(3)]
    del others
    assert torch.equal(kept, X + 1)
    assert not view.any()
