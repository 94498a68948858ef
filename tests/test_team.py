"""Work shared in a group: each process does its part, all hear of all, and a failure of one is raised in all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_unroll import team
from napari_unroll.errors import UnrollError
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics import laws
from tests import team_probe

TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2"


class Group:
    """Two processes of which this is the first; the other one tells ``other``."""

    def __init__(self, other, does_the_same=True):
        self.other, self.does_the_same = other, does_the_same

    def get_rank(self):
        return 0

    def get_world_size(self):
        return 2

    def is_available(self):
        return True

    is_initialized = is_available

    def all_gather_object(self, told, mine):
        told[:] = [mine, (mine[0] if self.does_the_same else "something else", self.other)]


def test_a_process_applies_its_own_batches(monkeypatch):
    monkeypatch.setattr(team, "distributed", Group(["theirs"]))
    asked = []
    found = list(team.in_turn([["a"], ["b"], ["c"]], lambda boxes: asked.append(boxes) or ["ours"]))
    assert asked == [["a"], ["c"]]
    assert found == [(["a"], ["ours"]), (["b"], ["theirs"]), (["c"], ["ours"])]


def test_the_failure_of_another_process_is_raised_here_too(monkeypatch):
    monkeypatch.setattr(team, "distributed", Group(MemoryError("there")))
    with pytest.raises(MemoryError, match="there"):
        list(team.in_turn([["a"], ["b"]], lambda boxes: ["ours"]))
    with pytest.raises(MemoryError, match="there"):
        team.summed(lambda views: torch.zeros(3), 4)


def test_processes_that_go_different_ways_end_in_one_sentence(monkeypatch):
    """One has shrunk its patches, say: nothing is made of what belongs to other work."""
    monkeypatch.setattr(team, "distributed", Group(["theirs"], does_the_same=False))
    with pytest.raises(UnrollError, match="no longer do the same work"):
        list(team.in_turn([["a"], ["b"]], lambda boxes: ["ours"]))


def test_a_share_is_not_shared_again(monkeypatch):
    """Patches are shared already: a projection of one patch is of one process."""
    monkeypatch.setattr(team, "distributed", Group(None))
    seen = []
    team.exchanged(lambda: seen.append(team.summed(lambda views: torch.tensor([views.stop]), 7)), "share")
    assert seen[0].tolist() == [7]
    assert team.has_others()


def test_processes_share_a_machine(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert team.n_here() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "none")
    assert team.n_here() == 1


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """What each of two processes found of the same operator."""
    if sys.platform != "linux":
        pytest.skip("gloo is tried on Linux")
    folder = tmp_path_factory.mktemp("team")
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "NAPARI_UNROLL_CACHE": str(folder / "cache")}
    words = [sys.executable, *TORCHRUN.split(), "-m", "tests.team_probe", str(folder)]
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


def close(found, wanted):
    return np.abs(found - wanted.numpy()).max() / float(wanted.abs().max())


def test_projections_are_shared_and_equal(of_two):
    """A and filtered back-projection of one view, fewer than processes, and of seven; a view's rays to the bit."""
    physics, (x, y) = team_probe.operator(), team_probe.given(team_probe.operator())
    for found in of_two:
        np.testing.assert_array_equal(found["A"], physics.A(x).numpy())
        assert close(found["A_adjoint"], physics.A_adjoint(y)) < 1e-6
        assert close(found["normal"], physics.normal(x)) < 1e-6
        assert close(found["A_dagger"], physics.A_dagger(y)) < 1e-6
        one = physics.of_views([3])
        assert close(found["one_view"], one.normal(x)) < 1e-6
    for name in ("A", "A_adjoint", "normal", "A_dagger", "one_view", "fit"):
        np.testing.assert_array_equal(of_two[0][name], of_two[1][name])
    assert [int(found["n_views"]) for found in of_two] == [3, 4]


@pytest.mark.parametrize("kind", team_probe.COILS)
def test_coils_are_shared_and_equal(kind, of_two):
    """Three, an odd number for two processes, and one, which leaves one of them without; each coil's samples to the bit."""
    physics, found = team_probe.COILS[kind](), team_probe.of_coils(kind)
    for name, wanted in found.items():
        np.testing.assert_array_equal(of_two[0][name], of_two[1][name])
        assert close(of_two[0][name], torch.from_numpy(wanted)) < 1e-6
    for rank, n_coils in enumerate(team_probe.shares(len(physics.csm))):
        assert int(of_two[rank][f"{kind} n_coils"]) == n_coils


@pytest.mark.parametrize("kind", team_probe.IMAGES)
def test_patches_of_an_image_are_shared_and_equal(kind, of_two, tmp_path):
    """Nothing else is: every process blurs the whole image, and has the values of one alone to the bit."""
    wanted = team_probe.image(team_probe.IMAGES[kind](), tmp_path)
    counts = [found[f"{kind} n_patches"].reshape(-1, 2) for found in of_two]
    for found in of_two:
        np.testing.assert_array_equal(found[kind], wanted)
    np.testing.assert_array_equal(counts[0][:, 0] + counts[1][:, 0], counts[0][:, 1])
    assert len(counts[0]) == 3
    assert (abs(counts[0][:, 0] - counts[1][:, 0]) <= 2).all()  # a batch


def test_a_fit_is_shared_and_equal(of_two):
    physics = team_probe.operator()
    x = laws.random_like(physics.x_shape, torch.float32, "cpu", 2)
    wanted = fit_now(physics, FitOptions(**team_probe.FIT)).apply(x)
    assert close(of_two[0]["fit"], wanted) < 1e-5


def test_what_is_kept_is_taken_where_all_have_it(of_two):
    """The second process's cache was emptied between two fits: both fit again, to the same."""
    for found in of_two:
        assert found["kept"].tolist() == [True, False]


def test_a_failure_in_one_is_raised_in_both(of_two):
    assert [str(found["failure"]) for found in of_two] == ["no memory there"] * 2
