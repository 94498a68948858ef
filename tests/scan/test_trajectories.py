import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.scan.geometry import fingerprint
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d, radial_3d, stack_of_stars


def test_spokes_pass_through_the_centre_and_stay_within_the_limits() -> None:
    for trajectory in (radial_2d(7, 16), radial_3d(9, 16)):
        assert not trajectory[:, 8].any()
        assert np.linalg.norm(trajectory, axis=-1).max() == pytest.approx(0.5)


def test_even_spokes_divide_the_half_turn() -> None:
    k = radial_2d(6, 8, golden=False)[:, 0]
    angles = np.sort(np.mod(np.arctan2(k[:, 1], k[:, 2]), np.pi))
    np.testing.assert_allclose(np.diff(angles), np.pi / 6, atol=1e-9)


def test_stack_of_stars_repeats_the_star_on_every_plane() -> None:
    k = stack_of_stars(3, 8, 4).reshape(4, 3, 8, 3)
    np.testing.assert_array_equal(k[0, ..., 1:], k[3, ..., 1:])
    np.testing.assert_allclose(k[:, 0, 0, 0], [-0.5, -0.25, 0, 0.25])


def test_spokes_cover_the_sphere_evenly() -> None:
    directions = radial_3d(500, 2)[:, 0] / 0.5
    np.testing.assert_allclose(directions.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(directions.T @ directions / 500, np.eye(3) / 3, atol=0.03)


def test_samplings_are_values() -> None:
    one, same = (NonCartesianSampling(trajectory=radial_2d(3, 8), shape=(1, 8, 8), n_coils=2) for _ in range(2))
    assert one == same
    assert fingerprint(one) == fingerprint(same)
    assert one != NonCartesianSampling(trajectory=radial_2d(4, 8), shape=(1, 8, 8), n_coils=2)
    assert one.measurement_shape == (2, 3, 8)
    assert one.subset(slice(0, 2)).measurement_shape == (2, 2, 8)
    assert "shots=3" in repr(one)


@pytest.mark.parametrize(
    ("trajectory", "shape", "said"),
    [
        (np.zeros((4, 3)), (1, 8, 8), "finite positions"),
        (np.full((1, 4, 3), np.nan), (8, 8, 8), "finite positions"),
        (6.28 * radial_2d(3, 8), (1, 8, 8), "Divide radians"),
        (radial_3d(3, 8), (1, 8, 8), "one voxel"),
        (radial_2d(3, 8), (0, 8, 8), "grid"),
    ],
)
def test_what_does_not_fit_is_said(trajectory: np.ndarray, shape: tuple[int, int, int], said: str) -> None:
    with pytest.raises(ScanError, match=said):
        NonCartesianSampling(trajectory=trajectory, shape=shape, n_coils=1)
