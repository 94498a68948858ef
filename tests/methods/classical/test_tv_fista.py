import pytest
import torch

from napari_unroll.events import result_of
from napari_unroll.methods.classical.fdk import FDK
from napari_unroll.methods.classical.tv_fista import TV_FISTA, TVParams
from napari_unroll.methods.classical.tv_objective import objective
from napari_unroll.methods.classical.zero_filled import ZERO_FILLED
from napari_unroll.pipeline.metrics import psnr
from tests.methods import tiny


@pytest.mark.parametrize(("make", "quick"), [(tiny.cone, FDK), (tiny.multicoil, ZERO_FILLED)], ids=["ct", "mri"])
def test_it_beats_the_quick_reconstruction_with_default_parameters(make, quick):
    scan = make()
    _, start = tiny.drain(quick, tiny.problem(scan))
    _, x = tiny.drain(TV_FISTA, tiny.problem(scan))
    assert psnr(x.numpy(), scan.truth) > psnr(start.numpy(), scan.truth) + 1


def test_it_minimises_its_objective():
    """More steps never end higher, and the end is a minimum against random directions."""
    goal = result_of(objective(tiny.problem(tiny.parallel()), TVParams(strength=0.1)))
    ends = [
        tiny.drain(TV_FISTA, tiny.problem(tiny.parallel()), strength=0.1, n_iterations=n, tolerance=0, n_inner=30)[1]
        for n in (5, 20, 150)
    ]
    values = [goal.value(x) for x in ends]
    assert values == sorted(values, reverse=True)
    for seed in range(5):
        step = 1e-3 * torch.randn(ends[-1].shape, generator=torch.Generator().manual_seed(seed))
        assert goal.value((ends[-1] + step).clamp(min=0)) > values[-1]


def test_positivity_holds_and_can_be_lifted():
    _, x = tiny.drain(TV_FISTA, tiny.problem(tiny.cone()), n_iterations=5)
    _, free = tiny.drain(TV_FISTA, tiny.problem(tiny.cone()), n_iterations=5, positivity=False)
    assert x.min() >= 0
    assert free.min() < 0


def test_it_stops_when_nothing_changes():
    events, _ = tiny.drain(TV_FISTA, tiny.problem(tiny.multicoil()), n_iterations=2000, tolerance=1e-3)
    assert len(events) < 500
    assert events[-1].metrics["change"] < 1e-3
    assert events[-1].values is not None
