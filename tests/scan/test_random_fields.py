import numpy as np
import pytest

from napari_unroll.scan.phantoms import brain, leaves
from napari_unroll.scan.random_fields import Space, one_plane, rotation


def test_noise_has_unit_variance() -> None:
    assert Space((48, 48, 48), 0).noise(16).std() == pytest.approx(1, abs=0.1)


def test_a_field_is_the_same_at_every_resolution() -> None:
    coarse, fine = (Space((n, n, n), 3).noise(4) for n in (16, 48))
    averaged = fine.reshape(16, 3, 16, 3, 16, 3).mean((1, 3, 5))
    assert np.abs(coarse - averaged).max() < 0.15


def test_too_fine_noise_keeps_the_sequence_of_random_numbers() -> None:
    coarse, fine = Space((8, 8, 8), 5), Space((64, 64, 64), 5)
    assert not coarse.noise(32).any()
    assert fine.noise(32).any()
    assert coarse.rng.random() == fine.rng.random()


def test_rotations_are_proper() -> None:
    turn = rotation(np.random.default_rng(1)).astype(float)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(turn) == pytest.approx(1, abs=1e-5)


def test_a_window_covers_the_ball() -> None:
    space = Space((20, 30, 25), 0)
    centre = np.array([0.3, -0.5, 0.1])
    ball = (space.z - 0.3) ** 2 + (space.y + 0.5) ** 2 + (space.x - 0.1) ** 2 < 0.4**2
    ball[space.window(centre, 0.4)] = False
    assert not ball.any()


def test_one_plane_is_that_of_the_whole_volume() -> None:
    for make in (brain, leaves):
        np.testing.assert_allclose(one_plane(make, (12, 16, 14), 3, 5), make((12, 16, 14), 3)[5:6], atol=1e-5)
