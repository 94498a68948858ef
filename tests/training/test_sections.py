"""Images of single planes, of many kinds."""

import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms import HELD_OUT_SEED
from napari_unroll.training.objects import FIRST_HELD_OUT
from napari_unroll.training.sections import GENERATED, sections

GRID = VolumeGrid(shape=(1, 24, 30))


@pytest.fixture
def folder(tmp_path):
    """One volume in which nothing but its middle is bright."""
    volume = np.zeros((40, 40, 40), np.float32)
    volume[10:30, 10:30, 10:30] = np.random.default_rng(0).uniform(0.5, 1, (20, 20, 20))
    np.save(tmp_path / "cube.npy", volume)
    return tmp_path


def test_every_number_is_another_image():
    make = sections()
    images = [make(GRID, number) for number in range(6)]
    assert all(image.shape == GRID.shape and np.isfinite(image).all() for image in images)
    assert all(np.abs(image).max() == pytest.approx(1) for image in images)
    assert len({round(float(np.abs(image).mean()), 5) for image in images}) == 6
    np.testing.assert_array_equal(make(GRID, 3), images[3])


@pytest.mark.parametrize("kind", GENERATED)
def test_every_kind_shows_something(kind):
    image = kind(GRID, 5, np.random.default_rng(1))
    assert image.shape == GRID.shape
    assert np.mean(np.abs(image) > 0.05) > 0.05


def test_some_are_sections_of_volumes(folder):
    alone, beside = sections(), sections(str(folder))
    differ = [not np.array_equal(alone(GRID, number), beside(GRID, number)) for number in range(12)]
    assert 1 < sum(differ) < 9


def test_held_out_images_show_none_of_the_volumes(folder):
    alone, beside = sections(), sections(str(folder))
    for number in range(FIRST_HELD_OUT, FIRST_HELD_OUT + 3):
        np.testing.assert_array_equal(alone(GRID, number), beside(GRID, number))


def test_numbers_of_evaluations_are_refused():
    with pytest.raises(ParameterError, match="held out"):
        sections()(GRID, HELD_OUT_SEED)
