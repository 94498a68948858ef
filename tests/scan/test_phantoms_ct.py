import numpy as np
import pytest

from napari_unroll.scan.phantoms import FAMILIES, family_of, random_volume
from napari_unroll.scan.phantoms_ct import as_imaged, cut_out

families = pytest.mark.parametrize("family", FAMILIES)


@families
@pytest.mark.parametrize("shape", [(32, 32, 32), (17, 24, 31), (1, 40, 40)])
def test_attenuation_is_finite_positive_and_about_one(family: str, shape: tuple[int, int, int]) -> None:
    volume = FAMILIES[family](shape, 7)
    assert volume.shape == shape
    assert volume.dtype == np.float32
    assert np.isfinite(volume).all()
    assert volume.min() == 0
    assert 0.5 < volume.max() < 1.6


@families
def test_same_seed_same_object_and_other_seed_another(family: str) -> None:
    make = FAMILIES[family]
    first = make((24, 24, 24), 3)
    np.testing.assert_array_equal(first, make((24, 24, 24), 3))
    assert np.abs(first - make((24, 24, 24), 4)).max() > 0.2


@families
def test_objects_stay_inside_the_field_of_view(family: str) -> None:
    n = 48
    c = (2 * np.arange(n) + 1) / n - 1
    outside = (np.hypot(c[:, None], c[None, :]) > 0.99)[None] | (np.abs(c) > 0.99)[:, None, None]
    assert not FAMILIES[family]((n, n, n), 11)[outside].any()


@families
def test_a_finer_volume_is_the_same_object(family: str) -> None:
    coarse, fine = (FAMILIES[family]((n, n, n), 5) for n in (48, 96))
    averaged = fine.reshape(48, 2, 48, 2, 48, 2).mean((1, 3, 5))
    assert np.linalg.norm(coarse - averaged) < 0.16 * np.linalg.norm(averaged)


@families
def test_materials_are_not_piecewise_constant(family: str) -> None:
    volume = FAMILIES[family]((48, 48, 48), 2)
    inside = volume[:, :, 1:] > 0.1
    flat = np.abs(np.diff(volume, axis=2))[inside] < 1e-4
    assert flat.mean() < 0.05


def test_random_volumes_draw_every_family() -> None:
    drawn = [family_of(seed) for seed in range(200)]
    assert set(drawn) == set(FAMILIES)
    assert 0.3 < drawn.count("walnut") / 200 < 0.5


def test_some_random_volumes_look_as_imaged() -> None:
    plain = FAMILIES[family_of(3)]((24, 24, 24), 3)
    imaged = as_imaged(plain, 3)
    assert imaged.min() >= 0
    assert imaged.dtype == np.float32
    assert np.abs(imaged - plain).mean() > 0.01 * plain.mean()
    drawn = [np.array_equal(random_volume((8, 8, 8), s), FAMILIES[family_of(s)]((8, 8, 8), s)) for s in range(40)]
    assert 0.25 < np.mean(drawn) < 0.6


@families
def test_a_part_of_something_larger_fills_the_field_of_view(family: str) -> None:
    n = 32
    make = FAMILIES[family]
    part = cut_out(lambda shape: make(shape, 3), (n, n, n), 3)
    c = (2 * np.arange(n) + 1) / n - 1
    radius = np.hypot(c[:, None], c)
    assert part.shape == (n, n, n)
    assert part.dtype == np.float32
    assert not part[:, radius > 1].any()
    assert (part[0] > 0.05).mean() > 0.05  # the first plane cuts it
    assert (part[:, (radius > 0.85) & (radius < 0.95)] > 0.05).mean() > 0.2  # and so does the cylinder


def test_some_random_volumes_are_parts_of_something_larger() -> None:
    drawn = [random_volume((64, 8, 8), s)[0].any() for s in range(40)]
    assert 0.1 < np.mean(drawn) < 0.5
