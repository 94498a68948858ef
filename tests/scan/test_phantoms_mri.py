import numpy as np
import pytest

from napari_unroll.scan.phantoms import brain, coil_maps


@pytest.mark.parametrize("shape", [(24, 32, 28), (1, 48, 48)])
def test_brain_is_complex_bounded_and_seeded(shape: tuple[int, int, int]) -> None:
    image = brain(shape, 3)
    assert image.shape == shape
    assert image.dtype == np.complex64
    assert 0.6 < np.abs(image).max() < 1.4
    np.testing.assert_array_equal(image, brain(shape, 3))
    assert np.abs(image - brain(shape, 4)).max() > 0.2


def test_brain_phase_is_smooth_where_there_is_signal() -> None:
    image = brain((32, 48, 48), 0)
    step = np.angle(image[:, 1:] * image[:, :-1].conj())
    assert np.abs(step[np.abs(image[:, 1:]) > 0.1]).max() < 0.5


@pytest.mark.parametrize("n_coils", [1, 4, 8, 12])
def test_coil_maps_have_unit_sum_of_squares_and_are_smooth(n_coils: int) -> None:
    maps = coil_maps((12, 20, 16), n_coils, 1)
    assert maps.shape == (n_coils, 12, 20, 16)
    assert maps.dtype == np.complex64
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1, atol=1e-5)
    assert np.abs(np.diff(maps, axis=2)).max() < 0.35


def test_coils_see_different_places() -> None:
    maps = coil_maps((16, 16, 16), 8, 0).reshape(8, -1)
    gram = np.abs(maps @ maps.conj().T) / maps.shape[1] * 8
    assert np.linalg.cond(gram) < 1e4
    assert len({int(np.abs(m).argmax()) for m in maps}) > 5
