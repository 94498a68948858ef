import pytest
import torch

from napari_unroll.methods.classical.momentum import Momentum


def moved(steps, is_jerky):
    """What every step of a walk along ``steps`` (step, axis) is said to change, times the size of where it ends."""
    at = torch.zeros(2, dtype=torch.float64)
    it, told = Momentum(at, at), []
    for step in torch.tensor(steps, dtype=torch.float64):
        at = at + step
        told.append(it.move(at, is_jerky) * float(at.norm()))
    return told


def test_a_straight_walk_changes_by_its_steps_whether_or_not_it_is_jerky():
    steps = [(1.0, 0.0)] * 6
    assert moved(steps, is_jerky=False) == pytest.approx([1.0] * 6)
    assert moved(steps, is_jerky=True) == pytest.approx([1.0] * 6)


def test_what_goes_to_and_fro_does_not_count():
    steps = [(1.0, 0.5), (1.0, -0.5)] * 3
    assert moved(steps, is_jerky=False) == pytest.approx([1.25**0.5] * 6)
    first, second, *later = moved(steps, is_jerky=True)
    assert first == pytest.approx(1.25**0.5)  # no momentum yet
    assert second == pytest.approx(1.25**0.5)
    assert later == pytest.approx([0.75**0.5] * 4)


def test_momentum_restarts_where_it_points_uphill():
    at = torch.zeros(1, dtype=torch.float64)
    it = Momentum(at, at)
    for k in range(1, 5):
        it.move(torch.full((1,), float(k), dtype=torch.float64))
    assert it.t > 2
    it.move(torch.full((1,), 4.1, dtype=torch.float64))
    assert it.t == pytest.approx(0.5 * (1 + 5**0.5))
    assert torch.equal(it.z, it.x)
