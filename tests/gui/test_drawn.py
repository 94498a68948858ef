"""The drawn rectangle and the viewer's place, in voxels of a grid with three different spacings."""

import numpy as np
import pytest

from napari_unroll.gui.drawn import Rectangle
from napari_unroll.gui.viewpoint import Viewpoint
from napari_unroll.scan.geometry import VolumeGrid

GRID = VolumeGrid(shape=(8, 10, 12), spacing_mm=(2.0, 1.0, 0.5), center_mm=(3.0, 0.0, -1.0))


def test_a_rectangle_holds_the_voxels_that_it_was_put_around(model):
    rectangle = Rectangle(model, "region")
    assert rectangle.inside(GRID) is None
    told = []
    rectangle.show(GRID, slice(2, 5), slice(7, 12), lambda *_: told.append(True))
    assert rectangle.inside(GRID) == (slice(2, 5), slice(7, 12))
    rectangle.layer.data = [np.asarray(rectangle.layer.data[0]) + np.array([1.0, -0.5])]
    assert told
    assert rectangle.inside(GRID) == (slice(3, 6), slice(6, 11))
    rectangle.layer.data = [np.asarray(rectangle.layer.data[0]) + 1e3]
    assert rectangle.inside(GRID) == (slice(9, 10), slice(11, 12)), "never empty, never outside"


def test_there_is_one_rectangle_and_the_user_may_remove_it(model):
    rectangle = Rectangle(model, "region")
    for start in (0, 3):
        rectangle.show(GRID, slice(start, 5), slice(0, 4), lambda *_: None)
    assert len(model.layers) == 1
    model.layers.clear()
    assert rectangle.inside(GRID) is None
    rectangle.bring_to_front()
    rectangle.remove()


@pytest.mark.parametrize("index", [(0, 0, 0), (7, 9, 11), (3, 4, 5)])
def test_the_viewer_goes_to_a_voxel(model, index):
    model.add_image(np.zeros(GRID.shape), scale=GRID.spacing_mm, translate=GRID.origin_mm)
    view = Viewpoint(model)
    view.go_to(GRID, index)
    assert view.plane(GRID) == index[0]
    np.testing.assert_allclose(np.array(GRID.origin_mm) + np.array(index) * GRID.spacing_mm, model.dims.point)


def test_a_viewer_that_shows_another_place_means_the_middle(model):
    assert Viewpoint(model).plane(GRID) == 4
    model.add_image(np.zeros((4, 4, 4)), translate=(1e3, 0, 0))
    model.dims.set_point(0, 1e3)
    assert Viewpoint(model).plane(GRID) == 4
