"""What is spared from garbage collection, and when no longer."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from napari_unroll.gui.session import session_of


@pytest.fixture
def viewer(make_napari_viewer):
    gc.unfreeze()
    return make_napari_viewer()


def test_what_exists_with_the_docks_is_spared_until_the_window_closes(viewer):
    session_of(viewer)
    assert gc.get_freeze_count() > 0
    viewer.window._qt_window.close()
    assert gc.get_freeze_count() == 0


def test_a_layer_that_was_there_before_ends_that_once_it_is_removed(viewer):
    data = np.zeros((4, 4, 4), np.float32)
    viewer.add_image(data)
    session_of(viewer)
    viewer.add_image(data)
    viewer.layers.pop()
    assert gc.get_freeze_count() > 0  # the later one is not concerned
    viewer.layers.clear()
    assert gc.get_freeze_count() == 0
