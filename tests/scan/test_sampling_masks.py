import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.scan.phantoms import poisson_disc_mask
from napari_unroll.scan.sampling_masks import random_mask, star_mask


@pytest.mark.parametrize(
    ("shape", "acceleration", "calibration"), [((96, 96), 5, 10), ((64, 51), 3, 5), ((33, 80), 8, 4), ((20, 20), 1, 3)]
)
def test_acceleration_is_hit(shape: tuple[int, int], acceleration: float, calibration: int) -> None:
    mask = poisson_disc_mask(shape, acceleration, calibration, seed=1)
    assert mask.shape == shape
    assert mask.dtype == bool
    assert mask.size / mask.sum() == pytest.approx(acceleration, rel=0.05)


def test_the_centre_is_fully_sampled() -> None:
    mask = poisson_disc_mask((64, 51), 4, 6, seed=2)
    y, x = np.arange(64) - 32, np.arange(51) - 25
    assert mask[np.hypot(y[:, None], x[None, :]) <= 6].all()


def test_density_falls_and_samples_keep_their_distance() -> None:
    mask = poisson_disc_mask((128, 128), 6, 8, seed=3)
    y, x = np.ogrid[-64:64, -64:64]
    radius = np.hypot(y, x)
    rings = [mask[(radius > lo) & (radius <= lo + 14)].mean() for lo in (10, 26, 42)]
    assert rings[0] > 1.2 * rings[1] > 1.2 * rings[2]
    far = radius > 30
    touching = mask[:, 1:] & mask[:, :-1] & far[:, 1:] & far[:, :-1]
    assert not touching.any()


def test_masks_are_seeded() -> None:
    first = poisson_disc_mask((40, 40), 4, 4, seed=1)
    np.testing.assert_array_equal(first, poisson_disc_mask((40, 40), 4, 4, seed=1))
    assert (first != poisson_disc_mask((40, 40), 4, 4, seed=2)).any()


@pytest.mark.parametrize("acceleration", [0.5, 30])
def test_an_impossible_acceleration_is_refused(acceleration: float) -> None:
    with pytest.raises(ParameterError, match="acceleration"):
        poisson_disc_mask((32, 32), acceleration, 10)


@pytest.mark.parametrize(("shape", "acceleration"), [((64, 64), 3), ((51, 80), 6)])
def test_stars_are_spokes_through_a_full_centre(shape: tuple[int, int], acceleration: float) -> None:
    mask = star_mask(shape, acceleration, 4, seed=1)
    assert mask.size / mask.sum() == pytest.approx(acceleration, rel=0.2)
    assert mask.size / mask.sum() >= acceleration
    y, x = (np.arange(n) - n // 2 for n in shape)
    radius = np.hypot(2 * y[:, None] / shape[0], 2 * x[None, :] / shape[1])
    inner, outer = (mask[(radius > low) & (radius <= low + 0.3)].mean() for low in (0.2, 0.6))
    assert inner / outer == pytest.approx(0.75 / 0.35, rel=0.25)  # as many samples on every ring
    np.testing.assert_array_equal(mask, star_mask(shape, acceleration, 4, seed=1))


def test_random_samples_are_rarer_outwards() -> None:
    mask = random_mask((96, 80), 5, calibration=8, seed=1)
    assert mask.sum() == round(96 * 80 / 5)
    y, x = np.ogrid[:96, :80]
    distance = np.hypot((y - 48) / 48, (x - 40) / 40)
    assert mask[np.hypot(y - 48, x - 40) <= 8].all()
    shares = [mask[(distance >= low) & (distance < low + 0.25)].mean() for low in (0.25, 0.5, 0.75)]
    assert shares[0] > 1.5 * shares[1] > 2 * shares[2]
    assert (mask != random_mask((96, 80), 5, calibration=8, seed=2)).any()
    with pytest.raises(ParameterError, match="calibration disc"):
        random_mask((32, 32), 8, calibration=16)
